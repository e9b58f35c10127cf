"""Whether calls that look the same go the same way: what can be told without manifests.

Among the requests that reached an app from the same version of its caller with the same lane
headers, the version must be the same. Where it is not, nothing keeps lanes there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from mockservice.probe.result import tells_headers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from mockservice.chain import Hop

MAX_GROUPS: Final = 20_000
"""Calls that are told apart, at most."""
_ENOUGH_FOR_IDS: Final = 8
"""Requests of which each has another value: then it is an id."""

# What is about traces, not about lanes: another value in each request.
_TRACE_HEADERS: Final = frozenset(
    {
        "traceparent",
        "tracestate",
        "b3",
        "x-b3-traceid",
        "x-b3-spanid",
        "x-b3-parentspanid",
        "x-b3-sampled",
        "x-b3-flags",
        "x-request-id",
        "x-ot-span-context",
        "x-datadog-trace-id",
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
)

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Inconsistency:
    """Calls that look the same and went to several versions."""

    caller: str
    caller_version: str
    headers: Headers
    app: str
    versions: tuple[tuple[str, int], ...]
    """With the requests that got there, the most frequent first."""

    def __str__(self) -> str:
        marks = ", ".join(f"{name}: {value}" for name, value in self.headers)
        seen = " and ".join(f"{version} in {count}" for version, count in self.versions)
        return (
            f"after {self.caller}({self.caller_version}){f' with {marks}' if marks else ''},"
            f" {self.app} is {seen} requests: no rule keeps the lane at {self.app}"
        )


class Consistency:
    """Groups the calls of many chains."""

    def __init__(self) -> None:
        self._groups: defaultdict[tuple[str, str, str, Headers], Counter[str]] = defaultdict(
            Counter
        )
        self._untold: dict[str, None] = {}
        self._is_full = False

    def add(self, hops: Sequence[Hop], places: Collection[int]) -> None:
        """Count the calls of one chain to the hops at these places.

        Only those count whose hops tell the headers that they received.
        """
        for place, (caller, hop) in enumerate(pairwise(hops), 1):
            if place not in places:
                continue
            if not tells_headers(hop):
                self._untold[hop.app] = None
                continue
            headers = tuple(
                sorted(pair for pair in hop.lane_headers.items() if pair[0] not in _TRACE_HEADERS)
            )
            key = (caller.app, caller.version, hop.app, headers)
            if key not in self._groups and len(self._groups) >= MAX_GROUPS:
                self._is_full = True
                continue
            self._groups[key][hop.version] += 1

    def inconsistencies(self) -> list[Inconsistency]:
        """The calls that went several ways, those of most requests first."""
        ids = self._ids()
        merged: defaultdict[tuple[str, str, str, Headers], Counter[str]] = defaultdict(Counter)
        for (caller, version, app, headers), seen in self._groups.items():
            kept = tuple(pair for pair in headers if pair[0] not in ids)
            merged[caller, version, app, kept].update(seen)
        found = [
            Inconsistency(caller, version, headers, app, tuple(seen.most_common()))
            for (caller, version, app, headers), seen in merged.items()
            if len(seen) > 1
        ]
        return sorted(found, key=lambda one: -sum(count for _, count in one.versions))

    def unseen(self) -> Iterator[str]:
        """Which calls could not be compared, and why."""
        if self._untold:
            apps = ", ".join(self._untold)
            yield f"calls of {apps} could not be compared: the headers received are not told"
        if self._is_full:
            yield f"only the first {MAX_GROUPS} kinds of calls were compared"

    def _ids(self) -> set[str]:
        """The headers that have another value in each request."""
        values: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
        requests: Counter[tuple[str, str, str]] = Counter()
        for (caller, _, app, headers), seen in self._groups.items():
            for name, value in headers:
                values[caller, app, name].add(value)
                requests[caller, app, name] += seen.total()
        return {
            name
            for (caller, app, name), count in requests.items()
            if count >= _ENOUGH_FOR_IDS and len(values[caller, app, name]) == count
        }
