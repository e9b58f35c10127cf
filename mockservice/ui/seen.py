"""A result as a page sees it: the probe's judgement of one request, in a size that is bounded."""

from __future__ import annotations

import json
import shlex
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

    from mockservice.chain import Hop
    from mockservice.probe.judge import Judgement
    from mockservice.probe.load import Result
    from mockservice.ui.view import View

_CARRIED: Final = frozenset(name.decode() for name in CARRIED)

MAX_HOPS: Final = 64
MAX_HEADERS: Final = 64
"""Of one hop."""
MAX_TEXT: Final = 1000
"""Characters of any text in it."""
MAX_SIZE: Final = 256 * 1024
"""Characters of all of it; a longer one loses the headers."""


def to_json(result: Result, view: View) -> str:
    """The message to a page."""
    chain = result.chain
    fault = fault_of(result)
    judgement = view.judge.judge(result)
    lane = judgement.lane
    hops = _hops(result, judgement)
    seen = {
        "type": "result",
        "ms": round(result.seconds * 1000, 3),
        "status": result.status,
        "lane": lane and _cut(lane),
        "outline": _cut(outline(result)),
        "hops": hops,
        "fault": fault
        and {
            "status": fault.status,
            "hop": _cut(fault.hop),
            # Whether that is the name of a hop, and not a description.
            "isNamed": chain.error is not None,
            "reason": _cut(fault.reason),
        },
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


def _hops(result: Result, judgement: Judgement) -> list[dict[str, Any]]:
    hops = result.chain.hops[:MAX_HOPS]
    leaks = {place for place, _ in judgement.leaks}
    own = {id(hop): duration for hop, duration in own_durations(hops)}
    return [
        {
            "app": _cut(hop.app),
            "version": _cut(hop.version),
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
