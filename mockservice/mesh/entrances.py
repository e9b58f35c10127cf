"""The requests that the gateway takes: one of each kind that its routes tell apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mockservice.mesh.lane_map import ID
from mockservice.mesh.matching import example
from mockservice.mesh.model import Match

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mockservice.mesh.model import Mesh, Pairs, Route

MAX_KINDS: Final = 200
"""Kinds of requests that are looked at, at most."""

# Each request has them anyway.
_SENT_ANYWAY: Final = ("traceparent", "x-request-id", "baggage")


Kind = tuple[str | None, str, str, "Pairs"]
"""Host, path, method and headers of a request."""


def kinds(mesh: Mesh, marks: Iterable[Pairs]) -> list[Kind]:
    """The requests that can be told apart; of more than `MAX_KINDS` one more than those.

    For each path of the gateway: the plain request, one with each of the marks, and one with
    what each route for that path asks for.

    Args:
        mesh: whose gateway it is.
        marks: headers that name lanes, one lane each.
    """
    found: dict[Kind, None] = {}
    ids = tuple(
        (carrier.trace_header, ID)
        for carrier in mesh.carriers
        if carrier.trace_header not in (*_SENT_ANYWAY, carrier.route_header)
    )
    paths: dict[tuple[str | None, str, str], list[Pairs]] = {}
    for pattern, _, match in _matches(mesh):
        asked = _example(match)
        if asked is not None:
            path, method, headers = asked
            host = _host(pattern, match)
            paths.setdefault((host, path, method), []).append(headers)
    marks = list(marks)
    for place, asked_for in paths.items():
        for headers in ((), *marks, *asked_for):
            names = {name for name, _ in headers}
            added = tuple(pair for pair in ids if pair[0] not in names)
            found.setdefault((*place, (*headers, *added)))
            if len(found) > MAX_KINDS:
                return list(found)
    return list(found)


def without_example(mesh: Mesh) -> Iterator[Route]:
    """The gateway's routes with a match that no request can be made up for."""
    told: set[int] = set()
    for _, route, match in _matches(mesh):
        if _example(match) is None and id(route) not in told:
            told.add(id(route))
            yield route


def _example(match: Match) -> tuple[str, str, Pairs] | None:
    """Path, method and headers of a request that fits."""
    path = "/" if match.uri is None else example(match.uri)
    method = "GET" if match.method is None else example(match.method)
    asked = [(name.lower(), example(text)) for name, text in match.headers]
    values = tuple((name, value) for name, value in asked if value is not None)
    query = [f"{name}={value}" for name, text in match.query if (value := example(text))]
    if path is None or method is None or len(values) < len(asked) or len(query) < len(match.query):
        return None
    return "?".join([path, *(["&".join(query)] if query else [])]), method, values


def _host(pattern: str, match: Match) -> str | None:
    """A host for a request that fits; None for any. Of a wildcard any will do."""
    wanted = None if match.authority is None else example(match.authority)
    if wanted is not None and match.authority is not None and match.authority.kind != "present":
        return wanted
    return None if pattern == "*" else pattern.replace("*", "any", 1)


def _matches(mesh: Mesh) -> Iterator[tuple[str, Route, Match]]:
    """The matches of the gateway's routes that lead to pods, with the hosts they are for."""
    for table in mesh.gateway:
        for host in table.hosts:
            for route in table.routes:
                for match in (route.matches or (Match(),)) if route.destinations else ():
                    yield host, route, match
