"""Lanes that manifests imply: read out of the rules of Istio and of the Gateway API.

A lane is what rules between pods tell apart: the value of a header, or labels of the caller. Its
pods at an app are those that a rule for it leads to, those of the subset of its name, and those of
the version that it has at other apps. These say the same where lanes are sound; where they do not,
the subset's name counts more than the rule, and the version of the other apps more than both where
these lead to pods that belong to another lane.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mockservice.mesh.entrances import kinds
from mockservice.mesh.lane_map import Lane, Note, Owed
from mockservice.mesh.matching import Request, example, first_route, fits, gateway_routes
from mockservice.mesh.model import Text, selects
from mockservice.mesh.topology import versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mockservice.manifests.documents import Source
    from mockservice.mesh.model import Destination, Match, Mesh, Pairs, Route
    from mockservice.mesh.topology import Topology

HeaderTexts = tuple[tuple[str, Text], ...]
Versions = frozenset[str]


@dataclass(slots=True)
class _Draft:
    """A lane while it is read."""

    name: str
    headers: HeaderTexts = ()
    values: Pairs = ()
    labels: Pairs = ()
    source: Source | None = None
    ruled: dict[str, Versions] = field(default_factory=dict)
    """By app, what rules for this lane alone lead to."""
    split: set[str] = field(default_factory=set)
    """The apps at which a rule leads to several destinations."""
    named: dict[str, Versions] = field(default_factory=dict)
    """By app, the pods of the subset that has the lane's name."""

    def explicit(self, app: str) -> Versions | None:
        """The pods of its own at an app, by rule or by name."""
        if app in self.split:
            return self.ruled[app]
        return self.named.get(app) or self.ruled.get(app)


def inferred_lanes(mesh: Mesh, topology: Topology) -> tuple[list[Lane], str | None, list[Note]]:
    """The lanes, the baseline if there is one, and what of the rules is to be told."""
    return _Reader(mesh, topology).read()


