"""Routes that no request takes, as a route before them takes all that they match."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mockservice.mesh.model import Match, Note

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mockservice.mesh.model import Route, RouteTable


def shadowed(routes: Iterable[Route]) -> Iterator[tuple[Route, Route]]:
    """The routes that never apply, each with the one before it that takes all of its requests."""
    before: list[Route] = []
    for route in routes:
        cover = next((one for one in before if _covers(one, route)), None)
        if cover is None:
            before.append(route)
        else:
            yield route, cover


def look_at_order(tables: Iterable[RouteTable]) -> Iterator[Note]:
    """Notes on the routes that never apply; where one is to tell a lane apart, lanes do not hold.

    It is no slip of lanes where the route before it does the same.
    """
    for table in tables:
        for route, cover in shadowed(table.routes):
            tells_lanes = any(
                one.headers or one.without_headers or one.source_labels for one in route.matches
            )
            is_other = replace(route, matches=()) != replace(cover, matches=())
            place = "" if cover.source is None else f" at {cover.source.path}:{cover.source.line}"
            text = f"{route.source} never applies: the route{place} before it takes all its calls"
            yield Note(text, route.source, fails=tells_lanes and is_other)


def _covers(cover: Route, route: Route) -> bool:
    """Whether a route takes every request of another one, whatever its headers and labels are."""
    asked = route.matches or (Match(),)
    return all(
        any(_asks_less(one, match) for one in cover.matches or (Match(),)) for match in asked
    )


def _asks_less(one: Match, other: Match) -> bool:
    """Whether a match asks for nothing of headers, labels and query, and else for no more."""
    if one.headers or one.without_headers or one.source_labels or one.query:
        return False
    pairs = (
        (None if _is_any_path(one) else one.uri, other.uri),
        (one.method, other.method),
        (one.authority, other.authority),
        (one.scheme, other.scheme),
        (one.port, other.port),
        (one.source_namespace, other.source_namespace),
    )
    return all(mine in (None, theirs) for mine, theirs in pairs)


def _is_any_path(match: Match) -> bool:
    uri = match.uri
    return uri is not None and uri.kind in ("prefix", "segments") and uri.value == "/"
