"""A result as a page sees it: the probe's judgement of one request, in a size that is bounded."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from mockservice.probe.result import (
    fault_of,
    losses_between,
    outline,
    own_durations,
    tells_headers,
)
from mockservice.propagation import CARRIED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mockservice.chain import Hop, Tree
    from mockservice.probe.consistency import Consistency, Inconsistency
    from mockservice.probe.judge import Judge, Judgement, Leak
    from mockservice.probe.load import Result
    from mockservice.probe.result import Fault
    from mockservice.ui.view import View

_CARRIED: Final = frozenset(name.decode() for name in CARRIED)

MAX_HOPS: Final = 64
MAX_HEADERS: Final = 64
"""Of one hop."""
MAX_LEAKS: Final = 8
"""Of one request, that are told with their reasons; of others only the hops are marked."""
MAX_VERSIONS: Final = 8
"""Of calls that went several ways, the most frequent."""
MAX_TEXT: Final = 1000
"""Characters of any text in it."""
MAX_SIZE: Final = 256 * 1024
"""Characters of all of it; a longer one loses the headers."""


def to_json(result: Result, view: View, consistency: Consistency) -> str:
    """The message to a page.

    Args:
        result: of one request.
        view: what the page shows.
        consistency: of the results that this page has got; this one is added.
    """
    chain = result.chain
    fault = fault_of(result)
    judgement = view.judge.judge(result)
    lane = judgement.lane
    inconsistencies = _inconsistencies(chain.tree(), judgement, consistency)
    hops = _hops(result, judgement, inconsistencies, view.judge)
    leaks = [_leak(place, leak, chain.hops) for place, leak in judgement.leaks]
    leaks += [_inconsistency(place, one) for place, one in inconsistencies.items()]
    seen = {
        "type": "result",
        "ms": round(result.seconds * 1000, 3),
        "status": result.status,
        "lane": lane and _cut(lane),
        "outline": _cut(outline(result)),
        "hops": hops,
        "leaks": leaks[:MAX_LEAKS],
        "isMixed": judgement.is_mixed and not leaks,
        "fault": fault and _fault(fault, result, judgement, view.judge),
        "body": chain.upstream_body and _cut(chain.upstream_body),
        "sent": [[name, value] for name, value in result.sent],
        "traceId": _trace_id(result.sent),
        "curl": _curl(view.url, result.sent),
    }
    text = json.dumps(seen)
    if len(text) > MAX_SIZE:
        for hop in hops:
            hop |= {"headers": None, "lost": {}}
        text = json.dumps(seen)
    return text


def _hops(
    result: Result,
    judgement: Judgement,
    inconsistencies: Mapping[int, Inconsistency],
    judge: Judge,
) -> list[dict[str, Any]]:
    hops = result.chain.hops[:MAX_HOPS]
    leaks = {place for place, _ in judgement.leaks} | inconsistencies.keys()
    own = {id(hop): duration for hop, duration in own_durations(result.chain.tree())}
    return [
        {
            "app": _cut(hop.app),
            "version": _cut(hop.version),
            "lane": _cut(judge.lane_of_pods(hop.app, hop.version)),
            "ip": _cut(hop.ip),
            "ms": _duration(hop),
            "ownMs": own.get(id(hop)),
            "headers": _headers(hop) if tells_headers(hop) else None,
            "lost": lost,
            "fault": hop.fault and _cut(hop.fault),
            "isFallback": place in judgement.fallbacks,
            "isLeak": place in leaks,
        }
        for place, (hop, lost) in enumerate(zip(hops, _lost(result.sent, hops), strict=True))
    ]


def _fault(fault: Fault, result: Result, judgement: Judgement, judge: Judge) -> dict[str, Any]:
    hops = result.chain.hops
    lane = judge.serves(judgement.lane, hops[-1].app) if hops else None
    return {
        "status": fault.status,
        "hop": _cut(fault.hop),
        # Whether that is the name of a hop, and not a description.
        "isNamed": result.chain.error is not None,
        "reason": _cut(fault.reason),
        # The lane whose pods were to answer where the last hop is not what failed.
        "lane": lane and _cut(lane),
        # Whether the request was to fail: its lane has no pods there.
        "isOwed": judgement.may_fail,
    }


def _leak(place: int, leak: Leak, hops: Sequence[Hop]) -> dict[str, Any]:
    """A leak as the probe's JSON has it, its text, and its place among the hops that are sent.

    The place past their end is that of a hop missing; None is that of a hop that is not sent.
    """
    is_missing = place == len(hops)
    shown = min(place, MAX_HOPS) if is_missing or place < MAX_HOPS else None
    # The page draws the chain itself.
    text = str(leak).removesuffix(f": {leak.chain}")
    return {"place": shown, "kind": _cut(str(leak)), "text": _cut(text), **_fields(leak)}


def _inconsistency(place: int, one: Inconsistency) -> dict[str, Any]:
    """The same of calls that went several ways: the kind is without counts, which grow."""
    one = replace(one, versions=one.versions[:MAX_VERSIONS])
    return {"place": place, "kind": _cut(one.calls), "text": _cut(str(one)), **_fields(one)}


def _fields(one: Leak | Inconsistency) -> dict[str, Any]:
    fields = asdict(one)
    return {
        name: _cut(value) if isinstance(value, str) else value for name, value in fields.items()
    }


def _inconsistencies(
    tree: Tree, judgement: Judgement, consistency: Consistency
) -> dict[int, Inconsistency]:
    """By place, the hops whose calls went several ways, as far as this page has seen."""
    hops = tree.hops[:MAX_HOPS]
    # What is kept for a page is bounded: calls with huge headers are not compared.
    are_small = [_size(hop) <= MAX_TEXT for hop in hops]
    places = {
        place
        for place in judgement.unjudged
        if 0 < place < len(hops)
        and are_small[place - 1]
        and are_small[place]
        and tells_headers(hops[place])
    }
    consistency.add(tree, places)
    return consistency.at(tree, places)


def _size(hop: Hop) -> int:
    """Characters that tell a hop from others."""
    headers = hop.lane_headers.items()
    return len(hop.app) + len(hop.version) + sum(len(name) + len(value) for name, value in headers)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _duration(hop: Hop) -> float | None:
    """Anyone may be at the other end: JSON knows no infinities."""
    known = hop.duration_ms is not None and 0 <= hop.duration_ms < 1e9
    return hop.duration_ms if known else None


def _headers(hop: Hop) -> dict[str, str]:
    fields = list(hop.lane_headers.items())[:MAX_HEADERS]
    return {_cut(name): _cut(value) for name, value in fields}


def _lost(sent: Sequence[tuple[str, str]], hops: Sequence[Hop]) -> list[Mapping[str, str]]:
    """For each hop the headers that the one before it received and it did not: how they are lost.

    The first hop's are those that it did not receive of `sent`, where another hop did, or any hop
    carries them: of a header that no hop carries nobody can tell.
    """
    lost: list[Mapping[str, str]] = [{} for _ in hops]
    for place, (giver, taker) in enumerate(pairwise(hops), 1):
        if tells_headers(giver) and tells_headers(taker):
            lost[place] = {
                _cut(loss.header): "changed" if loss.changed else "missing"
                for loss in list(losses_between(giver, taker))[:MAX_HEADERS]
            }
    if hops and tells_headers(hops[0]):
        known = _CARRIED.union(*(hop.lane_headers for hop in hops))
        dropped = {name for name, _ in sent} & known - hops[0].lane_headers.keys()
        lost[0] = dict.fromkeys(sorted(dropped), "missing")
    return lost


def _trace_id(sent: Sequence[tuple[str, str]]) -> str | None:
    return next((value[3:35] for name, value in sent if name == "traceparent"), None)


def _curl(url: str, sent: Sequence[tuple[str, str]]) -> str:
    fields = "".join(f"-H {shlex.quote(f'{name}: {value}')} " for name, value in sent)
    return f"curl {fields}{shlex.quote(url)}"
