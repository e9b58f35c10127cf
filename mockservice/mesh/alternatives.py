"""Services that stand in for each other: the routes of one host lead some of its calls to each.

A canary may have a Service of its own, as Flagger and Argo Rollouts make it, or a namespace of its
own. Its pods are then versions of the app whose name is called.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mockservice.mesh.matching import Request, example, first_route
from mockservice.mesh.model import Match, Text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from mockservice.mesh.model import Route, RouteTable


@dataclass(frozen=True, slots=True)
class Alternatives:
    """Hosts that one call may get to: by weight, or by what tells lanes apart."""

    hosts: frozenset[str]
    named: str | None
    """The host that callers name; None at the gateway, whose clients name another."""


def alternatives(
    gateway: Iterable[RouteTable], calls: Iterable[RouteTable], known: Collection[str]
) -> list[Alternatives]:
    """All hosts that stand in for each other.

    Args:
        gateway: the routes of the gateway.
        calls: the routes of the calls between pods.
        known: hosts that workloads call by their own names. These are apps of their own: a rule of
            another host that leads to them is a slip.
    """
    gateway, calls = list(gateway), list(calls)
    found = [
        Alternatives(frozenset(hosts - set(known)), None)
        for table in gateway
        for hosts in _led_together(table.routes, by_path=True)
    ]
    entered = {
        one.host for table in gateway for route in table.routes for one in route.destinations
    }
    for table in calls:
        others = (entered | set(known)) - set(table.hosts)
        named = min(table.hosts, key=len, default=None)
        found += [
            Alternatives(frozenset(hosts - others), named) for hosts in _led_together(table.routes)
        ]
    found = [one for one in dict.fromkeys(found) if len(one.hosts) > 1]
    # What stands in for several apps, such as a page of maintenance, is a version of none.
    return [
        rest
        for one in found
        for rest in [Alternatives(one.hosts - _shared(one, found), one.named)]
        if len(rest.hosts) > 1
    ]


def _shared(one: Alternatives, found: list[Alternatives]) -> set[str]:
    """The hosts that stand in for other hosts, too, which have nothing else in common."""
    overlaps = [one.hosts & other.hosts for other in found if other is not one]
    return {host for hosts in overlaps if len(hosts) == 1 for host in hosts if host != one.named}


def _led_together(routes: Iterable[Route], *, by_path: bool = False) -> list[set[str]]:
    """The hosts to which calls go that differ only in what tells lanes apart.

    `by_path` keeps routes of other paths apart: at a gateway these are other apps.
    """
    routes = list(routes)
    found: defaultdict[object, set[str]] = defaultdict(set)
    for route in routes:
        for match in route.matches or (Match(),):
            request = _plain(match)
            plain = first_route(routes, request)
            if plain is not None and by_path and not _has_path(plain, match):
                plain = None
            key = (request.path, request.method, request.host) if plain is None else id(plain)
            led = (*route.destinations, *(plain.destinations if plain else ()))
            found[key].update(one.host for one in led)
    return list(found.values())


def _plain(match: Match) -> Request:
    """A request that a match asks for, without the headers and labels that tell lanes apart."""
    return Request(
        _value(match.uri) or "/",
        _value(match.method) or "GET",
        host=_value(match.authority),
        port=80 if match.port is None else match.port,
        source_namespace=match.source_namespace or "",
    )


def _has_path(route: Route, match: Match) -> bool:
    """Whether a route asks for the same path as a match."""
    return any(_path(one) == _path(match) for one in route.matches or (Match(),))


def _path(match: Match) -> Text:
    return match.uri or Text("prefix", "/")


def _value(text: Text | None) -> str | None:
    return None if text is None else example(text)
