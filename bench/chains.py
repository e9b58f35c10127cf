"""The chain of a contender: mock1 -> mock2 -> mock3, each hop a process, all on one core."""

from __future__ import annotations

import os
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.contenders import Contender, tracing_env

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from bench.processes import Running
    from bench.run import Run

START_TIMEOUT: Final = 60.0
VERSION: Final = "v1"
LENGTH: Final = 3
"""The default number of hops in a chain."""
PORT: Final = 8700

# A request as a gateway with tracing and lanes sends it.
HEADERS: Final = {
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "mesh=t61rcWkgMzE",
    "baggage": "version=v2,userId=alice",
    "x-request-id": "5f1b2c77-3f5e-4b0a-9c59-0d6a9d0f3f3e",
    "x-asm-prefer-tag": "v2",
}
# The same, not sampled, so that asking whether a chain is up adds no spans.
_UNSAMPLED: Final = HEADERS | {"traceparent": HEADERS["traceparent"].removesuffix("01") + "00"}


@dataclass(frozen=True, slots=True)
class RunningHop:
    """One hop: its process, its URL, and its part of the chain."""

    process: Running
    url: str
    line: str


@dataclass(frozen=True, slots=True)
class RunningChain:
    """The hops of a chain, in call order."""

    contender: Contender
    hops: Sequence[RunningHop]

    @property
    def url(self) -> str:
        """The URL of the first hop."""
        return self.hops[0].url

    @property
    def answer(self) -> str:
        """The expected answer of the chain."""
        return "".join(hop.line for hop in self.hops)

    def answers(self) -> bool:
        """Whether all hops answer."""
        return fetch(self.url, _UNSAMPLED) == self.answer

    def last(self, length: int) -> RunningChain:
        """The chain of its last `length` hops."""
        return RunningChain(self.contender, self.hops[-length:])

    def cpu_time(self) -> float:
        """CPU time of all hops so far, in seconds."""
        return sum(sum(hop.process.cpu_times().values()) for hop in self.hops)

    def memory_per_hop(self) -> float:
        """The mean resident set size of the hops, in MiB."""
        return sum(hop.process.resident_memory() for hop in self.hops) / len(self.hops) / 2**20


@dataclass(frozen=True, slots=True)
class RunningTree(RunningChain):
    """A hop, and the upstreams that it calls at the same time."""

    @property
    def answer(self) -> str:
        """The expected answer."""
        first, *leaves = (hop.line for hop in self.hops)
        return first + (leaves[0] if len(leaves) == 1 else f"[{'; '.join(leaves)}]")

    def cpu_time(self) -> float:
        """CPU time of the first hop so far, in seconds."""
        return sum(self.hops[0].process.cpu_times().values())


def start(
    run: Run,
    contender: Contender,
    number: int = 1,
    *,
    length: int = LENGTH,
    first: int = 1,
    cores: Collection[int] | None = None,
    receiver: str = "",
    settings: Mapping[str, str] | None = None,
    together: bool = False,
) -> RunningChain:
    """Start the hops of a chain, on loopback addresses of their own.

    Args:
        run: this run.
        contender: whose hops.
        number: the address range, which several chains may share.
        length: the number of hops.
        first: the number of the first hop's address in the range.
        cores: where they run (default: all on the hops' core).
        receiver: a traced contender exports its spans to the path `number` below this URL.
        settings: more environment variables of the hops.
        together: whether all hops share one session, as a shell starts them. If not, each has its
            own, so that Linux schedules it as a group of its own (sched(7), "The autogroup
            feature"), as it does with a pod.
    """
    places = range(first, first + length)
    hops: list[RunningHop] = []
    for place in reversed(places):
        env = dict(settings or {})
        if contender.traced:
            env |= tracing_env(_app(place), f"{receiver}{number}")
        upstreams = [hops[0].url] if hops else []
        on = cores or [run.hop_core]
        hop = _start_hop(run, contender, number, place, upstreams, on, env, together=together)
        hops.insert(0, hop)
    return RunningChain(contender, hops)


def start_tree(run: Run, contender: Contender, number: int, upstreams: int) -> RunningTree:
    """Start a hop with so many upstreams. They run on the load's core, the hop on its own."""
    leaves = [
        _start_hop(run, contender, number, place, [], [run.load_core], {})
        for place in range(2, 2 + upstreams)
    ]
    urls = [leaf.url for leaf in leaves]
    return RunningTree(
        contender, [_start_hop(run, contender, number, 1, urls, [run.hop_core], {}), *leaves]
    )


def _app(place: int) -> str:
    return f"mock{place}"


def _start_hop(
    run: Run,
    contender: Contender,
    number: int,
    place: int,
    upstreams: Sequence[str],
    cores: Collection[int],
    settings: Mapping[str, str],
    *,
    together: bool = False,
) -> RunningHop:
    app, address = _app(place), f"127.70.{number}.{place}"
    env = {
        "PATH": os.environ["PATH"],
        "app": app,
        "version": VERSION,
        "host": address,
        "port": str(PORT),
        "upstream_url": ",".join(upstreams),
        **contender.env,
        **settings,
    }
    process = run.processes.start(
        f"{contender.name}, {app}", contender.command, cores, env, own_session=not together
    )
    return RunningHop(process, f"http://{address}:{PORT}/", contender.line.format_map(env))


def wait(run: Run, chains: Iterable[RunningChain]) -> None:
    """Wait until all of `chains` give the expected answer.

    Raises:
        BenchError: one does not, within `START_TIMEOUT`.
    """
    for chain in chains:
        name = f"{chain.contender.name}: the chain's answer"
        run.processes.wait_until(chain.answers, START_TIMEOUT, name)


def stop(run: Run, chains: Iterable[RunningChain]) -> None:
    """Stop all of `chains`. They flush their spans."""
    run.processes.stop([hop.process for chain in chains for hop in chain.hops])


def fetch(url: str, headers: Mapping[str, str]) -> str | None:
    """The body of a 200 answer; None for any other answer or without one."""
    # Ignore proxies in the environment.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=5) as response:
            body: bytes = response.read()
            return body.decode()
    except OSError:
        return None
