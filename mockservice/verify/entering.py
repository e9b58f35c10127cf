"""Entering the lanes: requests through each entrance of the lane map, judged as the probe does."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass
from math import ceil
from time import perf_counter
from typing import TYPE_CHECKING, Final

from mockservice.probe.findings import Findings
from mockservice.probe.judge import ByMap
from mockservice.probe.split import requests_for, split_of
from mockservice.probe.tally import Tally
from mockservice.probe.verdicts import SPLIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mockservice.mesh.lane_map import Entrance, LaneMap

REQUESTS: Final = 20
"""Requests through an entrance to one lane: calls that are balanced over two versions all go the
same way once in a million times."""
TOLD: Final = 0.10
"""The difference of a lane's share that the requests through a split entrance tell."""
MAX_REQUESTS: Final = 2000
"""Requests through one entrance, at most."""
NO_LANE: Final = "-"
"""Stands for the lane of requests that are in none, or in none that can be told."""
_CONCURRENCY: Final = 8
_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Entered:
    """An entrance, and what the requests through it came to."""

    entrance: Entrance
    findings: Findings
    shares: Mapping[str, int]
    """Requests by lane, `NO_LANE` included; by the version of the first hop where the map has no
    lanes.
    """

    @property
    def needs_more(self) -> bool:
        """Whether nothing is wrong but a share, which may be by chance."""
        wrong = {verdict.name for verdict in self.findings.verdicts if verdict.holds is False}
        return wrong == {SPLIT}


def requests_through(entrance: Entrance) -> int:
    """How many requests tell whether an entrance is sound; see `requests_to_tell`."""
    return requests_to_tell(entrance.weights)


def requests_to_tell(weights: Mapping[str, float]) -> int:
    """How many requests tell whether lanes come up by their weights.

    Where there are several, they tell a lane whose share is off by `TOLD`, and enter each lane
    about `REQUESTS` times.
    """
    taken = [weight for weight in weights.values() if weight]
    if len(taken) < 2:
        return REQUESTS
    to_tell = requests_for(weights, TOLD) or 0
    to_enter = ceil(REQUESTS * sum(taken) / min(taken))
    return min(MAX_REQUESTS, max(to_tell, to_enter))


async def enter(
    gateway_url: str,
    lane_map: LaneMap,
    entrance: Entrance,
    expected: Iterable[Mapping[str, float]] = (),
) -> Entered:
    """Send the requests through an entrance and judge them.

    Where only a share is off, twice as many new requests decide: chance alone then refuses a sound
    share once in a million times, not once in a thousand.

    Args:
        gateway_url: without a path and without a trailing slash.
        lane_map: what lanes are owed.
        entrance: one of the map's, or one like them.
        expected: shares that cases expect here, beside the weights of the entrance.
    """
    expected = list(expected)
    requests = max(map(requests_to_tell, [entrance.weights, *expected]))
    first = await _enter(gateway_url, lane_map, entrance, requests)
    sound = all(verdict.holds is not False for verdict in first.findings.verdicts)
    off = any(not split_of(first.shares, weights).fits for weights in expected)
    if first.needs_more or (sound and off):
        return await _enter(gateway_url, lane_map, entrance, 2 * requests)
    return first


async def _enter(gateway_url: str, lane_map: LaneMap, entrance: Entrance, requests: int) -> Entered:
    # The HTTP client takes long to import, and manifests that are refused need none.
    from mockservice.probe.load import Load, send

    load = Load(
        f"{gateway_url}{entrance.path}",
        entrance.method,
        requests,
        # A process that answers in place of pods does so one by one.
        1 if any(pod.replaced_by for pod in lane_map.mesh.pods) else _CONCURRENCY,
        headers=entrance.fields,
        timeout=_TIMEOUT,
    )
    tally = Tally(ByMap(lane_map))
    versions: Counter[str] = Counter()
    start = perf_counter()
    async with aclosing(send(load)) as results:
        async for result in results:
            tally.add(result)
            hops = result.chain.hops
            versions[hops[0].version if hops else NO_LANE] += 1
    is_split = len(entrance.weights) > 1 and not entrance.is_spread
    weights = entrance.weights if is_split else None
    findings = Findings.of(load, tally, perf_counter() - start, weights)
    shares = Counter(tally.lanes)
    shares[NO_LANE] = requests - shares.total()
    return Entered(entrance, findings, +shares if lane_map.lanes else versions)
