"""CPU time per request by hops of the chain, and by lane headers: does it grow linearly?"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from bench import chains, markdown
from bench.contenders import GO, MOCKSERVICE
from bench.load import CONNECTIONS, measure, measure_steadily
from bench.reach import Goal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.chains import RunningChain
    from bench.run import Run

TOLERANCE: Final = 0.1
"""The greatest deviation from a straight line that counts as linear, relative to the line."""
_RATE: Final = 150.0
"""Requests per second for each hop, whatever the length of its chain."""
_STEADY_CONNECTIONS: Final = 60
_HEADERS: Final = (5, 20, 35, 50)


@dataclass(frozen=True, slots=True)
class Line:
    """Points, and their deviations from a straight line."""

    points: Mapping[int, float]

    def deviations(self) -> dict[int, float]:
        """The deviation of each point from the fitted line, relative to the line, by x.

        The fit minimizes the squares of the relative residuals, as the points range over orders of
        magnitude, and small ones count as much as large ones.
        """
        weights = {x: 1 / y**2 for x, y in self.points.items()}
        total = sum(weights.values())
        mean_x = sum(weights[x] * x for x in self.points) / total
        mean_y = sum(weights[x] * y for x, y in self.points.items()) / total
        slope = sum(weights[x] * (x - mean_x) * (y - mean_y) for x, y in self.points.items()) / sum(
            weights[x] * (x - mean_x) ** 2 for x in self.points
        )
        line = {x: mean_y + slope * (x - mean_x) for x in self.points}
        return {x: y / line[x] - 1 for x, y in self.points.items()}

    def goal(self, what: str) -> Goal:
        """The greatest deviation."""
        return Goal(what, max(map(abs, self.deviations().values())), TOLERANCE, percent=True)


@dataclass(frozen=True, slots=True)
class Growth:
    """CPU time per request, of all hops together, in microseconds."""

    rounds: int
    by_length: Line
    """By hops of the chain, with the same number of busy hops in all cases."""
    alone: Mapping[int, float]
    """By hops of the chain, with no other chain busy."""
    go_alone: Mapping[int, float]
    """The same for the reference."""
    by_headers: Line
    """By lane headers of the request."""

    def goals(self) -> list[Goal]:
        """The goals for both lines."""
        lengths = " -> ".join(map(str, self.by_length.points))
        headers = f"{_HEADERS[0]} -> {_HEADERS[-1]}"
        return [
            self.by_length.goal(
                f"CPU time as the chain grows {lengths} hops: greatest deviation from a line"
            ),
            self.by_headers.goal(
                f"CPU time as lane headers grow {headers}: greatest deviation from a line"
            ),
        ]

    def section(self) -> str:
        """Both tables and how they were measured."""
        total = max(self.by_length.points)
        off = self.by_length.deviations()
        rows = [
            (
                "hops",
                "CPU µs/request",
                "and hop",
                "off the line",
                "alone: CPU µs/request",
                "and hop",
                f"{GO.name}, alone: and hop",
            )
        ]
        for length, cost in self.by_length.points.items():
            alone, go_alone = self.alone[length], self.go_alone[length]
            rows.append(
                (
                    f"{length}",
                    f"{cost:,.0f}",
                    f"{cost / length:.1f}",
                    f"{off[length]:+.1%}",
                    f"{alone:,.0f}",
                    f"{alone / length:.1f}",
                    f"{go_alone / length:.1f}",
                )
            )
        text = f"""
            All rows keep {total} hops busy, each with {_RATE:g} requests per second: {total} chains
            of one hop in the first row, one chain of {total} hops in the last. So only the length
            of the chain changes, and not the number of processes on the core. *Alone* is one chain
            at its peak rate, with {CONNECTIONS} connections: the longer it is, the more processes
            share the core's caches, and the fewer requests wait for each of them. The chain in Go
            shows the same. The hop of the first row takes less CPU time, as it has no upstream.
            *Off the line* is the deviation from a straight line, fitted by least squares of the
            relative residuals. Up to {TOLERANCE:.0%} counts as linear."""
        off = self.by_headers.deviations()
        headers = [["lane headers", "CPU µs/request", "and hop", "off the line"]]
        for count, cost in self.by_headers.points.items():
            per_hop = cost / chains.LENGTH
            headers.append([f"{count}", f"{cost:,.1f}", f"{per_hop:.1f}", f"{off[count]:+.1%}"])
        rounds = markdown.count(self.rounds, "interleaved round")
        more = f"""
            Three hops at their peak rate, {CONNECTIONS} connections. Medians over {rounds} in both
            tables, except for *alone*."""
        return "\n\n".join(
            [
                "## Growth",
                markdown.table(rows, left=0),
                markdown.paragraph(text),
                markdown.table(headers, left=0),
                markdown.paragraph(more),
            ]
        )


def measure_growth(run: Run) -> Growth:
    """Load chains of several lengths, then one chain with several numbers of lane headers."""
    rounds = run.size(5, 1)
    lengths = run.size((1, 3, 10, 30), (1, 2, 4))
    by_length, alone, go_alone = _by_length(run, rounds, lengths)
    by_headers = _by_headers(run, rounds)
    return Growth(rounds, Line(by_length), alone, go_alone, Line(by_headers))


def _by_length(
    run: Run, rounds: int, lengths: Sequence[int]
) -> tuple[dict[int, float], dict[int, float], dict[int, float]]:
    """CPU time by length: with all hops busy, alone, and for the reference alone."""
    total = lengths[-1]
    run.tell(f"growth: starting {total} hops for each length of the chain")
    all_busy: dict[int, list[RunningChain]] = {}
    for number, length in enumerate(lengths, 1):
        all_busy[length] = [
            chains.start(run, MOCKSERVICE, number, length=length, first=first)
            for first in range(1, total + 1, length)
        ]
    longest = all_busy[total][0]
    go_longest = chains.start(run, GO, len(lengths) + 1, length=total)
    running = [chain for group in all_busy.values() for chain in group] + [go_longest]
    chains.wait(run, running)
    by_length: dict[int, list[float]] = {length: [] for length in lengths}
    for number in range(1, rounds + 1):
        for length in lengths:
            run.tell(f"growth, round {number} of {rounds}: {markdown.count(length, 'hop')}")
            group = all_busy[length]
            rate = _RATE * len(group)
            steady = measure_steadily(run, group, rate, run.size(2.0, 1.0), _STEADY_CONNECTIONS)
            by_length[length].append(steady.cpu_per_request)
    run.tell("growth: one chain alone")
    alone, go_alone = (
        {length: measure(run, chain.last(length), 1).cpu_per_request for length in lengths}
        for chain in (longest, go_longest)
    )
    chains.stop(run, running)
    return _medians(by_length), alone, go_alone


def _by_headers(run: Run, rounds: int) -> dict[int, float]:
    """CPU time by lane headers."""
    chain = chains.start(run, MOCKSERVICE, settings={"lane_headers": "x-tag-*"})
    chains.wait(run, [chain])
    costs: dict[int, list[float]] = {count: [] for count in _HEADERS}
    for number in range(1, rounds + 1):
        for count in _HEADERS:
            run.tell(f"growth, round {number} of {rounds}: {count} lane headers")
            more = range(1, count + 1 - len(chains.HEADERS))
            headers = chains.HEADERS | {f"x-tag-{tag}": f"value-{tag}" for tag in more}
            costs[count].append(measure(run, chain, 1, headers=headers).cpu_per_request)
    chains.stop(run, [chain])
    return _medians(costs)


def _medians(values: Mapping[int, Sequence[float]]) -> dict[int, float]:
    return {x: median(of_rounds) for x, of_rounds in values.items()}