class _Reader:
    def __init__(self, mesh: Mesh, topology: Topology) -> None:
        self._mesh = mesh
        self._topology = topology
        self._notes: list[Note] = []
        self._lane_header = self._most_used_header()
        self._names_subsets = self._subsets_are_named_like_values()
        self._drafts: list[_Draft] = []

    def read(self) -> tuple[list[Lane], str | None, list[Note]]:
        self._drafts = [*self._lanes_of_headers(), *self._lanes_of_labels()]
        self._drafts += self._lanes_by_convention()
        kinds_of_requests = self._kinds()
        for draft in self._drafts:
            self._read_rules(draft, kinds_of_requests)
        baseline = self._read_baseline(kinds_of_requests)
        self._doubt_names()
        for draft in [*self._drafts, *([baseline] if baseline else [])]:
            self._read_names(draft)
        if baseline is not None:
            self._drafts = [one for one in self._drafts if self._differs(one, baseline)]
        everyone = [*([baseline] if baseline else []), *self._drafts]
        base = {} if baseline is None else self._owed_to_baseline(baseline)
        lanes = [] if baseline is None else [self._lane(baseline, base)]
        lanes += [
            self._lane(draft, self._owed(draft, base, everyone, baseline)) for draft in self._drafts
        ]
        return lanes, None if baseline is None else baseline.name, self._notes

    # What tells lanes apart

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
                at_gateway.update(name.lower() for name, _ in _set_headers(route))
        return max(uses, key=lambda name: (uses[name], at_gateway[name] > 0))

    def _matches_between_pods(self) -> Iterator[tuple[Route, Match]]:
        for table in self._mesh.calls:
            for route in table.routes:
                for match in route.matches:
                    yield route, match

    def _header_tokens(self) -> Iterator[tuple[HeaderTexts, Source | None]]:
        """What headers rules ask for: of the lane header itself at the gateway too.

        Other headers beside it belong to the token only where no rule does without them.
        """
        asked = [
            (tuple((name.lower(), text) for name, text in match.headers), route.source, is_call)
            for tables, is_call in ((self._mesh.calls, True), (self._mesh.gateway, False))
            for table in tables
            for route in table.routes
            for match in route.matches
            if match.headers
        ]
        alone = {headers for headers, _, _ in asked if len(headers) == 1}
        for headers, source, is_call in asked:
            own = tuple(pair for pair in headers if pair[0] == self._lane_header)
            if own or is_call:
                yield own if own in alone else headers, source
        for table in self._mesh.gateway:
            for route in table.routes:
                for name, value in _set_headers(route):
                    if name.lower() == self._lane_header:
                        yield ((name.lower(), Text("exact", value)),), route.source

    def _lanes_of_headers(self) -> list[_Draft]:
        drafts: dict[HeaderTexts, _Draft] = {}
        for headers, source in self._header_tokens():
            if headers in drafts:
                continue
            values = tuple((name, value) for name, text in headers if (value := example(text)))
            if len(values) < len(headers):
                asked = ", ".join(f"{name} {text.kind} {text.value!r}" for name, text in headers)
                self._notes.append(
                    Note(f"{source} matches {asked}: no value for it can be made up", source)
                )
                continue
            if all(one.values != values for one in drafts.values()):
                own = [pair for pair in headers if pair[0] == self._lane_header]
                name = _header_name(values, tuple(own) or headers)
                drafts[headers] = _Draft(name, headers, values, source=source)
        names = Counter(draft.name for draft in drafts.values())
        for draft in drafts.values():
            if names[draft.name] > 1 and [one for one, _ in draft.values] != [self._lane_header]:
                draft.name = ", ".join(f"{name}: {value}" for name, value in draft.values)
        return list(drafts.values())

    def _lanes_of_labels(self) -> list[_Draft]:
        rules: dict[Pairs, list[tuple[Destination, Route]]] = {}
        for route, match in self._matches_between_pods():
            if match.headers:
                continue
            labels = tuple(
                pair for pair in match.source_labels if not self._topology.is_name_of_app(pair)
            )
            if labels:
                rules.setdefault(labels, []).extend((one, route) for one in route.destinations)
        drafts: list[_Draft] = []
        for labels, led in sorted(rules.items(), key=lambda item: -len(item[1])):
            source = led[0][1].source
            if not any(selects(labels, pod.labels) for pod in self._mesh.pods):
                text = f"{source} matches callers with {_shown(labels)}: no pod has these labels"
                self._notes.append(Note(text, source))
                continue
            name = self._subset_named_most(labels, [one for one, _ in led])
            if any(one.name == name for one in drafts):
                name = _shown(labels)
            drafts.append(_Draft(name, labels=labels, source=source))
        return sorted(drafts, key=lambda one: one.name)

    def _subset_named_most(self, labels: Pairs, led: list[Destination]) -> str:
        counts = Counter(one.subset for one in led if one.subset is not None)
        if not counts:
            return ", ".join(value for _, value in labels)
        same_labels = {one.name for one in self._mesh.subsets if one.labels == labels}
        return max(counts, key=lambda name: (counts[name], name in same_labels))

    def _lanes_by_convention(self) -> list[_Draft]:
        """Where rules lead a value to the subset of that name, a subset names a lane.

        So a lane is known whose only rule is missing.
        """
        header = self._lane_header
        if header is None or not self._names_subsets:
            return []
        known = {draft.name for draft in self._drafts}
        return [
            _Draft(name, ((header, Text("exact", name)),), ((header, name),), source=subset.source)
            for name, subset in {one.name: one for one in reversed(self._mesh.subsets)}.items()
            if name not in known
        ]

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
                    if name.lower() == self._lane_header and text.kind == "exact"
                }
                if values and values == {one.subset for one in route.destinations}:
                    agree += 1
                    agreeing.update(one.host for one in route.destinations)
                elif values:
                    differ += 1
        return len(agreeing) > 1 and agree > differ

    # What rules and names say

    def _kinds(self) -> list[tuple[str | None, str, str, Pairs]]:
        return list(kinds(self._mesh, ()))

    def _read_rules(
        self, draft: _Draft, kinds_of_requests: list[tuple[str | None, str, str, Pairs]]
    ) -> None:
        values = dict(draft.values)
        for app in self._topology.apps:
            led: list[Destination] = []
            for call in self._topology.calls_to(app):
                table = self._topology.table(call.service)
                if table is None:
                    continue
                caller = call.caller.labels
                if draft.labels and not selects(draft.labels, caller):
                    continue
                others = tuple(pair for pair in caller if pair not in draft.labels)
                asked = Request(call.path, headers=values, source_labels=caller)
                plain = Request(call.path, source_labels=others)
                led += _specific(table.routes, asked, plain)
            if app in self._topology.entries and draft.headers:
                for host, path, method, headers in kinds_of_requests:
                    routes = gateway_routes(self._mesh, host)
                    plain = Request(path, method, {**dict(headers), **dict.fromkeys(values, "")})
                    led += _specific(
                        routes, Request(path, method, {**dict(headers), **values}), plain
                    )
                    led += _marked(first_route(routes, plain), draft)
            found = self._versions_at(app, led)
            if found:
                draft.ruled[app] = found
                if len({(one.host, one.subset) for one in led}) > 1 and len(found) > 1:
                    draft.split.add(app)

    def _doubt_names(self) -> None:
        """Where subsets name lanes, do not believe a rule that leads a lane to another's subset.

        It may share that lane's pods, but not where no rule leads the other lane there.
        """
        if not self._names_subsets:
            return
        for app in self._topology.apps:
            for draft in self._drafts:
                for other in self._drafts:
                    theirs = self._topology.pods_of_subset(app, other.name)
                    is_turned = (
                        draft is not other
                        and bool(draft.headers)
                        and theirs
                        and app not in other.ruled
                        and draft.ruled.get(app) == versions(theirs)
                    )
                    if is_turned:
                        text = f"lane {draft.name}: a rule leads it to {app} of lane {other.name}"
                        self._notes.append(Note(text, draft.source, fails=True))
                        del draft.ruled[app]

    def _read_baseline(
        self, kinds_of_requests: list[tuple[str | None, str, str, Pairs]]
    ) -> _Draft | None:
        """What requests get that are in no lane: by most of the routes without a match."""
        led: dict[str, list[Destination]] = {}
        ruled: set[str] = set()
        for app in self._topology.apps:
            for call in self._topology.calls_to(app):
                table = self._topology.table(call.service)
                if table is None:
                    continue
                if any(m.headers or m.source_labels for r in table.routes for m in r.matches):
                    ruled.add(app)
                others = tuple(
                    pair
                    for pair in call.caller.labels
                    if not any(pair in draft.labels for draft in self._drafts)
                )
                route = first_route(table.routes, Request(call.path, source_labels=others))
                if route is not None:
                    led.setdefault(app, []).extend(route.destinations)
        if not led or 2 * len(ruled & led.keys()) < len(ruled):
            return None
        for host, path, method, headers in kinds_of_requests:
            if headers:
                continue
            route = first_route(gateway_routes(self._mesh, host), Request(path, method))
            if route is not None and len(route.destinations) == 1:
                for pod in self._topology.pods_at(route.destinations[0])[:1]:
                    led.setdefault(pod.app, []).extend(route.destinations)
        names: Counter[str] = Counter()
        for destinations in led.values():
            names.update(self._likeliest_names(destinations))
        draft = _Draft("baseline")
        if names:
            at = Counter(subset.name for subset in self._mesh.subsets)
            name = max(names, key=lambda one: (names[one], at[one]))
            same = next((one for one in self._drafts if one.name == name), None)
            draft = _Draft(name) if same is None else replace(same)
        for app, destinations in led.items():
            found = self._versions_at(app, destinations)
            if found:
                draft.ruled[app] = found
                if len(found) > 1 and len({(d.host, d.subset) for d in destinations}) > 1:
                    draft.split.add(app)
        if not names:
            counts = Counter(v for found in draft.ruled.values() for v in found)
            draft.name = max(counts, key=lambda one: counts[one])
            same = next((one for one in self._drafts if one.name == draft.name), None)
            if same is not None:
                draft = replace(same, ruled=draft.ruled, split=draft.split)
        self._drafts = [one for one in self._drafts if one.name != draft.name]
        return draft

    def _likeliest_names(self, destinations: list[Destination]) -> set[str]:
        heaviest = max((one.weight for one in destinations), default=0)
        return {
            one.subset for one in destinations if one.subset is not None and one.weight == heaviest
        }

    def _read_names(self, draft: _Draft) -> None:
        for app in self._topology.apps:
            pods = self._topology.pods_of_subset(app, draft.name)
            if pods:
                draft.named[app] = versions(pods)

    def _differs(self, draft: _Draft, baseline: _Draft) -> bool:
        """Whether a lane is anything beside the baseline: not what only a fault is injected for."""
        if any(name == self._lane_header for name, _ in draft.headers):
            return True
        return any(
            draft.explicit(app) not in (None, baseline.explicit(app)) for app in self._topology.apps
        )

    # What they come to

    def _owed_to_baseline(self, draft: _Draft) -> dict[str, Owed]:
        owed: dict[str, Owed] = {}
        others = [one for one in self._drafts if one is not draft]
        for app in self._topology.apps:
            everything = self._topology.versions(app)
            explicit, usual = draft.explicit(app), self._usual(draft, app, {})
            if explicit is not None:
                owed[app] = Owed(self._settled(draft, app, usual, others, None), is_own=True)
            elif usual is not None:
                owed[app] = Owed(usual, is_own=True)
            elif len(everything) == 1:
                owed[app] = Owed(everything, is_own=True)
        return owed

    def _owed(
        self,
        draft: _Draft,
        base: Mapping[str, Owed],
        everyone: list[_Draft],
        baseline: _Draft | None,
    ) -> dict[str, Owed]:
        owed: dict[str, Owed] = {}
        others = [one for one in everyone if one is not draft and one is not baseline]
        for app in self._topology.apps:
            usual, baselines = self._usual(draft, app, base), base.get(app)
            everything = self._topology.versions(app)
            if draft.explicit(app) is not None:
                found = self._settled(draft, app, usual, others, baselines)
                by_baseline = baselines is not None and found == baselines.versions
                is_own = not by_baseline or app in draft.named or app in draft.split
                owed[app] = Owed(found, is_own=is_own)
            elif baseline is not None:
                if baselines is not None:
                    owed[app] = replace(baselines, is_own=False)
            elif usual is not None:
                owed[app] = Owed(usual, is_own=True)
            elif self._has_routes(app):
                owed[app] = Owed(frozenset(), is_own=False)
            elif len(everything) == 1:
                owed[app] = Owed(everything, is_own=False)
        return owed

    def _settled(
        self,
        draft: _Draft,
        app: str,
        usual: Versions | None,
        others: Iterable[_Draft],
        baselines: Owed | None,
    ) -> Versions:
        """The pods that rules and subsets give to a lane, or what it is to have in their place."""
        explicit = draft.explicit(app) or frozenset()
        if app in draft.split or explicit == usual:
            return explicit
        # A rule may lead a lane to others' pods on purpose, unless it has several of its own.
        is_meant = app not in draft.named and self._apps_with(draft, usual) < 2
        theirs = [found for one in others if (found := one.explicit(app))]
        if baselines is not None:
            theirs.append(baselines.versions)
        wanted = explicit
        if len(explicit) > 1:
            # Pods of several versions are one lane's, unless some of them are another's.
            taken = explicit.intersection(*[frozenset().union(*theirs)])
            if taken and usual is not None and usual <= explicit:
                wanted = usual
            elif taken:
                wanted = explicit - taken or explicit
        elif usual is not None and explicit in theirs and not is_meant:
            wanted = usual
        if wanted != explicit:
            self._disagree(draft.name, app, explicit, wanted)
        elif usual is not None:
            self._differ(draft.name, app, explicit, usual)
        return wanted

    def _usual(self, draft: _Draft, app: str, base: Mapping[str, Owed]) -> Versions | None:
        """The version that a lane has at most of the other apps, where this app has it too."""
        counts: Counter[str] = Counter()
        for other in self._topology.apps:
            found = draft.explicit(other)
            if other == app or found is None or len(found) != 1:
                continue
            if other in base and base[other].versions == found:
                continue
            counts.update(found)
        ranked = counts.most_common(2)
        if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
            return None
        usual = frozenset({ranked[0][0]})
        return usual if usual <= self._topology.versions(app) else None

    def _apps_with(self, draft: _Draft, found: Versions | None) -> int:
        """At how many apps a lane has these versions."""
        return sum(draft.explicit(app) == found for app in self._topology.apps)

    def _has_routes(self, app: str) -> bool:
        calls = self._topology.calls_to(app)
        return app in self._topology.entries or any(
            self._topology.table(call.service) is not None for call in calls
        )

    def _disagree(self, lane: str, app: str, explicit: Versions, wanted: Versions) -> None:
        text = (
            f"lane {lane}: rules and subsets lead to {app}({_either(explicit)}), which other lanes"
            f" have; it is taken to be owed {app}({_either(wanted)})"
        )
        self._notes.append(Note(text, self._source_of(app, lane), fails=True))

    def _differ(self, lane: str, app: str, explicit: Versions, usual: Versions) -> None:
        text = (
            f"lane {lane}: rules and subsets lead to {app}({_either(explicit)}); at other apps the"
            f" lane is {_either(usual)}, which {app} has too"
        )
        self._notes.append(Note(text, self._source_of(app, lane)))

    def _source_of(self, app: str, lane: str) -> Source | None:
        """Where a lane's subset of an app stands."""
        hosts = {service.host for service in self._topology.services_of(app)}
        subsets = (one for one in self._mesh.subsets if one.name == lane and one.host in hosts)
        return next((one.source for one in subsets), None)

    def _versions_at(self, app: str, led: Iterable[Destination]) -> Versions:
        return versions(
            pod
            for destination in led
            if destination.weight
            for pod in self._topology.pods_at(destination)
            if pod.app == app
        )

    def _lane(self, draft: _Draft, owed: Mapping[str, Owed]) -> Lane:
        return Lane(
            draft.name,
            owed,
            headers=draft.headers,
            values=draft.values,
            labels=draft.labels,
            source=draft.source,
        )


