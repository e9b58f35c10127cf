"""What the routes say of the lanes that requests get to see: by which weights, and which baseline.

To a page, as to the probe, a lane is the version that its hops show.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mockservice.mesh.model import Destination, Match, Mesh, Pairs, Route


def routes_by_path(mesh: Mesh) -> Iterator[tuple[Route, Match, str]]:
    """The gateway's routes that name a path, each with a match and the path that it names."""
    for table in mesh.gateway:
        for route in table.routes:
            for match in route.matches:
                if match.uri is not None and match.uri.kind != "regex":
                    yield route, match, match.uri.value


def expected_weights(mesh: Mesh) -> dict[str, float] | None:
    """The weights of the route that the first path takes by itself, by version.

    None where there is no such route, or where the version behind it is not just one.
    """
    path = next((path for _, _, path in routes_by_path(mesh)), None)
    weights: Counter[str] = Counter()
    for route, match, its_path in routes_by_path(mesh):
        if its_path == path and not match.headers and not match.method:
            for destination in route.destinations:
                versions = _versions(mesh, destination, destination.subset)
                if len(versions) != 1:
                    return None
                weights[versions.pop()] += destination.weight
            break
    return {lane: float(weight) for lane, weight in weights.items()} if weights.total() else None


def baseline(mesh: Mesh) -> str | None:
    """The version that stands in for lanes that do not hold a service; None where none does."""
    for table in (*mesh.gateway, *mesh.calls):
        for route in table.routes:
            for destination in route.destinations:
                if destination.fallback is not None:
                    return next(iter(_versions(mesh, destination, destination.fallback)), None)
    return None


def example_headers(mesh: Mesh) -> Pairs:
    """Headers that enter a lane, where all routes ask for some: of one beside the baseline."""
    entrances: dict[bool, Pairs] = {}
    for route, match, _ in routes_by_path(mesh):
        if not match.headers:
            return ()
        versions = {
            version
            for destination in route.destinations
            for version in _versions(mesh, destination, destination.subset)
        }
        headers = tuple((name, text.value) for name, text in match.headers if text.kind == "exact")
        if len(headers) == len(match.headers):
            entrances.setdefault(baseline(mesh) in versions, headers)
    return entrances.get(False, entrances.get(True, ()))


def _versions(mesh: Mesh, destination: Destination, subset: str | None) -> set[str]:
    service = mesh.service(destination.host)
    return set() if service is None else {pod.version for pod in mesh.pods_of(service, subset)}
