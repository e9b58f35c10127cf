"""Entering the lanes: for each entrance of the lane map a load, judged as the probe judges it."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from math import ceil
from time import perf_counter
from typing import TYPE_CHECKING, Final

from mockservice.probe.findings import Findings
from mockservice.probe.judge import ByMap
from mockservice.probe.load import Load, send
from mockservice.probe.split import requests_for
from mockservice.probe.tally import Tally

if TYPE_CHECKING:
    from mockservice.mesh.lane_map import Entrance, LaneMap

REQUESTS: Final = 20
"""Requests through an entrance to one lane: calls that are balanced over two versions all go the
same way once in a million times."""
TOLD: Final = 0.10
"""The difference of a lane's share that the requests through a split entrance tell."""
MAX_REQUESTS: Final = 2000
"""Requests through one entrance, at most."""
_CONCURRENCY: Final = 8
_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Entered:
    """An entrance, and what the requests through it came to."""

    entrance: Entrance
    findings: Findings


def requests_through(entrance: Entrance) -> int:
    """How many requests tell whether an entrance is sound.

    Where it splits, they tell a lane whose share is off by `TOLD`, and enter each lane about
    `REQUESTS` times.
    """
    weights = [weight for weight in entrance.weights.values() if weight]
    if len(weights) < 2:
        return REQUESTS
    to_tell = requests_for(entrance.weights, TOLD) or 0
    to_enter = ceil(REQUESTS * sum(weights) / min(weights))
    return min(MAX_REQUESTS, max(to_tell, to_enter))


async def enter(gateway_url: str, lane_map: LaneMap, entrance: Entrance) -> Entered:
    """Send the requests through an entrance and judge them.

    Args:
        gateway_url: without a path and without a trailing slash.
        lane_map: what lanes are owed.
        entrance: one of the map's.
    """
    load = Load(
        f"{gateway_url}{entrance.path}",
        entrance.method,
        requests_through(entrance),
        _CONCURRENCY,
        headers=entrance.fields,
        timeout=_TIMEOUT,
    )
    tally = Tally(ByMap(lane_map))
    start = perf_counter()
    async with aclosing(send(load)) as results:
        async for result in results:
            tally.add(result)
    weights = entrance.weights if len(entrance.weights) > 1 else None
    return Entered(entrance, Findings.of(load, tally, perf_counter() - start, weights))