def _specific(routes: Iterable[Route], asked: Request, plain: Request) -> list[Destination]:
    """Where a request of a lane goes, if it goes there because of the lane."""
    routes = list(routes)
    route = first_route(routes, asked)
    if route is None or route is first_route(routes, plain):
        return []
    return list(route.destinations)


def _set_headers(route: Route) -> Iterator[tuple[str, str]]:
    """The request headers that a route sets, or one of its destinations."""
    yield from route.headers.request.set
    for one in route.destinations:
        yield from one.headers.request.set


def _marked(route: Route | None, draft: _Draft) -> list[Destination]:
    """The destinations of a route that set what names the lane."""
    if route is None:
        return []
    found = []
    for one in route.destinations:
        headers = dict(route.headers.request.set) | dict(one.headers.request.set)
        if all(fits(text, headers.get(name)) for name, text in draft.headers):
            found.append(one)
    return found


def _either(found: Versions) -> str:
    return " or ".join(sorted(found))


def _header_name(values: Pairs, headers: HeaderTexts) -> str:
    """What a lane of these headers is called: by their values, or by a header to be just there."""
    known = dict(values)
    return ", ".join(name if text.kind == "present" else known[name] for name, text in headers)


def _shown(labels: Pairs) -> str:
    return ", ".join(f"{name}: {value}" for name, value in labels)
