"""Saving what was seen as cases: one for each entrance."""

from __future__ import annotations

from collections import defaultdict
from math import inf
from typing import TYPE_CHECKING, Any

import yaml

from mockservice.verify.cases import NO_ANSWER, OK
from mockservice.verify.entering import NO_LANE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mockservice.mesh.lane_map import Entrance, LaneMap
    from mockservice.verify.entering import Entered
    from mockservice.verify.verification import Verification

_HEAD = """\
# Saved by `mockservice verify --save-cases`: what each kind of request got.
# `mockservice verify PATH... --cases FILE` tells where that changes.
"""
_NOT_SOUND = "# The lanes did not hold: mend what is wrong before you keep this.\n"


def saved(verification: Verification) -> str:
    """The cases as YAML.

    Where requests enter several lanes, they are the weights of the manifests; else the chain that
    all of them got. Where they got several chains, no case can say so, and a comment does.
    """
    head = _HEAD if verification.hold else _HEAD + _NOT_SOUND
    parts = [_part(one, verification.lane_map) for one in verification.entered]
    if not any(part.startswith("  -") for part in parts):
        return f"{head}cases: []\n{''.join(parts)}"
    return f"{head}cases:\n{''.join(parts)}"


def _part(one: Entered, lane_map: LaneMap) -> str:
    shares = expected_shares(one.entrance, lane_map)
    chains = list(one.findings.tally.chains)
    if len(shares) > 1:
        owed = [("shares", _flow(shares))]
    elif len(chains) == 1:
        owed = list(_chain(*chains[0]))
    else:
        return f"  # {one.entrance}: {len(chains)} chains came back, none of them always\n"
    fields = [("request", _flow(_request(one.entrance))), *owed]
    lines = [f"    {name}: {value}\n" for name, value in fields]
    return "".join(lines).replace("    ", "  - ", 1)


def expected_shares(entrance: Entrance, lane_map: LaneMap) -> dict[str, int]:
    """How often lanes are to come up, by the weights of the manifests; without those of 0.

    Where the map has no lanes, it is how often the versions of the first hop are. Empty where
    requests are balanced over the pods of several lanes, or of several versions.
    """
    weights: defaultdict[str, float] = defaultdict(float)
    for share in entrance.shares:
        name = share.lane or NO_LANE
        if not lane_map.lanes:
            versions = {pod.version for pod in lane_map.topology.pods_at(share.destination)}
            if len(versions) != 1:
                return {}
            name = versions.pop()
        weights[name] += share.weight
    if entrance.is_spread:
        return {}
    return {name: int(weight) for name, weight in weights.items() if weight}


def _chain(chain: str, status: int | None) -> Iterator[tuple[str, str]]:
    yield "chain", _scalar(chain)
    if chain != NO_ANSWER and status != OK:
        yield "status", str(status)


def _request(entrance: Entrance) -> dict[str, Any]:
    request: dict[str, Any] = {"path": entrance.path}
    if entrance.method != "GET":
        request["method"] = entrance.method
    if entrance.host is not None:
        request["host"] = entrance.host
    if entrance.headers:
        request["headers"] = dict(entrance.headers)
    return request


def _flow(value: Any) -> str:
    dumped: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=inf)
    return dumped.strip()


def _scalar(text: str) -> str:
    dumped: str = yaml.safe_dump(text, width=inf)
    return dumped.removesuffix("...\n").strip()
