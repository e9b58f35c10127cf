"""The lane map: which lanes there are, how a request enters each, and what each is owed.

A lane is what a request asked for, and the map says what the mesh owes it at every app: pods of
its own, or else those of the baseline. `read_lane_map` in `mockservice.mesh.survey` makes one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mockservice.mesh.matching import fits, gateway_route
from mockservice.mesh.model import selects

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mockservice.manifests.documents import Source
    from mockservice.mesh.matching import Request
    from mockservice.mesh.model import Destination, Mesh, Note, Pairs, Route, Text
    from mockservice.mesh.topology import Topology

ID: Final = "{id}"
"""Stands in a header's value for an id of the request's own."""
_PRECISION: Final = {"present": 0, "regex": 1, "segments": 2, "prefix": 2, "exact": 3}
MAX_WAYS: Final = 3
"""Entrances of a lane that a text names."""


@dataclass(frozen=True, slots=True)
class Owed:
    """What a lane is owed at one app."""

    versions: frozenset[str]
    """Each of them is right. Empty: the request is to fail there, as a strict lane lacks the app.
    """
    is_own: bool
    """Whether they are the lane's own; else they are the baseline's, or those of all lanes."""

    def __str__(self) -> str:
        return " or ".join(sorted(self.versions)) or "none"


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane and what it is owed."""

    name: str
    owed: Mapping[str, Owed]
    """By app. Of an app that is not here any version is right."""
    headers: tuple[tuple[str, Text], ...] = ()
    """What a request between pods carries that is in this lane; empty where labels decide."""
    values: Pairs = ()
    """Headers and values that fit `headers`."""
    labels: Pairs = ()
    """Of callers that are in this lane; empty where headers decide."""
    source: Source | None = field(default=None, compare=False)

    def is_asked_by(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers, by lower-case name, is in this lane."""
        return bool(self.headers) and all(
            fits(text, headers.get(name)) for name, text in self.headers
        )

    @property
    def precision(self) -> tuple[int, int, int]:
        """How much it asks of headers: how many, how exactly, and how long they are."""
        kinds = [_PRECISION[text.kind] for _, text in self.headers]
        return len(kinds), min(kinds, default=0), sum(len(text.value) for _, text in self.headers)

    def owns(self, app: str, version: str) -> bool:
        """Whether the pods of an app's version are the lane's own."""
        owed = self.owed.get(app)
        return owed is not None and owed.is_own and version in owed.versions

    @property
    def token(self) -> str:
        """What marks the requests of this lane between pods: a header, or labels of the caller."""
        return ", ".join(f"{name}: {value}" for name, value in self.values or self.labels)


@dataclass(frozen=True, slots=True)
class Share:
    """A destination of an entrance, and the lane that requests are in that get there."""

    lane: str | None
    """None: no lane that the map knows."""
    weight: float
    destination: Destination
    is_spread: bool = False
    """Whether it is the lane's part of pods of several lanes, over which requests are balanced."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """A request that the gateway takes, and the lanes that it can enter."""

    host: str | None
    """What the `Host` header must be; None: anything."""
    path: str
    method: str
    headers: Pairs
    """`{id}` in a value stands for an id of the request's own."""
    shares: tuple[Share, ...]
    source: Source | None = field(default=None, compare=False)

    @property
    def fields(self) -> Pairs:
        """All header fields to send: `Host` too, where it matters."""
        return self.headers if self.host is None else (("host", self.host), *self.headers)

    @property
    def asks(self) -> Pairs:
        """The headers that tell this request from others, without ids."""
        return tuple(pair for pair in self.headers if ID not in pair[1])

    @property
    def weights(self) -> dict[str, float]:
        """The weights of the lanes, as the routes have them."""
        return weights_of(self.shares)

    @property
    def is_spread(self) -> bool:
        """Whether the lanes' shares come from balancing, which is not held against weights."""
        return any(share.is_spread for share in self.shares)

    @property
    def total(self) -> float:
        """The weights of all destinations together."""
        return sum(share.weight for share in self.shares)

    def __str__(self) -> str:
        """The request, such as `/shop with x-lane: blue`."""
        method = "" if self.method == "GET" else f"{self.method} "
        asked = f"{method}{self.host or ''}{self.path}"
        headers = ", ".join(f"{name}: {value}" for name, value in self.asks)
        return f"{asked} with {headers}" if headers else asked


@dataclass(frozen=True, slots=True)
class LaneMap:
    """All of it."""

    mesh: Mesh = field(repr=False)
    topology: Topology = field(repr=False, compare=False)
    lanes: tuple[Lane, ...]
    baseline: str | None
    """The lane that stands in for lanes without pods of their own; None: lanes are strict."""
    entrances: tuple[Entrance, ...]
    notes: tuple[Note, ...]
    unproved: tuple[str, ...] = ()
    """The apps whose versions are told apart, and that no request gets to: see `Topology.reached`.
    """

    @property
    def apps(self) -> list[str]:
        """The apps that requests get to, in call order."""
        return [app for app in self.topology.apps if any(app in one.owed for one in self.lanes)]

    def lane(self, name: str | None) -> Lane | None:
        """The lane of that name."""
        return next((lane for lane in self.lanes if lane.name == name), None)

    def owed(self, lane: str | None, app: str) -> Owed | None:
        """What a lane is owed at an app; None: any version is right."""
        found = self.lane(lane)
        return None if found is None else found.owed.get(app)

    def entrances_of(self, lane: str) -> list[Entrance]:
        """The requests that can enter a lane."""
        return [entrance for entrance in self.entrances if entrance.weights.get(lane)]

    def enters_by(self, lane: Lane) -> str:
        """How requests enter a lane, such as `/shop with x-lane: blue` or `/shop, 20 of 100`."""
        ways = []
        for entrance in self.entrances_of(lane.name):
            weight, total = entrance.weights[lane.name], entrance.total
            share = f", {weight:g} of {total:g}" if weight < total else ""
            ways.append(f"{entrance}{share}")
        if len(ways) > MAX_WAYS:
            ways[MAX_WAYS:] = [f"{len(ways) - MAX_WAYS} more"]
        return "; ".join(ways) or f"nothing at the gateway; {lane.token or 'any call'} between pods"

    @property
    def example(self) -> Entrance | None:
        """The request to begin with: the plain one or, if lanes need a header, that of one."""
        first = next(iter(self.entrances), None)
        if first is None:
            return None
        same = [one for one in self.entrances if (one.host, one.path) == (first.host, first.path)]
        plain = [one for one in same if not one.asks]
        others = [one for one in same if any(name != self.baseline for name in one.weights)]
        return (plain or others or same)[0]

    def lane_by_headers(self, headers: Mapping[str, str]) -> Lane | None:
        """The lane that a request with these headers asks for, by lower-case name.

        Of several the one that asks for most.
        """
        asked = [lane for lane in self.lanes if lane.is_asked_by(headers)]
        return max(asked, key=lambda lane: lane.precision, default=None)

    def lane_of(
        self,
        request: Request,
        received: Mapping[str, str] | None,
        first: tuple[str, str] | None,
    ) -> str | None:
        """The lane that a request is in.

        Args:
            request: as it was sent to the gateway.
            received: the headers that the first hop received, if it told them.
            first: app and version of the first hop, if one answered.

        Returns:
            The name; None where that cannot be told.
        """
        route = gateway_route(self.mesh, request)
        shares = () if route is None else self.shares(route, request.headers)
        taken = [share for share in shares if share.weight]
        lanes = {share.lane for share in taken}
        if len(lanes) == 1:
            return lanes.pop()
        if taken:
            return self._lane_taken(taken, received, first)
        asked = self.lane_by_headers(request.headers)
        if asked is not None:
            return asked.name
        # Where labels of the caller decide, a request is in the lane of its first hop.
        owners = [lane.name for lane in self.lanes if lane.labels and first and lane.owns(*first)]
        if len(owners) == 1:
            return owners[0]
        return None if self._fits_other_rule(request.headers) else self.baseline

    def weights(self, request: Request) -> dict[str, float]:
        """The weights of the lanes that a request enters, as the gateway's routes have them.

        Empty where it enters a lane for certain, or one that the map does not know.
        """
        route = gateway_route(self.mesh, request)
        shares = () if route is None else self.shares(route, request.headers)
        lanes = {share.lane for share in shares}
        if len(lanes) < 2 or None in lanes or any(share.is_spread for share in shares):
            return {}
        return weights_of(shares)

    def shares(self, route: Route, headers: Mapping[str, str]) -> tuple[Share, ...]:
        """The lanes that a route at the gateway leads to a request with these headers."""
        sets_lane = self.names_lane(route)
        shares: list[Share] = []
        for one in route.destinations:
            lane = self._lane_at(route, one, headers, sets_lane)
            spread = self._spread(one) if lane is None else []
            shares += spread or [Share(lane, one.weight, one)]
        return tuple(shares)

    def names_lane(self, route: Route) -> bool:
        """Whether the gateway sets a header that names a lane on that route."""
        return any(self._set_by(route, one) for one in route.destinations)

    def _lane_at(
        self,
        route: Route,
        destination: Destination,
        headers: Mapping[str, str],
        sets_lane: bool,
    ) -> str | None:
        """The lane of requests that a route sends to one of its destinations."""
        changes = (route.headers.request, destination.headers.request)
        removed = {name.lower() for one in changes for name in one.remove}
        kept = {name: value for name, value in headers.items() if name not in removed}
        lane = self.lane_by_headers(self._set_by(route, destination)) or self.lane_by_headers(kept)
        if lane is not None:
            return lane.name
        pods_there = self.topology.pods_at(destination)
        if destination.subset is not None and any(
            one.name == destination.subset and one.labels for one in self.lanes
        ):
            return destination.subset
        if self._fits_other_rule(kept):
            return None
        by_headers = any(one.headers for one in self.lanes)
        if not by_headers or (sets_lane and len(route.destinations) > 1):
            found = self._lane_of_pods(destination)
            if found is not None:
                return found
        if route.matches and all(
            match.headers or match.query or match.authority for match in route.matches
        ):
            # Who asks for something else than the lanes' headers may be led elsewhere: no lane.
            owed = {pod.app: self.owed(self.baseline, pod.app) for pod in pods_there}
            if any(
                (one := owed[pod.app]) and pod.version not in one.versions for pod in pods_there
            ):
                return None
        return self.baseline

    def _fits_other_rule(self, headers: Mapping[str, str]) -> bool:
        """Whether a rule between pods asks for these headers, of which no lane could be made."""
        return any(
            match.headers
            and all(fits(text, headers.get(name.lower())) for name, text in match.headers)
            for table in self.mesh.calls
            for route in table.routes
            for match in route.matches
        )

    def _spread(self, destination: Destination) -> list[Share]:
        """The parts of a destination whose pods are of several lanes, where their labels decide."""
        pods = self.topology.pods_at(destination)
        parts = [
            (lane, sum(selects(lane.labels, pod.labels) for pod in pods))
            for lane in self.lanes
            if lane.labels
        ]
        return [
            Share(lane.name, destination.weight * count / len(pods), destination, is_spread=True)
            for lane, count in parts
            if count
        ]

    def _set_by(self, route: Route, destination: Destination) -> dict[str, str]:
        """The headers that name a lane and that the gateway sets on the way to a destination."""
        names = {name for lane in self.lanes for name, _ in lane.headers}
        changes = (route.headers.request, destination.headers.request)
        fields = [pair for one in changes for pair in (*one.add, *one.set)]
        return {name.lower(): value for name, value in fields if name.lower() in names}

    def _lane_of_pods(self, destination: Destination) -> str | None:
        """The lane whose own pods a destination leads to."""
        pods = self.topology.pods_at(destination)
        for lane in self.lanes:
            owed = {pod.app: lane.owed.get(pod.app) for pod in pods}
            if pods and all(
                (one := owed[pod.app]) is not None and one.is_own and pod.version in one.versions
                for pod in pods
            ):
                return lane.name
        return None

    def _are_told_by_headers(self, lanes: set[str | None]) -> bool:
        """Whether each of these lanes but the baseline is one of headers."""
        known = [self.lane(name) for name in lanes if name != self.baseline]
        return all(one is not None and one.headers for one in known)

    def _lane_taken(
        self,
        shares: list[Share],
        received: Mapping[str, str] | None,
        first: tuple[str, str] | None,
    ) -> str | None:
        """The lane of a request that could have entered several: by what the first hop shows."""
        lanes = {share.lane for share in shares}
        asked = None if received is None else self.lane_by_headers(received)
        if asked is not None and asked.name in lanes:
            return asked.name
        if received is not None and self.baseline in lanes and self._are_told_by_headers(lanes):
            return self.baseline
        if first is None:
            return None
        app, version = first
        led = {
            share.lane
            for share in shares
            if any(
                (pod.app, pod.version) == first for pod in self.topology.pods_at(share.destination)
            )
        }
        if len(led) == 1:
            return led.pop()
        owing = [
            lane for lane in lanes if (one := self.owed(lane, app)) and version in one.versions
        ]
        return owing[0] if len(owing) == 1 else None


def weights_of(shares: Iterable[Share]) -> dict[str, float]:
    """The weights of the lanes that are known."""
    weights: dict[str, float] = {}
    for share in shares:
        if share.lane is not None:
            weights[share.lane] = weights.get(share.lane, 0) + share.weight
    return weights
