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
from mockservice.verify.turns import in_turn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mockservice.mesh.lane_map import Entrance, LaneMap
    from mockservice.probe.load import Load, Result

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
    expected: Mapping[Entrance, Sequence[Mapping[str, float]]],
) -> dict[Entrance, Entered]:
    """Send the requests through entrances and judge them.

    Where only a share is off, twice as many new requests decide: chance alone then refuses a sound
    share once in a million times, not once in a thousand.

    Args:
        gateway_url: without a path and without a trailing slash.
        lane_map: what lanes are owed.
        expected: the entrances, those of the map and others like them; for each the shares that
            cases expect there, beside its own weights.
    """
    requests = {
        entrance: max(map(requests_to_tell, [entrance.weights, *shares]))
        for entrance, shares in expected.items()
    }
    first = await _enter(gateway_url, lane_map, requests)
    again = {
        entrance: 2 * requests[entrance]
        for entrance, entered in first.items()
        if _needs_more(entered, expected[entrance])
    }
    return first | await _enter(gateway_url, lane_map, again)


def _needs_more(entered: Entered, expected: Iterable[Mapping[str, float]]) -> bool:
    sound = all(verdict.holds is not False for verdict in entered.findings.verdicts)
    off = any(not split_of(entered.shares, weights).fits for weights in expected)
    return entered.needs_more or (sound and off)


async def _enter(
    gateway_url: str, lane_map: LaneMap, requests: Mapping[Entrance, int]
) -> dict[Entrance, Entered]:
    # The HTTP client takes long to import, and manifests that are refused need none.
    from mockservice.probe.load import Load, send, send_one_by_one

    # A process that answers in place of pods does so one by one.
    is_one_by_one = any(pod.replaced_by for pod in lane_map.mesh.pods)
    entering = [
        _Entering(
            entrance,
            lane_map,
            Load(
                f"{gateway_url}{entrance.path}",
                entrance.method,
                count,
                1 if is_one_by_one else _CONCURRENCY,
                headers=entrance.fields,
                timeout=_TIMEOUT,
            ),
        )
        for entrance, count in requests.items()
    ]
    if is_one_by_one:
        # What it keeps of a request of one kind must show in those of all others.
        order = [entering[kind] for kind in in_turn(list(requests.values()))]
        async with aclosing(send_one_by_one(one.load for one in order)) as results:
            for one in order:
                one.add(await anext(results))
    else:
        for one in entering:
            start = perf_counter()
            async with aclosing(send(one.load)) as results:
                async for result in results:
                    one.add(result)
            one.seconds = perf_counter() - start
    return {one.entrance: one.entered() for one in entering}


class _Entering:
    """An entrance while requests are sent through it."""

    def __init__(self, entrance: Entrance, lane_map: LaneMap, load: Load) -> None:
        self.entrance = entrance
        self.load = load
        self.seconds = 0.0
        """From the first request to the last answer, without the time of other entrances."""
        self._tally = Tally(ByMap(lane_map))
        self._versions: Counter[str] = Counter()
        self._has_lanes = bool(lane_map.lanes)

    def add(self, result: Result) -> None:
        """Judge and count one result."""
        self._tally.add(result)
        self.seconds += result.seconds
        hops = result.chain.hops
        self._versions[hops[0].version if hops else NO_LANE] += 1

    def entered(self) -> Entered:
        """What all results come to."""
        is_split = len(self.entrance.weights) > 1 and not self.entrance.is_spread
        weights = self.entrance.weights if is_split else None
        findings = Findings.of(self.load, self._tally, self.seconds, weights)
        shares = Counter(self._tally.lanes)
        shares[NO_LANE] = self._tally.requests - shares.total()
        return Entered(self.entrance, findings, +shares if self._has_lanes else self._versions)
