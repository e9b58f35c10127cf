"""What one result shows: its chain drawn, its lane by versions, its faults, its headers lost."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mockservice.chain import MAX_HOPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mockservice.chain import Chain, End, Hop, Tree
    from mockservice.probe.load import Result

GATEWAY: Final = "gateway"
"""What failed where no hop has answered."""

MAX_REASON: Final = 200
"""Characters of a reason that are kept."""
MAX_OUTLINE: Final = 128 * 1024
"""Characters of an outline that are kept: the largest tree that hops make has no more."""

_MAX_DURATION_MS: Final = 1e9
_SPECIAL: Final = re.compile(r"[\[\];\\]")


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
    """How a request failed, or one branch of it."""

    status: int | None
    """Of the request's answer. None: no answer came back."""
    hop: str
    """The hop that failed, or `GATEWAY`."""
    reason: str
    after: str = ""
    """The branch that failed: see `branch_to`."""


def outline(result: Result) -> str:
    r"""The chain without what differs from request to request: addresses and reasons.

    A tree is drawn as `web(v1) -> [orders(v1) -> stock(v1); users(v2)]`. There a name has a `\`
    before each `[`, `]`, `;` and `\`.
    """
    if result.status is None:
        return "(no answer)"
    chain = result.chain
    is_tree = any(hop.upstreams for hop in chain.hops[-1:])
    drawn = _drawn(chain, _escaped if is_tree else str)
    return drawn if len(drawn) <= MAX_OUTLINE else f"{drawn[: MAX_OUTLINE - 1]}…"


def _drawn(chain: Chain, name: Callable[[str], str]) -> str:
    parts = [f"{name(hop.app)}({name(hop.version)})" for hop in chain.hops]
    if chain.hops and (upstreams := chain.hops[-1].upstreams):
        parts.append(f"[{'; '.join(_drawn(branch, name) for branch in upstreams)}]")
    elif chain.error is not None:
        parts.append(f"{name(chain.error.hop)}({chain.error.kind})")
    elif chain.upstream_body is not None or not parts:
        parts.append("(no hop)")
    return " -> ".join(parts)


def _escaped(name: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", name)


def branch_to(tree: Tree, caller: int | None) -> str:
    """The branch that a hop's calls belong to, such as `web -> orders -> price`.

    Args:
        tree: where the hop is.
        caller: its place; None: the gateway.

    Returns:
        The apps from the first hop to this one. Empty where no hop among them has several
        upstreams: there is no branch to tell from others.
    """
    apps: list[str] = []
    branches = False
    while caller is not None and len(apps) < MAX_HOPS:
        hop = tree.hops[caller]
        apps.append(hop.app)
        branches = branches or bool(hop.upstreams)
        caller = tree.callers[caller]
    if caller is not None:
        apps.append("…")
    return " -> ".join(reversed(apps)) if branches else ""


def behind(tree: Tree, places: Iterable[int]) -> set[int]:
    """The places of all hops that follow one of these places in its branch."""
    found: set[int] = set()
    firsts = set(places)
    for place, caller in enumerate(tree.callers):
        if caller in firsts or caller in found:
            found.add(place)
    return found


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


def leaving_hops(tree: Tree, baseline: str | None) -> list[int]:
    """The places of the hops that left the lane of their request, the first of each branch.

    The lane is the version of the first hop; with a baseline, of the first one of another version.
    """
    others = [place for place, hop in enumerate(tree.hops) if hop.version != baseline]
    left = [place for place in others if tree.hops[place].version != tree.hops[others[0]].version]
    following = behind(tree, left)
    return [place for place in left if place not in following]


def faults_of(
    result: Result, callee: Callable[[Hop, int], str | None] | None = None
) -> dict[int, Fault]:
    """How the request failed, by the place in `Tree.ends` of the branch that did.

    Args:
        result: of the request.
        callee: names what a hop calls as its upstream of a number, if that is known.
    """
    chain, status = result.chain, result.status
    if status is None:
        return {0: Fault(None, GATEWAY, result.error or "no answer")}
    tree = chain.tree()
    upstreams = _upstreams(tree, callee)
    faults = {
        place: fault
        for place, (end, upstream) in enumerate(zip(tree.ends, upstreams, strict=True))
        if (fault := _fault_at(tree, end, upstream, status)) is not None
    }
    if not faults and status >= 300:
        # No branch says that it failed: the hop that all of them follow does.
        faults[0] = Fault(status, chain.hops[-1].app, "answered with this status")
    return faults


def _upstreams(tree: Tree, callee: Callable[[Hop, int], str | None] | None = None) -> Iterator[str]:
    """For each branch a name for what is behind its last hop and is no hop itself."""
    numbers: dict[int, Iterator[int]] = {}
    for end in tree.ends:
        if end.last is None:
            yield GATEWAY
            continue
        hop = tree.hops[end.last]
        name, number = f"{hop.app}'s upstream", 1
        if hop.upstreams:
            if end.last not in numbers:
                without = [number for number, one in enumerate(hop.upstreams, 1) if not one.hops]
                numbers[end.last] = iter(without)
            number = next(numbers[end.last])
            name = f"{name} {number} of {len(hop.upstreams)}"
        known = None if callee is None else callee(hop, number)
        yield name if known is None else f"{name} ({known})"


def _fault_at(tree: Tree, end: End, upstream: str, status: int) -> Fault | None:
    """The fault of one branch, in an answer of this status, at its last hop or that upstream."""
    if end.error is not None:
        error = end.error
        reason = f"{error.kind}: {error.reason}"[:MAX_REASON]
        return Fault(status, error.hop, reason, branch_to(tree, end.last))
    body = " ".join((end.upstream_body or "").split())[:MAX_REASON]
    if end.last is None:
        return Fault(status, GATEWAY, f"no chain in the answer: {body}".removesuffix(": "))
    last = tree.hops[end.last]
    if status < 300 or (len(tree.ends) > 1 and not _may_have_failed(last, end)):
        return None
    after = branch_to(tree, tree.callers[end.last])
    if end.upstream_body is None and not last.upstreams:
        return Fault(status, last.app, "answered with this status", after)
    return Fault(status, upstream, body or "no chain in the answer", after)


def _may_have_failed(last: Hop, end: End) -> bool:
    """Whether it may be this branch, of several, that an error status comes from.

    A hop answers with the status of the first of its upstreams that failed. What others answered
    that are no hops is not told: each of them may have failed.
    """
    if last.status is not None:
        return last.status >= 300
    return bool(last.upstreams) or end.upstream_body is not None


def own_durations(tree: Tree) -> Iterator[tuple[Hop, float]]:
    """The hops with their durations less the longest of their upstreams', in milliseconds.

    A hop calls its upstreams at the same time. Hops are left out where the duration of one of them
    is not known.
    """
    durations = [_duration(hop) for hop in tree.hops]
    upstreams = [0.0] * len(durations)
    for caller, duration in zip(tree.callers, durations, strict=True):
        if caller is not None:
            upstreams[caller] = max(upstreams[caller], duration)
    for hop, duration, longest in zip(tree.hops, durations, upstreams, strict=True):
        if math.inf not in (duration, longest):
            yield hop, max(0.0, duration - longest)


def _duration(hop: Hop) -> float:
    """The duration that a hop told, in milliseconds; infinite where it told none that can be."""
    told = hop.duration_ms
    return told if told is not None and 0 <= told <= _MAX_DURATION_MS else math.inf


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
