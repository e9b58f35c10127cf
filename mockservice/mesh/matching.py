"""Which route a request takes: the matches of a route table, evaluated as Envoy evaluates them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from mockservice.mesh.model import Match, Text, selects
from mockservice.mesh.regexes import values_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mockservice.mesh.model import Mesh, Pairs, Route, RouteTable

_ANY_PATH: Final = (Text("prefix", "/"), Text("segments", "/"), Text("regex", ".*"))


@dataclass(frozen=True, slots=True)
class Request:
    """What routes are picked by."""

    path: str = "/"
    """With the query, if there is one."""
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    """By lower-case name."""
    source_labels: Pairs = ()
    """The labels of the caller's pod."""
    host: str | None = None
    """For the gateway without a port; None: one that only a route for all hosts takes."""
    port: int = 80
    """That is called."""
    source_namespace: str = ""
    """The namespace of the caller's pod."""


def first_route(routes: Iterable[Route], request: Request) -> Route | None:
    """The route that the request takes: the first that matches."""
    for route in routes:
        if not route.matches or any(matches(match, request) for match in route.matches):
            return route
    return None


def matches(match: Match, request: Request) -> bool:
    """Whether a request is all that a match asks for."""
    path, _, query = request.path.partition("?")
    return (
        (match.uri is None or fits(match.uri, path))
        and (match.method is None or fits(match.method, request.method))
        and (match.scheme is None or fits(match.scheme, "http"))
        and (match.authority is None or fits(match.authority, request.host or ""))
        and match.port in (None, request.port)
        and match.source_namespace in (None, request.source_namespace)
        and all(fits(text, _parameter(query, name)) for name, text in match.query)
        and all(fits(text, request.headers.get(name.lower())) for name, text in match.headers)
        # A header that is missing counts as an empty one here, as in Istio.
        and not any(
            fits(text, request.headers.get(name.lower(), None if text.kind == "present" else ""))
            for name, text in match.without_headers
        )
        and selects(match.source_labels, request.source_labels)
    )


def fits(text: Text, value: str | None) -> bool:
    """Whether a value is what a `Text` asks for; None is a value that is not there."""
    if value is None:
        return False
    if text.ignores_case and text.kind != "regex":
        return fits(Text(text.kind, text.value.lower()), value.lower())
    match text.kind:
        case "present":
            return True
        case "exact":
            return value == text.value
        case "prefix":
            return value.startswith(text.value)
        case "segments":
            whole = text.value.rstrip("/")
            return value == whole or value.startswith(f"{whole}/")
        case "regex":
            try:
                return re.fullmatch(text.value, value) is not None
            except re.error:
                # Envoy's RE2 has the last word on it, at start.
                return False


def _parameter(query: str, name: str) -> str | None:
    """The first parameter of that name in a query, not decoded; None where there is none."""
    for part in query.split("&"):
        found, _, value = part.partition("=")
        if part and found == name:
            return value
    return None


def example(text: Text) -> str | None:
    """A value that fits, or None where no simple one does."""
    return next(iter(examples(text)), None)


def examples(text: Text) -> list[str]:
    """Values that fit: one for each alternative of a regular expression such as `^(v2|beta)$`."""
    if text.kind == "present":
        return ["any"]
    return values_of(text.value) if text.kind == "regex" else [text.value]


def gateway_route(mesh: Mesh, request: Request) -> Route | None:
    """The route that a request takes at the gateway."""
    return first_route(gateway_routes(mesh, request.host), request)


def gateway_routes(mesh: Mesh, host: str | None) -> list[Route]:
    """The gateway's routes for a host, in their order; the most specific virtual host counts.

    Source: Envoy, "VirtualHost.domains": exact names before suffix wildcards, the longest first.
    """
    host = "*" if host is None else host
    known = {pattern for table in mesh.gateway for pattern in table.hosts}
    fitting = [
        pattern
        for pattern in known
        if pattern == host or (pattern.startswith("*") and host.endswith(pattern[1:]))
    ]
    if not fitting:
        return []
    best = max(fitting, key=lambda pattern: (not pattern.startswith("*"), len(pattern)))
    return merged_routes([table for table in mesh.gateway if best in table.hosts])


def merged_routes(tables: Sequence[RouteTable]) -> list[Route]:
    """The routes of several tables of one host: those that take any request come last.

    Source: Istio's pilot, `SortVHostRoutes`.
    """
    if len(tables) == 1:
        return list(tables[0].routes)
    before: list[Route] = []
    last: list[Route] = []
    for table in tables:
        for route in table.routes:
            some = tuple(takewhile(lambda match: not _takes_all(match), route.matches))
            if some:
                before.append(route if some == route.matches else replace(route, matches=some))
            if not some or some != route.matches:
                last.append(replace(route, matches=()))
                # What follows in this table gets no request.
                break
    return before + last


def _takes_all(match: Match) -> bool:
    uri = match.uri or Text("prefix", "/")
    return uri in _ANY_PATH and match == Match(uri=match.uri)
