"""Checks that each subset and each route leads to pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mockservice.manifests.hosts import ALL_SIDECARS, full_host, host_of
from mockservice.manifests.inventory import Inventory, unmatched
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


def _check_subsets(inventory: Inventory, rule: Document) -> Iterator[Problem]:
    spec = rule.body["spec"]
    if "*" not in spec["host"] and not inventory.is_known(spec["host"], rule.namespace):
        yield problem(rule, "spec.host", inventory.no_service(spec["host"], rule.namespace))
        return
    seen: set[str] = set()
    for index, subset in enumerate(spec.get("subsets") or []):
        place = f"spec.subsets[{index}]"
        if subset["name"] in seen:
            yield problem(rule, f"{place}.name", f"duplicate subset {subset['name']!r}")
        seen.add(subset["name"])


def _check_hosts(inventory: Inventory, service: Document) -> Iterator[Problem]:
    gateways = service.body["spec"].get("gateways") or [ALL_SIDECARS]
    for index, gateway in enumerate(gateways):
        if gateway == ALL_SIDECARS:
            continue
        namespace, _, name = gateway.rpartition("/")
        if not inventory.named(GATEWAY, name, namespace or service.namespace):
            reason = inventory.no_gateway(gateway, service.namespace)
            yield problem(service, f"spec.gateways[{index}]", reason)
    # At a gateway a host may be any name, which is then nobody's between pods.
    if set(gateways) == {ALL_SIDECARS}:
        for index, host in enumerate(service.body["spec"].get("hosts") or []):
            if "*" not in host and not inventory.is_known(host, service.namespace):
                reason = inventory.no_service(host, service.namespace)
                yield problem(service, f"spec.hosts[{index}]", reason)


def _check_route(
    inventory: Inventory, service: Document, route: dict[str, Any], place: str
) -> Iterator[Problem]:
    for index, match in enumerate(route.get("match") or []):
        labels = match.get("sourceLabels")
        # The caller may be in any namespace.
        if labels and (reason := unmatched(labels, inventory.pods())):
            yield problem(service, f"{place}.match[{index}].sourceLabels", reason)
    routed = route.get("route") or []
    for index, destination in enumerate(routed):
        inside = f"{place}.route[{index}]"
        named = destination["destination"]
        yield from _check_destination(inventory, service, named, f"{inside}.destination")
        if target := (destination.get("fallback") or {}).get("target"):
            instead = {**target, "host": target.get("host") or named["host"]}
            yield from _check_destination(inventory, service, instead, f"{inside}.fallback.target")
    mirrors = [("mirror", route.get("mirror"))]
    for index, mirror in enumerate(route.get("mirrors") or []):
        mirrors.append((f"mirrors[{index}].destination", mirror.get("destination")))
    for name, mirrored in mirrors:
        if mirrored is not None:
            yield from _check_destination(inventory, service, mirrored, f"{place}.{name}")


def _check_destination(
    inventory: Inventory, service: Document, destination: dict[str, Any], place: str
) -> Iterator[Problem]:
    host = full_host(destination["host"], service.namespace)
    if host not in inventory.services:
        if not inventory.is_known(host, service.namespace):
            missing = inventory.no_service(destination["host"], service.namespace)
            yield problem(service, f"{place}.host", missing)
        return
    number = (destination.get("port") or {}).get("number")
    if number is not None and (reason := inventory.no_port(host, number)):
        yield problem(service, f"{place}.port.number", reason)
    subset = destination.get("subset")
    known = inventory.subsets.get(host, ())
    if subset is not None and subset not in known:
        name = inventory.services[host].name
        allowed = one_of(subset, known)
        reason = f"no DestinationRule or lane defines subset {subset!r} of {name}; {allowed}"
        yield problem(service, f"{place}.subset", reason)


def _check_parents(inventory: Inventory, route: Document) -> Iterator[Problem]:
    for index, parent in enumerate(route.body["spec"].get("parentRefs") or []):
        kinds = {"Gateway": API_GATEWAY, "Service": SERVICE}
        kind = kinds.get(parent.get("kind") or "Gateway")
        namespace = parent.get("namespace") or route.namespace
        if kind and not inventory.named(kind, parent["name"], namespace):
            reason = inventory.not_in_namespace(kind, parent["name"], namespace)
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
            reason = inventory.not_in_namespace(SERVICE, backend["name"], namespace)
            yield problem(route, f"{inside}.name", reason)
        elif port_reason := inventory.no_port(host, backend.get("port")):
            yield problem(route, f"{inside}.port", port_reason)
