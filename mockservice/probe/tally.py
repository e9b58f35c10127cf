"""The tally: what many results come to, in a size that does not grow with their headers."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from math import ceil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mockservice.chain import Hop
    from mockservice.probe.load import Result

GATEWAY: Final = "gateway"
"""What failed where no hop has answered."""

MAX_REASON: Final = 200
"""Characters of a reason that are kept."""

_MAX_DURATION_MS: Final = 1e9


@dataclass(frozen=True, slots=True)
class Leak:
    """A chain that left its lane."""

    lane: str
    app: str
    """The first hop that left the lane."""
    version: str
    chain: str


@dataclass(frozen=True, slots=True)
class Loss:
    """A header that a hop received, and the next one did not, or not with the same value."""

    header: str
    giver: str
    giver_version: str
    taker: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Fault:
    """How a request failed."""

    status: int | None
    """None: no answer came back."""
    hop: str
    """The hop that failed, or `GATEWAY`."""
    reason: str


@dataclass(slots=True)
class Seen:
    """The requests that one chain answered with one status."""

    lane: str | None
    """None: cannot be told."""
    failed: bool
    seconds: array[float] = field(default_factory=lambda: array("d"))


class Tally:
    """Counts results. Lanes are strict without a `baseline`, permissive with it."""

    def __init__(self, baseline: str | None = None) -> None:
        self.baseline = baseline
        self.requests = 0
        self.answered = 0
        """Requests that at least one hop answered."""
        self.chains: dict[tuple[str, int | None], Seen] = {}
        """By the chain's outline and the status."""
        self.lanes: Counter[str] = Counter()
        """Requests by their lane, where it is known."""
        self.leaks: Counter[Leak] = Counter()
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
        lane = lane_of(hops, self.baseline, failed=fault is not None)
        drawn = outline(result)
        self.requests += 1
        self.answered += bool(hops)
        seen = self.chains.setdefault((drawn, result.status), Seen(lane, fault is not None))
        seen.seconds.append(result.seconds)
        if lane is not None:
            self.lanes[lane] += 1
        left = leaving_hop(hops, self.baseline)
        if left is not None:
            start = next(hop for hop in hops if hop.version != self.baseline)
            self.leaks[Leak(start.version, left.app, left.version, drawn)] += 1
        self._count_headers(hops)
        if fault is not None:
            self.faults[fault] += 1
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


def outline(result: Result) -> str:
    """The chain without what differs from request to request: addresses and reasons."""
    chain = result.chain
    if result.status is None:
        return "(no answer)"
    parts = [f"{hop.app}({hop.version})" for hop in chain.hops]
    if chain.error is not None:
        parts.append(f"{chain.error.hop}({chain.error.kind})")
    elif chain.upstream_body is not None or not parts:
        parts.append("(no hop)")
    return " -> ".join(parts)


def lane_of(hops: Sequence[Hop], baseline: str | None, failed: bool) -> str | None:
    """The lane of a request: the first hop's version or, with a baseline, the one that is another.

    None where that cannot be told: without a hop, with more than one such version, and, with a
    baseline, from a chain of it that failed before a hop could be of another lane.
    """
    if not hops:
        return None
    if baseline is None:
        return hops[0].version
    others = {hop.version for hop in hops} - {baseline}
    if not others:
        return None if failed else baseline
    return others.pop() if len(others) == 1 else None


def leaving_hop(hops: Sequence[Hop], baseline: str | None) -> Hop | None:
    """The first hop that left the lane of its request; with a baseline that one is no other."""
    versions = [hop for hop in hops if baseline is None or hop.version != baseline]
    return next((hop for hop in versions if hop.version != versions[0].version), None)


def fault_of(result: Result) -> Fault | None:
    """How the request failed, if it did."""
    chain, status = result.chain, result.status
    if status is None:
        return Fault(None, GATEWAY, result.error or "no answer")
    if chain.error is not None:
        error = chain.error
        return Fault(status, error.hop, f"{error.kind}: {error.reason}"[:MAX_REASON])
    body = " ".join((chain.upstream_body or "").split())[:MAX_REASON]
    if not chain.hops:
        return Fault(status, GATEWAY, f"no chain in the answer: {body}".removesuffix(": "))
    if status < 300:
        return None
    last = chain.hops[-1].app
    if chain.upstream_body is None:
        return Fault(status, last, "answered with this status")
    return Fault(status, f"{last}'s upstream", body or "no chain in the answer")


def own_durations(hops: Sequence[Hop]) -> Iterator[tuple[Hop, float]]:
    """The hops that told their duration, each with it less the next hop's, in milliseconds."""
    for hop, following in zip_longest(hops, hops[1:]):
        whole = hop.duration_ms
        less = 0.0 if following is None else following.duration_ms
        # Anyone may be at the other end: neither infinities nor what is no number.
        if whole is None or less is None or not 0 <= less <= _MAX_DURATION_MS:
            continue
        if 0 <= whole <= _MAX_DURATION_MS:
            yield hop, max(0.0, whole - less)


def tells_headers(hop: Hop) -> bool:
    """Whether the hop answered in the JSON form."""
    return hop.status is not None or hop.duration_ms is not None or bool(hop.lane_headers)


def losses_between(giver: Hop, taker: Hop) -> Iterator[Loss]:
    """The headers that got lost between two hops that follow each other."""
    for name, value in giver.lane_headers.items():
        other = taker.lane_headers.get(name)
        if other is None and name in _MAY_END:
            continue
        if other is None or _identity(name, value) != _identity(name, other):
            yield Loss(name, giver.app, giver.version, taker.app, changed=other is not None)


# Tracing writes these anew at each hop, and leaves out some.
_MAY_END: Final = frozenset(("x-b3-parentspanid", "x-b3-flags", "tracestate"))
_REWRITTEN: Final = _MAY_END | {
    "baggage",
    "x-b3-spanid",
    "x-b3-sampled",
    "x-ot-span-context",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "uber-trace-id",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "x-amzn-trace-id",
    "sw8",
    "sw8-correlation",
    "sw8-x",
}


def _identity(name: str, value: str) -> str:
    """The part of a header's value that every hop of a chain has to see.

    A sidecar that traces puts a fresh trace id (W3C Trace Context section 3.2, b3-propagation,
    Envoy's `x-request-id`) where the hop before it dropped the header: then it is there, but lost.
    """
    if name in _REWRITTEN:
        return ""
    if name == "traceparent":
        return value[3:35]
    if name == "b3":
        return value.partition("-")[0]
    return value
