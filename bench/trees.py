"""A hop with several upstreams: what a request costs it, beside one with a single upstream."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from bench import chains, markdown
from bench.contenders import GO_TIMEOUT as GO
from bench.contenders import MOCKSERVICE, Contender
from bench.load import CONNECTIONS, measure
from bench.reach import Goal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.run import Run

_UPSTREAMS: Final = (1, 4)
_WARM_UP_SECONDS: Final = 1


@dataclass(frozen=True, slots=True)
class Trees:
    """CPU time of the calling hop."""

    seconds: int
    costs: Mapping[tuple[Contender, int], Sequence[float]]
    """By contender and number of upstreams, for each round: microseconds a request."""

    def ratio(self, contender: Contender) -> float:
        """The cost with four upstreams against the cost with one, the median of all rounds."""
        one, four = (self.costs[contender, upstreams] for upstreams in _UPSTREAMS)
        return median(many / single for single, many in zip(one, four, strict=True))

    def goal(self) -> Goal:
        """The ratio of the hop."""
        what = "CPU time a request of a hop with four upstreams, against one with a single upstream"
        return Goal(what, self.ratio(MOCKSERVICE), 3.2)

    def section(self) -> str:
        """The table, and how it was measured."""
        rows = [["calling hop", "one upstream, µs", "four upstreams, µs", "ratio"]]
        for contender in (GO, MOCKSERVICE):
            costs = [median(self.costs[contender, upstreams]) for upstreams in _UPSTREAMS]
            ratio = f"{self.ratio(contender):.2f}"
            rows.append([contender.name, *(f"{cost:.0f}" for cost in costs), ratio])
        rounds = markdown.count(len(next(iter(self.costs.values()))), "interleaved round")
        text = f"""
            CPU time of the calling hop a request, which calls its upstreams at the same time, and
            the ratio: medians over {rounds} of {self.seconds} s each. The hop has a core for
            itself; its upstreams, of its own kind, share the other one with wrk, which has
            {CONNECTIONS} connections."""
        return f"## Several upstreams\n\n{markdown.table(rows)}\n\n{markdown.paragraph(text)}"


def measure_trees(run: Run) -> Trees:
    """Load all trees in turn, round by round."""
    rounds, seconds = run.size(5, 1), run.size(2, 1)
    kinds = [(contender, upstreams) for contender in (GO, MOCKSERVICE) for upstreams in _UPSTREAMS]
    trees = [
        chains.start_tree(run, contender, number, upstreams)
        for number, (contender, upstreams) in enumerate(kinds, 1)
    ]
    chains.wait(run, trees)
    costs: dict[tuple[Contender, int], list[float]] = {kind: [] for kind in kinds}
    for number in range(1, rounds + 1):
        for (contender, upstreams), tree in zip(kinds, trees, strict=True):
            calls = markdown.count(upstreams, "upstream")
            run.tell(f"trees, round {number} of {rounds}: {contender.name}, {calls}")
            measure(run, tree, _WARM_UP_SECONDS)
            measured = measure(run, tree, seconds)
            costs[contender, upstreams].append(measured.cpu_per_request)
    chains.stop(run, trees)
    return Trees(seconds, costs)
