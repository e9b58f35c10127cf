"""What routes lead to and does not exist, or has no pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mockservice.manifests.hosts import completed
from mockservice.manifests.inventory import unmatched
from mockservice.mesh.model import Note, selects

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from mockservice.mesh.model import Destination, Pod, Route, RouteTable, Service, Subset


def look_at_routes(
    tables: Iterable[RouteTable],
    services: Mapping[str, Service],
    subsets: Iterable[Subset],
    gateway_port: int | None = None,
) -> tuple[list[str], list[Note]]:
    """Find what routes name and does not exist, as problems, and what gets 503, as notes.

    Args:
        tables: of the gateway, or of calls.
        services: by full host name.
        subsets: of these Services.
        gateway_port: the port of the gateway; None for calls, whose ports are those of the hosts.
    """
    problems: list[str] = []
    notes: list[Note] = []
    known = {(subset.host, subset.name) for subset in subsets}
    for table in tables:
        ports: set[int | None] = {gateway_port}
        if gateway_port is None:
            called = (services[host].ports for host in table.hosts if host in services)
            ports = {port for some in called for port in some}
        for route in table.routes:
            for destination in _destinations(route):
                reasons = list(_missing(destination, services, known))
                problems += [Note(f"there is no {one}", route.source).located for one in reasons]
                notes += [
                    Note(f"{text}; requests to it get 503", route.source)
                    for text in _in_vain(destination, services, ports)
                ]
    return problems, notes


def services_without_pods(services: Mapping[str, Service], pods: Iterable[Pod]) -> Iterator[Note]:
    """Notes on Services whose selector selects no pods."""
    pods = list(pods)
    for service in services.values():
        own = [pod for pod in pods if pod.namespace == service.namespace]
        if not service.selector or any(service.is_of(pod.namespace, pod.labels) for pod in own):
            continue
        labels = [dict(pod.labels) for pod in own]
        reason = unmatched(dict(service.selector), labels, f"in namespace {service.namespace}")
        yield Note(f"Service {service.name} has no pods: {reason}; calls to it get 503")


def without_pods(
    subsets: Iterable[Subset], services: Mapping[str, Service], pods: Iterable[Pod]
) -> Iterator[Note]:
    """Notes on subsets that select no pods."""
    pods = list(pods)
    for subset in subsets:
        service = services.get(subset.host)
        if service is None:
            continue
        own = [pod.labels for pod in pods if service.is_of(pod.namespace, pod.labels)]
        if any(selects(subset.labels, labels) for labels in own):
            continue
        reason = unmatched(
            dict(subset.labels), [dict(labels) for labels in own], f"of {service.name}"
        )
        text = f"subset {subset.name} of {service.name} has no pods: {reason}"
        yield Note(f"{text}; requests to it get 503", subset.source)


def _destinations(route: Route) -> Iterator[Destination]:
    yield from route.destinations
    yield from (mirror.destination for mirror in route.mirrors)


def _missing(
    destination: Destination, services: Mapping[str, Service], subsets: Collection[tuple[str, str]]
) -> Iterator[str]:
    host = destination.host
    if host not in services:
        if completed(host, services) is None:
            yield f"Service {host}"
        return
    if destination.port is not None and destination.port not in services[host].ports:
        yield f"port {destination.port} of Service {host}"
    for subset in (destination.subset, destination.fallback):
        if subset is not None and (host, subset) not in subsets:
            yield f"subset {subset} of Service {host}"


def _in_vain(
    destination: Destination, services: Mapping[str, Service], ports: set[int | None]
) -> Iterator[str]:
    """Why a destination that may exist is led to in vain."""
    service = services.get(destination.host)
    if service is None:
        if whole := completed(destination.host, services):
            yield f"{destination.host!r} is no Service: Istio does not complete it to {whole}"
    elif destination.port is None and len(service.ports) > 1 and ports.isdisjoint(service.ports):
        called = ", ".join(map(str, sorted(filter(None, ports))))
        yield (
            f"a route to {service.name} names no port, so it leads to the port that is called,"
            f" {called}, which {service.name} lacks"
        )
