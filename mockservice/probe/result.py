"""What one result shows: its chain drawn, its lane by versions, its fault, its headers lost."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
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
TRACE_HEADERS: Final = (_REWRITTEN - {"baggage"}) | {
    "traceparent",
    "b3",
    "x-b3-traceid",
    "x-datadog-trace-id",
    "x-request-id",
}
"""The headers that are about traces, not about lanes: they differ in each request."""


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
