"""Resident memory after many requests: does the hop leak?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench import chains, markdown
from bench.contenders import HELLO, MOCKSERVICE
from bench.load import CONNECTIONS, measure
from bench.reach import Goal

if TYPE_CHECKING:
    from bench.chains import RunningChain
    from bench.run import Run

_SECONDS: Final = 1


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident set sizes in MiB."""

    requests: int
    """Answered requests, at least."""
    hop: float
    """The mean of three hops."""
    hello: float

    def goal(self) -> Goal:
        """The hop against the bare server."""
        return Goal(
            f"resident memory per hop after {self.requests:,} requests, against a bare aiohttp + "
            "uvloop server's",
            self.hop / self.hello,
            1.0,
        )

    def section(self) -> str:
        """The numbers, and how they were measured."""
        text = f"""
            After at least {self.requests:,} requests over {CONNECTIONS} connections, a hop has
            {self.hop:.1f} MiB of resident memory, the mean of the chain's three; a bare aiohttp +
            uvloop server that says "hello" (`bench/hello.py`) has {self.hello:.1f} MiB."""
        return f"## Memory\n\n{markdown.paragraph(text)}"


def measure_memory(run: Run) -> Memory:
    """Send the requests to a new chain and to a new bare server, and compare their memory."""
    requests = run.size(100_000, 10_000)
    chain = chains.start(run, MOCKSERVICE, 1)
    hello = chains.start(run, HELLO, 2, length=1)
    chains.wait(run, [chain, hello])
    memory = Memory(requests, _after(run, chain, requests), _after(run, hello, requests))
    chains.stop(run, [chain, hello])
    return memory


def _after(run: Run, chain: RunningChain, requests: int) -> float:
    run.tell(f"memory after {requests:,} requests: {chain.contender.name}")
    while requests > 0:
        measurement = measure(run, chain, _SECONDS)
        requests -= measurement.requests
    return measurement.memory_per_hop
