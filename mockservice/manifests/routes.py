"""Checks of subsets and routes: that each of them leads to pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mockservice.manifests.hosts import full_host, host_of
from mockservice.manifests.inventory import Inventory, miss
from mockservice.manifests.kinds import (
    API_GATEWAY,
    DESTINATION_RULE,
    GATEWAY,
    HTTP_ROUTE,
    SERVICE,
    VIRTUAL_SERVICE,
)
from mockservice.manifests.problems import Problem, one_of, problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mockservice.manifests.documents import Document

_ALL_WEIGHTS: Final = 100
_ALL_PODS: Final = "mesh"
"""The word for all sidecars in a VirtualService's `gateways`."""


def check(inventory: Inventory) -> Iterator[Problem]:
    """Check all DestinationRules, VirtualServices and HTTPRoutes."""
    for rule in inventory.of(DESTINATION_RULE):
        yield from _check_subsets(inventory, rule)
    for service in inventory.of(VIRTUAL_SERVICE):
        yield from _check_hosts(inventory, service)
        for index, route in enumerate(service.body["spec"].get("http") or []):
            yield from _check_route(inventory, service, route, f"spec.http[{index}]")
    for http_route in inventory.of(HTTP_ROUTE):
        yield from _check_parents(inventory, http_route)
        for index, rule in enumerate(http_route.body["spec"].get("rules") or []):
            yield from _check_backends(inventory, http_route, rule, f"spec.rules[{index}]")


def no_service(inventory: Inventory, host: str) -> str:
    """Say that a host is none of the Services."""
    known = inventory.services
    if "." not in host.removesuffix("."):
        known = {service.name: service for service in known.values()}
    return f"there is no Service {host!r}; {one_of(host, known)}"


def check_weights(document: Document, place: str, weights: list[int]) -> Iterator[Problem]:
    """Check that weights are percents."""
    if sum(weights) != _ALL_WEIGHTS:
        added = f" {' + '.join(map(str, weights))} is" if len(weights) > 1 else ""
        reason = f"weights must add up to {_ALL_WEIGHTS}, but{added} {sum(weights)}"
        yield problem(document, place, reason)


def _check_subsets(inventory: Inventory, rule: Document) -> Iterator[Problem]:
    spec = rule.body["spec"]
    host = full_host(spec["host"], rule.namespace)
    if host not in inventory.services:
        yield problem(rule, "spec.host", no_service(inventory, spec["host"]))
        return
    seen: set[str] = set()
    for index, subset in enumerate(spec.get("subsets") or []):
        place = f"spec.subsets[{index}]"
        if subset["name"] in seen:
            yield problem(rule, f"{place}.name", f"there is another subset {subset['name']!r}")
        seen.add(subset["name"])
        labels = subset.get("labels") or {}
        pods, name = inventory.pods_of(host), inventory.services[host].name
        if pods and labels and (reason := miss(labels, pods, of=name)):
            yield problem(rule, f"{place}.labels", reason)


def _check_hosts(inventory: Inventory, service: Document) -> Iterator[Problem]:
    gateways = service.body["spec"].get("gateways") or [_ALL_PODS]
    for index, gateway in enumerate(gateways):
        if gateway == _ALL_PODS:
            continue
        namespace, _, name = gateway.rpartition("/")
        if not inventory.named(GATEWAY, name, namespace or service.namespace):
            place = f"spec.gateways[{index}]"
            known = [_gateway_name(one, service.namespace) for one in inventory.of(GATEWAY)]
            yield problem(
                service, place, f"there is no Gateway {gateway!r}; {one_of(gateway, known)}"
            )
    if _ALL_PODS in gateways:
        for index, host in enumerate(service.body["spec"].get("hosts") or []):
            if "*" not in host and full_host(host, service.namespace) not in inventory.services:
                yield problem(service, f"spec.hosts[{index}]", no_service(inventory, host))


def _gateway_name(gateway: Document, namespace: str) -> str:
    own = gateway.namespace == namespace
    return gateway.name if own else f"{gateway.namespace}/{gateway.name}"


def _check_route(
    inventory: Inventory, service: Document, route: dict[str, Any], place: str
) -> Iterator[Problem]:
    for index, match in enumerate(route.get("match") or []):
        labels = match.get("sourceLabels")
        # Callers may be of any namespace.
        if labels and (reason := miss(labels, inventory.pods())):
            yield problem(service, f"{place}.match[{index}].sourceLabels", reason)
    routed = route.get("route") or []
    for index, destination in enumerate(routed):
        inside = f"{place}.route[{index}]"
        named = destination["destination"]
        yield from _check_destination(inventory, service, named, f"{inside}.destination")
        if target := (destination.get("fallback") or {}).get("target"):
            instead = {**target, "host": target.get("host") or named["host"]}
            yield from _check_destination(inventory, service, instead, f"{inside}.fallback.target")
    weights = [destination.get("weight") for destination in routed]
    if len(weights) > 1 or any(weight is not None for weight in weights):
        yield from check_weights(service, f"{place}.route", [weight or 0 for weight in weights])


def _check_destination(
    inventory: Inventory, service: Document, destination: dict[str, Any], place: str
) -> Iterator[Problem]:
    host = full_host(destination["host"], service.namespace)
    if host not in inventory.services:
        yield problem(service, f"{place}.host", no_service(inventory, destination["host"]))
        return
    number = (destination.get("port") or {}).get("number")
    if number is not None and (reason := inventory.no_port(host, number)):
        yield problem(service, f"{place}.port.number", reason)
    subset = destination.get("subset")
    if subset is not None and subset not in inventory.subsets.get(host, ()):
        known = one_of(subset, inventory.subsets.get(host, ()))
        name = inventory.services[host].name
        reason = f"no DestinationRule and no lane makes a subset {subset!r} of {name}; {known}"
        yield problem(service, f"{place}.subset", reason)


def _check_parents(inventory: Inventory, route: Document) -> Iterator[Problem]:
    for index, parent in enumerate(route.body["spec"].get("parentRefs") or []):
        kind = parent.get("kind") or "Gateway"
        wanted = {"Gateway": API_GATEWAY, "Service": SERVICE}.get(kind)
        namespace = parent.get("namespace") or route.namespace
        if wanted and not inventory.named(wanted, parent["name"], namespace):
            known = [one.name for one in inventory.of(wanted) if one.namespace == namespace]
            reason = f"there is no {kind} {parent['name']!r}; {one_of(parent['name'], known)}"
            yield problem(route, f"spec.parentRefs[{index}].name", reason)


def _check_backends(
    inventory: Inventory, route: Document, rule: dict[str, Any], place: str
) -> Iterator[Problem]:
    backends = rule.get("backendRefs") or []
    for index, backend in enumerate(backends):
        if (backend.get("kind") or "Service") != "Service":
            continue
        inside = f"{place}.backendRefs[{index}]"
        namespace = backend.get("namespace") or route.namespace
        host = host_of(backend["name"], namespace)
        if host not in inventory.services:
            names = [one.name for one in inventory.of(SERVICE) if one.namespace == namespace]
            reason = f"there is no Service {backend['name']!r}; {one_of(backend['name'], names)}"
            yield problem(route, f"{inside}.name", reason)
        elif missed := inventory.no_port(host, backend.get("port")):
            yield problem(route, f"{inside}.port", missed)
    weights = [backend.get("weight") for backend in backends]
    if any(weight is not None for weight in weights):
        # One that has none counts as 1.
        counted = [1 if weight is None else weight for weight in weights]
        yield from check_weights(route, f"{place}.backendRefs", counted)
