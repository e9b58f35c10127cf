"""Resident memory after many requests: does the hop leak?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench import chains, markdown
from bench.contenders import BARE, HELLO, MOCKSERVICE, MOCKSERVICE_COMPILED, MOCKSERVICE_TRACED
from bench.load import CONNECTIONS, measure
from bench.reach import Goal
from bench.spans import Receiver

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
    traced: float
    """The same, traced."""
    compiled: float
    """The same, compiled and not traced."""
    bare: float
    """The same, of bare hops."""
    hello: float

    def goals(self) -> list[Goal]:
        """The hop, traced or not."""
        after = f"resident memory per hop after {self.requests:,} requests, MiB"
        return [Goal(after, self.hop, 22.0), Goal(f"{after}: traced", self.traced, 32.0)]

    def section(self) -> str:
        """The numbers, and how they were measured."""
        text = f"""
            After at least {self.requests:,} requests over {CONNECTIONS} connections, a hop has
            {self.hop:.1f} MiB of resident memory, the mean of the chain's three, and traced
            {self.traced:.1f} MiB; compiled and not traced it has {self.compiled:.1f} MiB. A bare
            hop on uvloop and httptools (`bench/bare_hop.py`) has {self.bare:.1f} MiB, and a bare
            aiohttp + uvloop server that says "hello" (`bench/hello.py`) {self.hello:.1f} MiB."""
        return f"## Memory\n\n{markdown.paragraph(text)}"


def measure_memory(run: Run) -> Memory:
    """Send the requests to new chains and to a new bare server, and compare their memory."""
    requests = run.size(100_000, 10_000)
    receiver = Receiver(run)
    started = [
        chains.start(run, MOCKSERVICE, 1),
        chains.start(run, MOCKSERVICE_TRACED, 2, receiver=receiver.url),
        chains.start(run, MOCKSERVICE_COMPILED, 3),
        chains.start(run, BARE, 4),
        chains.start(run, HELLO, 5, length=1),
    ]
    chains.wait(run, started)
    memory = Memory(requests, *(_after(run, chain, requests) for chain in started))
    chains.stop(run, started)
    receiver.stop()
    return memory


def _after(run: Run, chain: RunningChain, requests: int) -> float:
    run.tell(f"memory after {requests:,} requests: {chain.contender.name}")
    while requests > 0:
        measurement = measure(run, chain, _SECONDS)
        requests -= measurement.requests
    return measurement.memory_per_hop
