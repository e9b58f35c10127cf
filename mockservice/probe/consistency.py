"""Whether calls that look the same go the same way: what can be told without manifests.

Among the requests that reached an app from the same version of its caller with the same lane
headers, the version must be the same. Where it is not, nothing keeps lanes there.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mockservice.probe.result import TRACE_HEADERS, tells_headers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from mockservice.chain import Hop, Tree

MAX_GROUPS: Final = 20_000
"""Calls that are told apart, at most."""
_ENOUGH_FOR_IDS: Final = 8
"""Requests of which each has another value: then it is an id."""
_GROUPS_A_CHAIN: Final = 32
"""Groups that are looked through for each chain, on average, to tell which are inconsistent."""

Headers = tuple[tuple[str, str], ...]
_Group = tuple[str, str, str, Headers]
"""The caller, its version, the app that it calls, and the headers that the app receives."""


@dataclass(frozen=True, slots=True)
class Inconsistency:
    """Calls that look the same and went to several versions."""

    caller: str
    caller_version: str
    headers: Headers
    app: str
    versions: tuple[tuple[str, int], ...]
    """With the requests that got there, the most frequent first."""

    @property
    def calls(self) -> str:
        """The calls, such as `after cart(base) with x-lane: base, price`."""
        marks = ", ".join(f"{name}: {value}" for name, value in self.headers)
        with_marks = f" with {marks}" if marks else ""
        return f"after {self.caller}({self.caller_version}){with_marks}, {self.app}"

    def __str__(self) -> str:
        seen = " and ".join(f"{version} in {count}" for version, count in self.versions)
        return f"{self.calls} is {seen} requests: no rule keeps the lane at {self.app}"


class Consistency:
    """Groups the calls of many chains.

    Args:
        latest: compare only so many chains, the latest; None: all.
    """

    def __init__(self, latest: int | None = None) -> None:
        self._most = latest
        self._latest: deque[list[tuple[_Group, str]]] = deque()
        self._groups: defaultdict[_Group, Counter[str]] = defaultdict(Counter)
        self._untold: dict[str, None] = {}
        self._is_full = False
        self._ids: frozenset[str] = frozenset()
        self._found: dict[_Group, Inconsistency] = {}
        self._added = 0

    def add(self, tree: Tree, places: Collection[int]) -> None:
        """Count the calls of one chain to the hops at these places.

        Only those count whose hops tell the headers that they received.
        """
        calls = []
        for place, caller, hop in _calls(tree):
            if place not in places:
                continue
            if not tells_headers(hop):
                self._untold[hop.app] = None
                continue
            group = _group(caller, hop)
            if group not in self._groups and len(self._groups) >= MAX_GROUPS:
                self._is_full = True
                continue
            self._groups[group][hop.version] += 1
            calls.append((group, hop.version))
        self._added += 1
        if self._most is not None:
            self._latest.append(calls)
            if len(self._latest) > self._most:
                self._forget(self._latest.popleft())

    def inconsistencies(self) -> list[Inconsistency]:
        """The calls that went several ways, those of most requests first."""
        self._look()
        return sorted(
            self._found.values(), key=lambda one: -sum(count for _, count in one.versions)
        )

    def at(self, tree: Tree, places: Collection[int]) -> dict[int, Inconsistency]:
        """By place, those of these hops whose calls went several ways.

        With many groups it takes some more chains until a new one is told, as looking through all
        of them for each chain would take too long.
        """
        if self._added * _GROUPS_A_CHAIN >= len(self._groups):
            self._look()
        if not self._found:
            return {}
        return {
            place: self._found[group]
            for place, caller, hop in _calls(tree)
            if place in places
            and tells_headers(hop)
            and (group := self._without_ids(_group(caller, hop))) in self._found
        }

    def unseen(self) -> Iterator[str]:
        """Which calls could not be compared, and why."""
        if self._untold:
            apps = ", ".join(self._untold)
            yield f"calls of {apps} could not be compared: the headers received are not told"
        if self._is_full:
            yield f"only the first {MAX_GROUPS} kinds of calls were compared"

    def _forget(self, calls: list[tuple[_Group, str]]) -> None:
        for group, version in calls:
            seen = self._groups[group]
            seen[version] -= 1
            if not seen[version]:
                del seen[version]
            if not seen:
                del self._groups[group]

    def _look(self) -> None:
        """Look through all groups for those that went several ways."""
        self._added = 0
        self._ids = self._find_ids()
        merged: defaultdict[_Group, Counter[str]] = defaultdict(Counter)
        for group, seen in self._groups.items():
            merged[self._without_ids(group)].update(seen)
        self._found = {
            (caller, version, app, headers): Inconsistency(
                caller, version, headers, app, tuple(seen.most_common())
            )
            for (caller, version, app, headers), seen in merged.items()
            if len(seen) > 1
        }

    def _without_ids(self, group: _Group) -> _Group:
        caller, version, app, headers = group
        return caller, version, app, tuple(pair for pair in headers if pair[0] not in self._ids)

    def _find_ids(self) -> frozenset[str]:
        """The headers that have another value in each request."""
        values: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
        requests: Counter[tuple[str, str, str]] = Counter()
        for (caller, _, app, headers), seen in self._groups.items():
            for name, value in headers:
                values[caller, app, name].add(value)
                requests[caller, app, name] += seen.total()
        return frozenset(
            name
            for (caller, app, name), count in requests.items()
            if count >= _ENOUGH_FOR_IDS and len(values[caller, app, name]) == count
        )


def _calls(tree: Tree) -> Iterator[tuple[int, Hop, Hop]]:
    """The calls between hops: the place of the hop called, its caller, and itself."""
    for place, (hop, caller) in enumerate(zip(tree.hops, tree.callers, strict=True)):
        if caller is not None:
            yield place, tree.hops[caller], hop


def _group(caller: Hop, hop: Hop) -> _Group:
    headers = tuple(
        sorted(pair for pair in hop.lane_headers.items() if pair[0] not in TRACE_HEADERS)
    )
    return caller.app, caller.version, hop.app, headers
