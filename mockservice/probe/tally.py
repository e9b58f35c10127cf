"""The tally: what many results come to, in a size that does not grow with their headers."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

from mockservice.probe.consistency import Consistency
from mockservice.probe.result import (
    fault_of,
    losses_between,
    outline,
    own_durations,
    tells_headers,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mockservice.chain import Hop
    from mockservice.probe.judge import Judge, Leak
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
        self.leaks: Counter[Leak] = Counter()
        self.consistency = Consistency()
        self.open_ends: Counter[str] = Counter()
        """Requests by the app of the last hop, behind which a service answers that is no hop."""
        self.mixed: Counter[str] = Counter()
        """Requests by chain, of several versions, where nobody can tell a fallback from a leak."""
        self.owed_faults: Counter[Fault] = Counter()
        """Of requests that were to fail: a strict lane has no pods there."""
        self.faults: Counter[Fault] = Counter()
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
        self.own_ms: dict[str, array[float]] = {}
        """Durations without the next hop's, in milliseconds, by app, of requests that did well."""

    def add(self, result: Result) -> None:
        """Count one result."""
        hops = result.chain.hops
        fault = fault_of(result)
        judgement = self.judge.judge(result)
        drawn = outline(result)
        self.requests += 1
        self.answered += bool(hops)
        key = (drawn, result.status)
        seen = self.chains.setdefault(key, Seen(judgement.lane, fault is not None))
        seen.seconds.append(result.seconds)
        if judgement.lane is not None:
            self.lanes[judgement.lane] += 1
        else:
            self.without_lane += bool(hops)
        self.leaks.update(leak for _, leak in judgement.leaks)
        self.consistency.add(hops, judgement.unjudged)
        if hops and fault is None and result.chain.upstream_body is not None:
            self.open_ends[hops[-1].app] += 1
        if judgement.is_mixed:
            self.mixed[drawn] += 1
        self._count_headers(hops)
        if fault is not None:
            faults = self.owed_faults if judgement.may_fail else self.faults
            faults[fault] += 1
            return
        for hop, duration in own_durations(hops):
            self.own_ms.setdefault(hop.app, array("d")).append(duration)

    def _count_headers(self, hops: Sequence[Hop]) -> None:
        # An app that a chain passes twice counts once; hops keep the order of the chain.
        told = dict.fromkeys(hop.app for hop in hops if tells_headers(hop))
        self.told.update(told.keys())
        self.silent.update(dict.fromkeys(hop.app for hop in hops if hop.app not in told).keys())
        self.received.update({(hop.app, name) for hop in hops for name in hop.lane_headers})
        if hops and tells_headers(hops[0]):
            self.first[hops[0].app] += 1
            self.received_first.update(hops[0].lane_headers.keys())
        for giver, taker in pairwise(hops):
            if tells_headers(giver) and tells_headers(taker):
                self.losses.update(losses_between(giver, taker))


def quantile(values: Sequence[float], part: float) -> float:
    """The least of the values that at least `part` of them do not exceed (nearest rank)."""
    return sorted(values)[max(0, ceil(len(values) * part) - 1)]
