"""Headless Services: which of their pods is called is up to DNS, not to the caller's sidecar.

Routes count, but they cannot choose pods: the sidecar sends a call to the address that it is for.
A gateway chooses pods as always. Source: Istio's pilot, `convertResolution` of
pilot/pkg/networking/core/cluster.go, where a headless Service becomes an ORIGINAL_DST cluster.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mockservice.mesh.model import Note

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mockservice.mesh.model import Destination, RouteTable, Service


def headless_calls(
    tables: Iterable[RouteTable], services: Mapping[str, Service]
) -> tuple[list[RouteTable], list[Note]]:
    """Take the subsets of headless Services out of the routes of calls between pods.

    Returns:
        The tables, and a note for each route that would choose a subset.
    """
    notes: list[Note] = []

    def without_subset(destination: Destination) -> Destination:
        service = services.get(destination.host)
        if service is None or not service.is_headless or destination.subset is None:
            return destination
        return replace(destination, subset=None, fallback=None)

    found = []
    for table in tables:
        routes = []
        for route in table.routes:
            destinations = tuple(map(without_subset, route.destinations))
            if destinations != route.destinations:
                hosts = (one.host for one in route.destinations if one not in destinations)
                names = ", ".join(dict.fromkeys(services[host].name for host in hosts))
                text = (
                    f"{route.source}: {names} is headless: DNS names the pod of each call, so"
                    " subsets do not count between pods"
                )
                notes.append(Note(text, route.source))
            routes.append(replace(route, destinations=destinations))
        found.append(replace(table, routes=tuple(routes)))
    return found, notes
