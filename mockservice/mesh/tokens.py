"""What tells lanes apart in the rules of Istio and of the Gateway API.

That is the value of a header that rules between pods match, or labels of the caller.
"""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import TYPE_CHECKING

from mockservice.mesh.draft import Draft, HeaderTexts
from mockservice.mesh.matching import example, examples
from mockservice.mesh.model import Note, Text, selects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mockservice.manifests.documents import Source
    from mockservice.mesh.model import Destination, Match, Mesh, Pairs, Route
    from mockservice.mesh.topology import Topology


class Tokens:
    """Reads the lanes that the rules of a mesh tell apart, without their pods."""

    def __init__(self, mesh: Mesh, topology: Topology) -> None:
        self._mesh = mesh
        self._topology = topology
        self.notes: list[Note] = []
        """What of the rules is to be told."""
        self.lane_header = self._most_used_header()
        """The header that most rules between pods match; None: they match labels only."""
        self.names_subsets = self._subsets_are_named_like_values()
        """Whether rules lead a value of the lane header to the subset of that name."""

    def drafts(self) -> list[Draft]:
        """The lanes."""
        for route, match in self._matches_between_pods():
            if match.without_headers:
                text = f"{route.source} matches withoutHeaders: lanes are not read out of that"
                self.notes.append(Note(text, route.source))
        drafts = self._lanes_of_headers()
        # A rule may ask for the header or for the labels of the same lane.
        known = {draft.name for draft in drafts}
        drafts += [draft for draft in self._lanes_of_labels() if draft.name not in known]
        return [*drafts, *self._lanes_by_convention(drafts)]

    def _most_used_header(self) -> str | None:
        """The header that most rules between pods ask for."""
        uses: Counter[str] = Counter()
        for _, match in self._matches_between_pods():
            uses.update(name.lower() for name, _ in match.headers)
        if not uses:
            return None
        at_gateway: Counter[str] = Counter()
        for table in self._mesh.gateway:
            for route in table.routes:
                at_gateway.update(name.lower() for m in route.matches for name, _ in m.headers)
                at_gateway.update(name.lower() for name, _ in set_headers(route))
        return max(uses, key=lambda name: (uses[name], at_gateway[name] > 0))

    def _matches_between_pods(self) -> Iterator[tuple[Route, Match]]:
        for table in self._mesh.calls:
            for route in table.routes:
                for match in route.matches:
                    yield route, match

    def _header_tokens(self) -> Iterator[tuple[HeaderTexts, Source | None]]:
        """What headers rules ask for: of the lane header itself at the gateway too.

        Other headers beside it belong to the token, unless a rule without them leads to the same.
        """
        asked = [
            (tuple((name.lower(), text) for name, text in match.headers), route, is_call)
            for tables, is_call in ((self._mesh.calls, True), (self._mesh.gateway, False))
            for table in tables
            for route in table.routes
            for match in route.matches
            if match.headers
        ]
        alone = {(headers, _led(route)) for headers, route, _ in asked if len(headers) == 1}
        for headers, route, is_call in asked:
            own = tuple(pair for pair in headers if pair[0] == self.lane_header)
            if own or is_call:
                yield own if (own, _led(route)) in alone else headers, route.source
        for table in self._mesh.gateway:
            for route in table.routes:
                for name, value in set_headers(route):
                    if name.lower() == self.lane_header:
                        yield ((name.lower(), Text("exact", value)),), route.source

    def _lanes_of_headers(self) -> list[Draft]:
        drafts: dict[HeaderTexts, Draft] = {}
        for headers, source in self._header_tokens():
            if headers in drafts:
                continue
            values = tuple((name, value) for name, text in headers if (value := example(text)))
            if len(values) < len(headers):
                asked = ", ".join(f"{name} {text.kind} {text.value!r}" for name, text in headers)
                self.notes.append(
                    Note(f"{source} matches {asked}: no value for it can be made up", source)
                )
                continue
            same = next((one for one in drafts.values() if one.values == values), None)
            if same is not None and _ways(same.headers) < _ways(headers):
                # It asks for more values of the same lane.
                same.headers = headers
            elif same is None:
                own = [pair for pair in headers if pair[0] == self.lane_header]
                name = _header_name(values, tuple(own) or headers)
                drafts[headers] = Draft(name, headers, values, source=source)
        names = Counter(draft.name for draft in drafts.values())
        for draft in drafts.values():
            if names[draft.name] > 1 and [one for one, _ in draft.values] != [self.lane_header]:
                draft.name = ", ".join(f"{name}: {value}" for name, value in draft.values)
        return list(drafts.values())

    def _lanes_of_labels(self) -> list[Draft]:
        rules: dict[Pairs, list[tuple[Destination, Route]]] = {}
        for route, match in self._matches_between_pods():
            if match.headers:
                continue
            labels = tuple(
                pair for pair in match.source_labels if not self._topology.is_name_of_app(pair)
            )
            if labels:
                rules.setdefault(labels, []).extend((one, route) for one in route.destinations)
        drafts: list[Draft] = []
        for labels, led in sorted(rules.items(), key=lambda item: -len(item[1])):
            source = led[0][1].source
            if not any(selects(labels, pod.labels) for pod in self._mesh.pods):
                text = f"{source} matches callers with {_shown(labels)}: no pod has these labels"
                self.notes.append(Note(text, source))
                continue
            name = self._subset_named_most(labels, [one for one, _ in led])
            if any(one.name == name for one in drafts):
                name = _shown(labels)
            drafts.append(Draft(name, labels=labels, source=source))
        return sorted(drafts, key=lambda one: one.name)

    def _subset_named_most(self, labels: Pairs, led: list[Destination]) -> str:
        counts = Counter(one.subset for one in led if one.subset is not None)
        if not counts:
            return ", ".join(value for _, value in labels)
        same_labels = {one.name for one in self._mesh.subsets if one.labels == labels}
        return max(counts, key=lambda name: (counts[name], name in same_labels))

    def _lanes_by_convention(self, drafts: list[Draft]) -> list[Draft]:
        """Where rules lead a value to the subset of that name, a subset names a lane.

        So a lane is known whose only rule is missing.
        """
        header = self.lane_header
        if header is None or not self.names_subsets:
            return []
        known = {draft.name for draft in drafts} | self._subsets_of_others()
        return [
            Draft(name, ((header, Text("exact", name)),), ((header, name),), source=subset.source)
            for name, subset in {one.name: one for one in reversed(self._mesh.subsets)}.items()
            if name not in known
        ]

    def _subsets_of_others(self) -> set[str]:
        """The subsets of one app that rules lead to which do not ask for the lane header."""
        led = {
            one.subset
            for table in (*self._mesh.gateway, *self._mesh.calls)
            for route in table.routes
            if not any(
                name.lower() == self.lane_header for m in route.matches for name, _ in m.headers
            )
            for one in route.destinations
            if one.subset is not None
        }
        apps = Counter(subset.name for subset in self._mesh.subsets)
        return {name for name in led if apps[name] == 1}

    def _subsets_are_named_like_values(self) -> bool:
        """Whether most rules lead a value of the lane header to the subset of that name.

        It takes rules at two apps at least: those at one alone may be a release of that app.
        """
        agreeing: set[str] = set()
        agree = differ = 0
        for table in (*self._mesh.gateway, *self._mesh.calls):
            for route in table.routes:
                values = {
                    text.value
                    for match in route.matches
                    for name, text in match.headers
                    if name.lower() == self.lane_header and text.kind == "exact"
                }
                if values and values == {one.subset for one in route.destinations}:
                    agree += 1
                    agreeing.update(one.host for one in route.destinations)
                elif values:
                    differ += 1
        return len(agreeing) > 1 and agree > differ


def set_headers(route: Route) -> Iterator[tuple[str, str]]:
    """The request headers that a route sets, or one of its destinations."""
    yield from route.headers.request.set
    for one in route.destinations:
        yield from one.headers.request.set


def _header_name(values: Pairs, headers: HeaderTexts) -> str:
    """What a lane of these headers is called: by their values, or by a header to be just there."""
    known = dict(values)
    return ", ".join(name if text.kind == "present" else known[name] for name, text in headers)


def _ways(headers: HeaderTexts) -> int:
    """How many requests are told to fit."""
    return prod(len(examples(text)) for _, text in headers)


def _shown(labels: Pairs) -> str:
    return ", ".join(f"{name}: {value}" for name, value in labels)


def _led(route: Route) -> frozenset[tuple[str, str | None]]:
    return frozenset((one.host, one.subset) for one in route.destinations)
