"""Why a hop was not the one that its lane is owed: the rule that did it, with file and line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mockservice.mesh.matching import Request, first_route, gateway_route
from mockservice.mesh.topology import versions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mockservice.manifests.documents import Source
    from mockservice.mesh.lane_map import Lane, LaneMap
    from mockservice.mesh.model import Destination, Route
    from mockservice.mesh.topology import Call


@dataclass(frozen=True, slots=True)
class Blame:
    """What led a request elsewhere."""

    reason: str
    source: Source | None = None
    """Where it stands in the manifests; None where nothing there did it."""
    has_route: bool = True
    """Whether there was any route to take."""


def blame_gateway(lane_map: LaneMap, lane: Lane, request: Request, version: str) -> Blame:
    """Why the first hop is not what the lane is owed."""
    route = gateway_route(lane_map.mesh, request)
    if route is None:
        return Blame("no rule at the gateway matches the request", lane.source, has_route=False)
    for share in lane_map.shares(route, request.headers):
        if share.weight and version in versions(lane_map.topology.pods_at(share.destination)):
            return _led(lane_map, lane, route, share.destination)
    return Blame(f"{route.source} leads elsewhere", route.source)


def blame_call(
    lane_map: LaneMap,
    lane: Lane,
    app: str,
    seen: str | None,
    caller: tuple[str, str],
    given: Mapping[str, str] | None,
    got: Mapping[str, str] | None,
) -> Blame:
    """Why a hop between pods is not what the lane is owed.

    Args:
        lane_map: what is owed.
        lane: the lane of the request.
        app: the app that was called.
        seen: the version that answered; None: none did.
        caller: app and version of the hop before.
        given: the headers that the caller received, by lower-case name; None: it did not tell.
        got: the same of the hop itself.
    """
    call = _call(lane_map, app, caller)
    if call is None:
        return Blame(f"{caller[0]}({caller[1]}) does not call {app}")
    table = lane_map.topology.table(call.service)
    if table is None:
        subset = next((one for one in lane_map.mesh.subsets if one.host == call.service.host), None)
        reason = f"no rule routes the calls of {call.service.name}, they are spread over all pods"
        return Blame(reason, lane.source if subset is None else subset.source)
    labels = call.caller.labels
    route = first_route(table.routes, call.request(dict(lane.values)))
    others = tuple(pair for pair in labels if pair not in lane.labels)
    plain = first_route(table.routes, call.request(labels=others))
    is_baseline = lane.name == lane_map.baseline
    unmatched = f"no rule of {table.source} matches {lane.token or 'the request'}"
    if route is None:
        if lost := _lost(lane_map, lane, caller, given, got):
            return Blame(lost, has_route=False)
        return Blame(unmatched, table.source, has_route=False)
    led = [
        one
        for one in route.destinations
        if one.weight and seen in versions(lane_map.topology.pods_at(one))
    ]
    if led and route is plain and not is_baseline:
        return Blame(unmatched, table.source)
    if led:
        return _led(lane_map, lane, route, led[0])
    # The rules would lead it where it is owed: it did not look like a request of the lane.
    if lost := _lost(lane_map, lane, caller, given, got):
        return Blame(lost, plain.source if plain else table.source, has_route=plain is not None)
    return Blame(f"{route.source} did not lead there", route.source)


def _call(lane_map: LaneMap, app: str, caller: tuple[str, str]) -> Call | None:
    """A call to an app that a hop makes, of the pod that shows itself so."""
    calls = [
        call
        for call in lane_map.topology.calls(caller[0])
        if app in lane_map.topology.reached_by(call)
    ]
    same = [call for call in calls if call.caller.version == caller[1]]
    return next(iter(same or calls), None)


def _lost(
    lane_map: LaneMap,
    lane: Lane,
    caller: tuple[str, str],
    given: Mapping[str, str] | None,
    got: Mapping[str, str] | None,
) -> str | None:
    """Where the header that names the lane got lost, or another one came in, if it did."""
    if got is None:
        return None
    hop = f"{caller[0]}({caller[1]})"
    other = lane_map.lane_by_headers(got)
    if (
        given is not None
        and other is not None
        and other is not lane
        and not other.is_asked_by(given)
    ):
        return f"the call of {hop} came with {other.token}, which {hop} had not received"
    if not lane.headers or lane.is_asked_by(got):
        return None
    if given is not None and not lane.is_asked_by(given):
        return f"the call of {hop} came without {lane.token}, which {hop} had not received"
    return f"{hop} did not pass on {lane.token}"


def _led(lane_map: LaneMap, lane: Lane, route: Route, destination: Destination) -> Blame:
    """Blame a destination, or the subset behind it where the destination is right by its name."""
    name = destination.subset
    subset = next(
        (one for one in lane_map.mesh.subsets if one.host == destination.host and one.name == name),
        None,
    )
    if subset is not None and name == lane.name and not _is_declared(lane_map):
        labels = ", ".join(f"{label}: {value}" for label, value in subset.labels)
        reason = f"subset {subset.name} of {subset.source} selects {labels}"
        return Blame(reason, subset.source)
    to = destination.host.partition(".")[0] if name is None else f"subset {name}"
    return Blame(f"{route.source} leads to {to}", route.source)


def _is_declared(lane_map: LaneMap) -> bool:
    return bool(lane_map.mesh.lane_groups)
