"""A result as a page sees it: the probe's judgement of one request, in a size that is bounded."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from mockservice.chain import MAX_TREE, Chain, Tree
from mockservice.probe.result import (
    branch_to,
    faults_of,
    losses_between,
    outline,
    own_durations,
    tells_headers,
)
from mockservice.propagation import CARRIED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mockservice.chain import End, Hop
    from mockservice.probe.consistency import Consistency, Inconsistency
    from mockservice.probe.judge import Judge, Judgement, Leak
    from mockservice.probe.load import Result
    from mockservice.probe.result import Fault
    from mockservice.ui.view import View

_CARRIED: Final = frozenset(name.decode() for name in CARRIED)

MAX_HOPS: Final = MAX_TREE
MAX_BRANCHES: Final = 1024
"""Of an answer that is shown as a tree; hops make fewer."""
MAX_ENDS: Final = 64
"""Failures and foreign answers of one request."""
MAX_HEADERS: Final = 64
"""Of one hop."""
MAX_LEAKS: Final = 8
"""Of one request, that are told with their reasons; of others only the hops are marked."""
MAX_VERSIONS: Final = 8
"""Of calls that went several ways, the most frequent."""
MAX_TEXT: Final = 1000
"""Characters of any text in it."""
MAX_SIZE: Final = 256 * 1024
"""Characters of all of it; a longer one loses the headers, then the ends of its names."""
MAX_NAME: Final = 100
"""Characters that stay of each name in a message that is too long."""


def to_json(result: Result, view: View, consistency: Consistency) -> str:
    """The message to a page.

    Args:
        result: of one request.
        view: what the page shows.
        consistency: of the results that this page has got; this one is added.
    """
    result = _bounded(result)
    chain = result.chain
    tree = chain.tree()
    sent = Tree(tree.hops[:MAX_HOPS], tree.callers[:MAX_HOPS], tree.ends)
    judgement = view.judge.judge(result)
    lane = judgement.lane
    inconsistencies = _inconsistencies(sent, judgement, consistency)
    hops = _hops(result, sent, judgement, inconsistencies, view.judge)
    leaks = [_leak(place, leak, tree) for place, leak in judgement.leaks[:MAX_LEAKS]]
    leaks += [_inconsistency(place, one) for place, one in inconsistencies.items()]
    ends = _ends(result, tree, judgement, view.judge)
    seen = {
        "type": "result",
        "ms": round(result.seconds * 1000, 3),
        "status": result.status,
        "lane": lane and _cut(lane),
        "outline": _cut(outline(result)),
        "hops": hops,
        # Whether a hop has several upstreams.
        "isTree": len(tree.ends) > 1,
        "leaks": leaks[:MAX_LEAKS],
        "isMixed": judgement.is_mixed and not leaks,
        # The one that the status of the answer tells.
        "fault": next((end["fault"] for end in ends if end["fault"] is not None), None),
        "ends": ends,
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
    if len(text) > MAX_SIZE:
        for hop in hops:
            hop |= {name: _cut(hop[name], MAX_NAME) for name in ("app", "version", "lane", "ip")}
        text = json.dumps(seen)
    return text


def _bounded(result: Result) -> Result:
    """The result, without the branches of a tree that hops cannot make.

    An answer of `MAX_BODY` bytes may have tens of thousands of branches, each to be judged.
    """
    tree = result.chain.tree()
    if len(tree.ends) <= MAX_BRANCHES:
        return result
    *before, last = result.chain.hops
    hops = (*before, replace(last, upstreams=()))
    body = f"a tree of {len(tree.ends)} branches, which is too large to show"
    return replace(result, chain=Chain(hops, upstream_body=body))


def _hops(
    result: Result,
    tree: Tree,
    judgement: Judgement,
    inconsistencies: Mapping[int, Inconsistency],
    judge: Judge,
) -> list[dict[str, Any]]:
    leaks = {place for place, _ in judgement.leaks} | inconsistencies.keys()
    lost = _lost(result.sent, tree)
    own = {id(hop): duration for hop, duration in own_durations(tree)}
    return [
        {
            "app": _cut(hop.app),
            "version": _cut(hop.version),
            # The place of the hop that called it; null for the first.
            "caller": tree.callers[place],
            "lane": _cut(judge.lane_of_pods(hop.app, hop.version)),
            "ip": _cut(hop.ip),
            "ms": _duration(hop),
            "ownMs": own.get(id(hop)),
            "headers": _headers(hop) if tells_headers(hop) else None,
            "lost": lost[place],
            "fault": hop.fault and _cut(hop.fault),
            "isFallback": place in judgement.fallbacks,
            "isLeak": place in leaks,
        }
        for place, hop in enumerate(tree.hops)
    ]


def _ends(result: Result, tree: Tree, judgement: Judgement, judge: Judge) -> list[dict[str, Any]]:
    """The failures and foreign answers that branches end with, in call order."""
    faults = faults_of(result)
    missing = _missing(tree, judgement)
    # For each hop itself, or the nearest one before it in its branch that is sent.
    sent: list[int] = []
    for place, caller in enumerate(tree.callers):
        sent.append(place if place < MAX_HOPS or caller is None else sent[caller])
    ends: list[dict[str, Any]] = []
    at = 0
    for branch, end in enumerate(tree.ends):
        fault = faults.get(branch)
        at = max(at, 0 if end.last is None else end.last + 1)
        if (fault is None and end.upstream_body is None) or len(ends) == MAX_ENDS:
            continue
        last = _failed_hop(fault, end, tree)
        leak = missing.get(branch)
        ends.append(
            {
                # The place of the hop before it.
                "last": None if last is None else sent[last],
                # Where it stands in call order: so many of the hops come before it.
                "at": min(at, MAX_HOPS),
                "fault": fault and _fault(fault, end, branch, tree, judgement, judge),
                # The hop that was to answer and that no rule leads to.
                "missing": leak and {"app": _cut(leak.app), "text": _cut(_text(leak))},
                "body": end.upstream_body and _cut(end.upstream_body),
            }
        )
    return ends


def _failed_hop(fault: Fault | None, end: End, tree: Tree) -> int | None:
    """The place of the last hop of a branch, or of the branching hop if that failed by itself."""
    if fault is None or end.last is None or end.error is not None:
        return end.last
    parting = next((place for place, hop in enumerate(tree.hops) if hop.upstreams), end.last)
    by_itself = fault.hop == tree.hops[parting].app != tree.hops[end.last].app
    return parting if by_itself else end.last


def _missing(tree: Tree, judgement: Judgement) -> dict[int, Leak]:
    """By branch, the leaks that are hops missing."""
    leaks = [leak for place, leak in judgement.leaks if place == len(tree.hops)]
    missing: dict[int, Leak] = {}
    for branch in sorted(judgement.told_faults):
        end = tree.ends[branch]
        after = branch_to(tree, end.last)
        behind = [leak for leak in leaks if leak.after == after]
        named = [leak for leak in behind if end.error is not None and end.error.hop == leak.app]
        if found := named or behind:
            missing[branch] = found[0]
            leaks.remove(found[0])
    return missing


def _fault(
    fault: Fault, end: End, branch: int, tree: Tree, judgement: Judgement, judge: Judge
) -> dict[str, Any]:
    named = None if end.error is None else end.error.hop
    lane = None
    if end.last is not None:
        lane = judge.serves(judgement.lane, tree.hops[end.last].app, named)
    return {
        "status": fault.status,
        "hop": _cut(fault.hop),
        # Whether that is the name of a hop, and not a description.
        "isNamed": end.error is not None,
        "reason": _cut(fault.reason),
        # The lane whose pods were to answer where the last hop is not what failed.
        "lane": lane and _cut(lane),
        # Whether it was to fail: its lane has no pods there.
        "isOwed": branch in judgement.owed_faults,
    }


def _leak(place: int, leak: Leak, tree: Tree) -> dict[str, Any]:
    """A leak as the probe's JSON has it, its text, and its place among the hops that are sent.

    The place past their end is that of a hop missing; None is that of a hop that is not sent.
    """
    is_missing = place == len(tree.hops)
    shown = min(place, MAX_HOPS) if is_missing or place < MAX_HOPS else None
    return {"place": shown, "kind": _cut(str(leak)), "text": _cut(_text(leak)), **_fields(leak)}


def _text(leak: Leak) -> str:
    """Without the chain, which the page draws itself."""
    return str(leak).removesuffix(f": {leak.chain}")


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
    hops = tree.hops
    # What is kept for a page is bounded: calls with huge headers are not compared.
    are_small = [_size(hop) <= MAX_TEXT for hop in hops]
    places = {
        place
        for place in judgement.unjudged
        if place < len(hops)
        and (caller := tree.callers[place]) is not None
        and are_small[caller]
        and are_small[place]
        and tells_headers(hops[place])
    }
    consistency.add(tree, places)
    return consistency.at(tree, places)


def _size(hop: Hop) -> int:
    """Characters that tell a hop from others."""
    headers = hop.lane_headers.items()
    return len(hop.app) + len(hop.version) + sum(len(name) + len(value) for name, value in headers)


def _cut(text: str, most: int = MAX_TEXT) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _duration(hop: Hop) -> float | None:
    """Anyone may be at the other end: JSON knows no infinities."""
    known = hop.duration_ms is not None and 0 <= hop.duration_ms < 1e9
    return hop.duration_ms if known else None


def _headers(hop: Hop) -> dict[str, str]:
    fields = list(hop.lane_headers.items())[:MAX_HEADERS]
    return {_cut(name): _cut(value) for name, value in fields}


def _lost(sent: Sequence[tuple[str, str]], tree: Tree) -> list[Mapping[str, str]]:
    """For each hop the headers that its caller received and it did not: how they are lost.

    The first hop's are those that it did not receive of `sent`, where another hop did, or any hop
    carries them: of a header that no hop carries nobody can tell.
    """
    hops = tree.hops
    lost: list[Mapping[str, str]] = [{} for _ in hops]
    for place, (caller, taker) in enumerate(zip(tree.callers, hops, strict=True)):
        if caller is None or not tells_headers(taker):
            continue
        giver = hops[caller]
        if tells_headers(giver):
            lost[place] = {
                _cut(loss.header): "changed" if loss.changed else "missing"
                for loss in islice(losses_between(giver, taker), MAX_HEADERS)
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
