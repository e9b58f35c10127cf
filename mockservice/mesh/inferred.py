"""Lanes that manifests imply: read out of the rules of Istio and of the Gateway API.

A lane is what rules between pods tell apart: the value of a header, or labels of the caller. Its
pods at an app are those that a rule for it leads to, those of the subset of its name, and those of
the version that it has at other apps. These say the same where lanes are sound; where they do not,
the subset's name counts more than the rule, and the version of the other apps more than both where
these lead to pods that belong to another lane.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from mockservice.mesh.draft import Draft, Versions
from mockservice.mesh.entrances import kinds
from mockservice.mesh.matching import Request, first_route, fits, gateway_routes
from mockservice.mesh.model import Note, selects
from mockservice.mesh.settled import Settlement
from mockservice.mesh.tokens import Tokens
from mockservice.mesh.topology import versions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mockservice.mesh.lane_map import Lane
    from mockservice.mesh.model import Destination, Mesh, Route
    from mockservice.mesh.topology import Call, Topology


def inferred_lanes(mesh: Mesh, topology: Topology) -> tuple[list[Lane], str | None, list[Note]]:
    """The lanes, the baseline if there is one, and what of the rules is to be told."""
    return _Reader(mesh, topology).read()


class _Reader:
    def __init__(self, mesh: Mesh, topology: Topology) -> None:
        self._mesh = mesh
        self._topology = topology
        self._tokens = Tokens(mesh, topology)
        self._kinds = kinds(mesh, ())
        self._notes: list[Note] = []
        self._drafts: list[Draft] = []

    def read(self) -> tuple[list[Lane], str | None, list[Note]]:
        self._drafts = self._tokens.drafts()
        for draft in self._drafts:
            self._read_rules(draft)
        baseline = self._read_baseline()
        self._doubt_names()
        for draft in [*self._drafts, *([baseline] if baseline else [])]:
            self._read_names(draft, baseline)
        if baseline is not None:
            self._drafts = [one for one in self._drafts if self._differs(one, baseline)]
        settlement = Settlement(self._mesh, self._topology, self._drafts, baseline)
        lanes = settlement.lanes()
        notes = [*self._tokens.notes, *self._notes, *settlement.notes]
        return lanes, None if baseline is None else baseline.name, notes

    def _calls_to(self, app: str) -> list[Call]:
        return [*self._topology.calls_to(app), *self._topology.calls_by_nobody(app)]

    def _read_rules(self, draft: Draft) -> None:
        values = dict(draft.values)
        for app in self._topology.apps:
            led: list[Destination] = []
            for call in self._calls_to(app):
                table = self._topology.table(call.service)
                if table is None:
                    continue
                caller = call.caller.labels
                if draft.labels and not selects(draft.labels, caller):
                    continue
                asked = call.request(values)
                plain = call.request(
                    labels=tuple(pair for pair in caller if pair not in draft.labels)
                )
                led += _specific(table.routes, asked, plain)
            if app in self._topology.entries and draft.headers:
                for host, path, method, headers in self._kinds:
                    routes = gateway_routes(self._mesh, host)
                    others = {**dict(headers), **dict.fromkeys(values, "")}
                    plain = Request(path, method, others, host=host)
                    asked = Request(path, method, {**dict(headers), **values}, host=host)
                    led += _specific(routes, asked, plain)
                    led += _marked(first_route(routes, plain), draft)
            draft.subsets.update({one.subset for one in led if one.subset is not None})
            found = self._versions_at(app, led)
            if found:
                draft.ruled[app] = found
                if len({(one.host, one.subset) for one in led}) > 1 and len(found) > 1:
                    draft.split.add(app)

    def _doubt_names(self) -> None:
        """Where subsets name lanes, do not believe a rule that leads a lane to another's subset.

        It may share that lane's pods, but not where no rule leads the other lane there.
        """
        if not self._tokens.names_subsets:
            return
        for app in self._topology.apps:
            for draft in self._drafts:
                for other in self._drafts:
                    theirs = self._topology.pods_of_subset(app, other.name)
                    is_turned = (
                        draft.name != other.name
                        and bool(draft.headers)
                        and theirs
                        and app not in other.ruled
                        and draft.ruled.get(app) == versions(theirs)
                    )
                    if is_turned:
                        text = f"lane {draft.name}: a rule leads it to {app} of lane {other.name}"
                        header = self._tokens.lane_header
                        if all(name != header for name, _ in draft.headers):
                            text += f", but other rules match the header {header}"
                        self._notes.append(Note(text, draft.source, fails=True))
                        del draft.ruled[app]

    def _read_baseline(self) -> Draft | None:
        """What requests get that are in no lane: by most of the routes without a match."""
        led: dict[str, list[Destination]] = {}
        ruled: set[str] = set()
        for app in self._topology.apps:
            for call in self._calls_to(app):
                table = self._topology.table(call.service)
                if table is None:
                    continue
                others = tuple(
                    pair
                    for pair in call.caller.labels
                    if not any(pair in draft.labels for draft in self._drafts)
                )
                route = first_route(table.routes, call.request(labels=others))
                tells = any(m.headers or m.source_labels for r in table.routes for m in r.matches)
                # Who calls an app decides about labels: nobody's calls do not speak against it.
                if tells and (route is not None or call.caller.name):
                    ruled.add(app)
                if route is not None:
                    led.setdefault(app, []).extend(route.destinations)
        if not led or 2 * len(ruled & led.keys()) < len(ruled):
            return None
        for host, path, method, headers in self._kinds:
            if headers:
                continue
            route = first_route(gateway_routes(self._mesh, host), Request(path, method, host=host))
            if route is not None and len(route.destinations) == 1:
                for pod in self._topology.pods_at(route.destinations[0])[:1]:
                    led.setdefault(pod.app, []).extend(route.destinations)
        likeliest = [self._likeliest_names(destinations) for destinations in led.values()]
        names = Counter(name for found in likeliest for name in found)
        draft = Draft("baseline")
        # Beside other lanes, a baseline that differs from app to app is a slip.
        if names and (self._drafts or not _differ(names, likeliest)):
            at = Counter(subset.name for subset in self._mesh.subsets)
            name = max(names, key=lambda one: (names[one], at[one]))
            same = next((one for one in self._drafts if one.name == name), None)
            draft = Draft(name) if same is None else replace(same)
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
            one.subset
            for one in destinations
            if one.subset is not None and one.weight == heaviest and self._topology.pods_at(one)
        }

    def _read_names(self, draft: Draft, baseline: Draft | None) -> None:
        """The pods of the subsets that are named like a lane, or that its rules lead to."""
        name = draft.name
        if not any(self._topology.pods_of_subset(app, name) for app in self._topology.apps):
            # The lane's value is not its subsets' name: one that rules at several apps have is.
            known = [subset for subset, apps in draft.subsets.most_common(1) if apps > 1]
            taken = {one.name for one in (*self._drafts, *([baseline] if baseline else []))}
            name = known[0] if known and known[0] not in taken else name
        for app in self._topology.apps:
            pods = self._topology.pods_of_subset(app, name)
            if pods:
                draft.named[app] = versions(pods)

    def _differs(self, draft: Draft, baseline: Draft) -> bool:
        """Whether a lane is anything beside the baseline: not what only a fault is injected for."""
        if any(name == self._tokens.lane_header for name, _ in draft.headers):
            return True
        return any(
            draft.explicit(app) not in (None, baseline.explicit(app)) for app in self._topology.apps
        )

    def _versions_at(self, app: str, led: Iterable[Destination]) -> Versions:
        return versions(
            pod
            for destination in led
            if destination.weight
            for pod in self._topology.pods_at(destination)
            if pod.app == app
        )


def _differ(names: Counter[str], by_app: Iterable[set[str]]) -> bool:
    """Whether apps have their defaults in subsets of several names, none of which most have."""
    most = max(names.values())
    tied = {name for name, count in names.items() if count == most}
    return not set.intersection(*[found & tied for found in by_app if found & tied])


def _specific(routes: Iterable[Route], asked: Request, plain: Request) -> list[Destination]:
    """Where a request of a lane goes, if it goes there because of the lane."""
    routes = list(routes)
    route = first_route(routes, asked)
    if route is None or route is first_route(routes, plain):
        return []
    return list(route.destinations)


def _marked(route: Route | None, draft: Draft) -> list[Destination]:
    """The destinations of a route that set what names the lane."""
    if route is None:
        return []
    found = []
    for one in route.destinations:
        changes = (*route.headers.request.set, *one.headers.request.set)
        headers = {name.lower(): value for name, value in changes}
        if all(fits(text, headers.get(name)) for name, text in draft.headers):
            found.append(one)
    return found
