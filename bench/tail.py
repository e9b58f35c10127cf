"""Latency at a constant rate: half of the peak rate of the chain in Go."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from bench import chains, markdown
from bench.contenders import AIOHTTP, GO, MOCKSERVICE, MOCKSERVICE_COMPILED, Contender
from bench.load import CONNECTIONS, SteadyMeasurement, measure_steadily
from bench.reach import Goal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.run import Run
    from bench.throughput import Throughput

_CONTENDERS: Final = (GO, MOCKSERVICE, MOCKSERVICE_COMPILED, AIOHTTP)
_WARM_UP_SECONDS: Final = 0.3


@dataclass(frozen=True, slots=True)
class Tail:
    """The rounds of all contenders at one rate."""

    rate: float
    """Requests per second."""
    seconds: float
    rounds: Mapping[Contender, Sequence[SteadyMeasurement]]
    """Empty for a contender that cannot sustain the rate."""

    def goals(self) -> list[Goal]:
        """The p99 against Go's, plain and compiled."""
        what = "p99 at half of the Go chain's peak rate, against the Go chain's"
        return [
            Goal(what, self._against_go(MOCKSERVICE), 0.7),
            Goal(f"compiled: {what}", self._against_go(MOCKSERVICE_COMPILED), 0.7),
        ]

    def _against_go(self, contender: Contender) -> float:
        pairs = zip(self.rounds[contender], self.rounds[GO], strict=True)
        return median(own.p99 / others.p99 for own, others in pairs)

    def section(self) -> str:
        """The table, and how it was measured."""
        rows = [[f"{self.rate:,.0f} requests/s", "p50 ms", "p99 ms", "longest ms"]]
        for contender, rounds in self.rounds.items():
            values = [
                [measurement.p50 for measurement in rounds],
                [measurement.p99 for measurement in rounds],
                [measurement.longest for measurement in rounds],
            ]
            cells = (f"{median(value):.2f}" if value else "cannot" for value in values)
            rows.append([contender.name, *cells])
        count = markdown.count(len(self.rounds[GO]), "interleaved round")
        text = f"""
            The same constant rate for all, half of the Go chain's peak rate above, over
            {CONNECTIONS} connections; medians over {count} of {self.seconds:g} s each. Requests are
            sent on schedule, even if earlier ones are not answered, and latency counts from the
            scheduled time. *Cannot*: the peak rate is lower."""
        return f"## At a constant rate\n\n{markdown.table(rows)}\n\n{markdown.paragraph(text)}"


def measure_tail(run: Run, throughput: Throughput) -> Tail:
    """Load the chains with half of the reference's peak rate, if they can sustain it."""
    # A machine that halts for a moment spoils a round: many short ones tell more than a few.
    rounds, seconds = run.size(21, 1), 1.0
    rate = throughput.peak / 2
    running = [
        chains.start(run, contender, number)
        for number, contender in enumerate(_CONTENDERS, 1)
        if contender is not AIOHTTP
        or throughput.apart[contender].median("requests_per_second") > rate
    ]
    chains.wait(run, running)
    measured: dict[Contender, list[SteadyMeasurement]] = {name: [] for name in _CONTENDERS}
    for number in range(1, rounds + 1):
        for chain in running:
            run.tell(f"constant rate, round {number} of {rounds}: {chain.contender.name}")
            measure_steadily(run, [chain], rate, _WARM_UP_SECONDS, CONNECTIONS)
            measurement = measure_steadily(run, [chain], rate, seconds, CONNECTIONS)
            measured[chain.contender].append(measurement)
    chains.stop(run, running)
    return Tail(rate, seconds, measured)
