"""Routes that lead some calls of a Service to an app that the caller calls by another name."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from mockservice.mesh.matching import example, first_route
from mockservice.mesh.model import Match, Note

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mockservice.mesh.model import Destination, Pod, Route, RouteTable, Service
    from mockservice.mesh.topology import Call, Topology


def misled(topology: Topology) -> Iterator[Note]:
    """Notes on such routes, whose lanes do not hold: the answer is that of another app.

    A canary with a Service of its own is no such app, as its callers do not call it by that name.
    """
    for app in topology.apps:
        by_caller: defaultdict[Pod, list[Call]] = defaultdict(list)
        for call in topology.calls(app):
            by_caller[call.caller].append(call)
        for calls in by_caller.values():
            called = {call.service.host: call.service for call in calls}
            for call in calls:
                yield from _led_astray(topology, call, called)


def _led_astray(topology: Topology, call: Call, called: Mapping[str, Service]) -> Iterator[Note]:
    """Notes on the routes that lead a call to another Service that its caller calls, by host."""
    table = topology.table(call.service)
    if table is None:
        return
    own = {*topology.apps_of(call.service)}
    led = {one.host: one for route in table.routes for one in route.destinations}
    others = {host for host in called if host in led and own.isdisjoint(_apps(topology, led[host]))}
    if not others:
        return
    # What all calls are led to is another name of the Service.
    taken = [route for route in table.routes if _may_take(call, route, table)]
    ends = [one for route in taken for one in _led_to(route)]
    if all(own.isdisjoint(_apps(topology, one)) for one in ends):
        return
    for route in taken:
        for one in _led_to(route):
            if one.host in others:
                name = called[one.host].name
                text = f"{route.source} leads calls of {call.service.name} to {name}"
                yield Note(f"{text}, which {call.caller.app} calls too", route.source, fails=True)


def _may_take(call: Call, route: Route, table: RouteTable) -> bool:
    """Whether a call takes a route, with the headers of some lane."""
    for match in route.matches or (Match(),):
        headers = {name.lower(): example(text) for name, text in match.headers}
        asked = {name: value for name, value in headers.items() if value is not None}
        if first_route(table.routes, call.request(asked)) is route:
            return True
    return False


def _led_to(route: Route) -> Iterator[Destination]:
    return (one for one in route.destinations if one.weight)


def _apps(topology: Topology, destination: Destination) -> set[str]:
    return {pod.app for pod in topology.pods_at(destination)}
