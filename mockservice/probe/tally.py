"""The tally: what many results come to, in a size that does not grow with their headers."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

from mockservice.probe.consistency import Consistency
from mockservice.probe.result import (
    faults_of,
    losses_between,
    outline,
    own_durations,
    tells_headers,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mockservice.chain import Tree
    from mockservice.manifests.documents import Source
    from mockservice.probe.judge import Judge, Judgement, Leak
    from mockservice.probe.load import Result
    from mockservice.probe.result import Fault, Loss


@dataclass(slots=True)
class Seen:
    """The requests that one chain answered with one status."""

    lane: str | None
    """None: cannot be told."""
    failed: bool
    seconds: array[float] = field(default_factory=lambda: array("d"))


class Tally:
    """Counts results, each as a judge sees it."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.requests = 0
        self.answered = 0
        """Requests that at least one hop answered."""
        self.chains: dict[tuple[str, int | None], Seen] = {}
        """By the chain's outline and the status."""
        self.lanes: Counter[str] = Counter()
        """Requests by their lane, where it is known."""
        self.without_lane = 0
        """Requests that at least one hop answered, and whose lane cannot be told."""
        self.failed = 0
        """Requests that failed, and were not to: those with one of `faults`."""
        self.failed_untold = 0
        """Requests among them with a fault that no leak tells, as that of a missing hop does."""
        self.leaks: Counter[Leak] = Counter()
        """Requests by leak."""
        self.causes: Counter[tuple[str, str, Source | None]] = Counter()
        """Requests by cause of leaks, of which one may have several: see `Leak.cause`."""
        self.consistency = Consistency()
        self.open_ends: Counter[str] = Counter()
        """Requests by the app of a last hop, behind which a service answers that is no hop."""
        self.mixed: Counter[str] = Counter()
        """Requests by chain, of several versions, where nobody can tell a fallback from a leak."""
        self.owed_faults: Counter[Fault] = Counter()
        """Requests by fault that was to be: a strict lane has no pods there."""
        self.faults: Counter[Fault] = Counter()
        """Requests by any other fault; one may have several."""
        self.first: Counter[str] = Counter()
        """Requests by the app of the first hop that told its headers."""
        self.told: Counter[str] = Counter()
        """Requests by the apps of the hops that told their headers."""
        self.silent: Counter[str] = Counter()
        """Requests by the apps of the hops that did not: they know the text form only."""
        self.received: Counter[tuple[str, str]] = Counter()
        """Requests by app and header that it received and carries on."""
        self.received_first: Counter[str] = Counter()
        """Requests by header that the first hop received."""
        self.losses: Counter[Loss] = Counter()
        self.dropped: dict[tuple[str, str], None] = {}
        """Apps, and headers that they did not pass on and that no rule needs."""
        self.own_ms: dict[str, array[float]] = {}
        """Durations without the upstreams', in milliseconds, by app, of requests that did well."""

    def add(self, result: Result) -> None:
        """Count one result."""
        tree = result.chain.tree()
        faults = faults_of(result, self.judge.callee)
        judgement = self.judge.judge(result)
        drawn = outline(result)
        self.requests += 1
        self.answered += bool(tree.hops)
        key = (drawn, result.status)
        seen = self.chains.setdefault(key, Seen(judgement.lane, bool(faults)))
        seen.seconds.append(result.seconds)
        if judgement.lane is not None:
            self.lanes[judgement.lane] += 1
        else:
            self.without_lane += bool(tree.hops)
        # What several branches have in common counts once.
        leaks = dict.fromkeys(leak for _, leak in judgement.leaks)
        self.leaks.update(leaks.keys())
        self.causes.update({leak.cause for leak in leaks})
        self.consistency.add(tree, judgement.unjudged)
        open_ends = dict.fromkeys(
            tree.hops[end.last].app
            for place, end in enumerate(tree.ends)
            if end.last is not None and end.upstream_body is not None and place not in faults
        )
        self.open_ends.update(open_ends.keys())
        if judgement.is_mixed:
            self.mixed[drawn] += 1
        self._count_headers(tree)
        if faults:
            self._count_faults(faults, judgement)
            return
        for hop, duration in own_durations(tree):
            self.own_ms.setdefault(hop.app, array("d")).append(duration)

    def _count_faults(self, faults: Mapping[int, Fault], judgement: Judgement) -> None:
        owed = {place: faults[place] for place in faults.keys() & judgement.owed_faults}
        others = {place: fault for place, fault in faults.items() if place not in owed}
        self.owed_faults.update(set(owed.values()))
        self.faults.update(dict.fromkeys(others.values()).keys())
        self.failed += bool(others)
        self.failed_untold += not others.keys() <= judgement.told_faults

    def _count_headers(self, tree: Tree) -> None:
        hops = tree.hops
        # An app that a chain passes twice counts once; hops keep the order of the chain.
        told = dict.fromkeys(hop.app for hop in hops if tells_headers(hop))
        self.told.update(told.keys())
        self.silent.update(dict.fromkeys(hop.app for hop in hops if hop.app not in told).keys())
        self.received.update({(hop.app, name) for hop in hops for name in hop.lane_headers})
        if hops and tells_headers(hops[0]):
            self.first[hops[0].app] += 1
            self.received_first.update(hops[0].lane_headers.keys())
        losses: dict[Loss, None] = {}
        for taker, caller in zip(hops, tree.callers, strict=True):
            if caller is None or not (tells_headers(hops[caller]) and tells_headers(taker)):
                continue
            giver = hops[caller]
            for loss in losses_between(giver, taker):
                if self.judge.may_drop(giver, loss.header):
                    self.dropped[giver.app, loss.header] = None
                else:
                    losses[loss] = None
        self.losses.update(losses.keys())


def quantile(values: Sequence[float], part: float) -> float:
    """The least of the values that at least `part` of them do not exceed (nearest rank)."""
    return sorted(values)[max(0, ceil(len(values) * part) - 1)]
