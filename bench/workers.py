"""The last hop of a chain with two worker processes on two cores, against one process."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from bench import chains, markdown
from bench.contenders import MOCKSERVICE
from bench.load import measure
from bench.reach import Goal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.chains import RunningChain
    from bench.run import Run

_WORKERS: Final = (1, 2)
_CONNECTIONS: Final = 64
"""Enough for the kernel to spread them evenly over both processes."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One load."""

    requests_per_second: float
    share: float
    """The busiest process's share of the CPU time of all processes."""
    capacity: float
    """Requests per second of CPU time of the busiest process."""


@dataclass(frozen=True, slots=True)
class Workers:
    """The rounds by number of processes."""

    seconds: int
    rounds: Mapping[int, Sequence[Measured]]

    def goal(self) -> Goal:
        """Two processes against one."""
        pairs = zip(self.rounds[2], self.rounds[1], strict=True)
        return Goal(
            "two processes on two cores, against one: requests per CPU second of the busiest",
            median(two.capacity / one.capacity for two, one in pairs),
            1.8,
            at_least=True,
        )

    def section(self) -> str:
        """The table, and how it was measured."""
        rows = [
            [
                "processes",
                "requests/s",
                "busiest one's share of CPU time",
                "requests per CPU second of the busiest",
            ]
        ]
        for workers, rounds in self.rounds.items():
            rows.append(
                [
                    f"{workers}",
                    f"{median(measured.requests_per_second for measured in rounds):,.0f}",
                    f"{median(measured.share for measured in rounds):.0%}",
                    f"{median(measured.capacity for measured in rounds):,.0f}",
                ]
            )
        count = markdown.count(len(self.rounds[1]), "interleaved round")
        text = f"""
            One hop without an upstream, `workers=1` and `workers=2`, wrk with {_CONNECTIONS}
            connections; medians over {count} of {self.seconds} s each. The hop and wrk share both
            cores, so requests/s say little about two processes. The last column is compared: the
            requests per second if the busiest process had a core of its own. It includes the
            overhead of the second process and the uneven spread of connections by the kernel, but
            not effects of two cores that run nothing but the hop."""
        return f"## Two processes\n\n{markdown.table(rows, left=0)}\n\n{markdown.paragraph(text)}"


def measure_workers(run: Run) -> Workers:
    """Load the hop with one and with two processes, in turn."""
    rounds, seconds = run.size(5, 1), run.size(2, 1)
    both = [run.hop_core, run.load_core]
    running = {
        workers: chains.start(
            run, MOCKSERVICE, workers, length=1, cores=both, settings={"workers": str(workers)}
        )
        for workers in _WORKERS
    }
    chains.wait(run, running.values())
    measured: dict[int, list[Measured]] = {workers: [] for workers in running}
    for number in range(1, rounds + 1):
        for workers, chain in running.items():
            run.tell(f"processes, round {number} of {rounds}: {workers}")
            measured[workers].append(_measure(run, chain, seconds, both))
    chains.stop(run, running.values())
    return Workers(seconds, measured)


def _measure(run: Run, chain: RunningChain, seconds: int, cores: Sequence[int]) -> Measured:
    process = chain.hops[0].process
    before = process.cpu_times()
    measurement = measure(run, chain, seconds, connections=_CONNECTIONS, cores=cores)
    spent = [after - before[pid] for pid, after in process.cpu_times().items()]
    return Measured(
        requests_per_second=measurement.requests_per_second,
        share=max(spent) / sum(spent),
        capacity=measurement.requests / max(spent),
    )
