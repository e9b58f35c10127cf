"""Checks of ASM's lane groups and lanes: that they fit each other, the Services and the pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mockservice.manifests import asm
from mockservice.manifests.hosts import full_host, host_of
from mockservice.manifests.inventory import (
    Inventory,
    group_of,
    hosts_of,
    miss,
)
from mockservice.manifests.kinds import GATEWAY
from mockservice.manifests.problems import Problem, one_of, problem
from mockservice.manifests.routes import check_weights, no_service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mockservice.manifests.documents import Document


def check(inventory: Inventory) -> Iterator[Problem]:
    """Check all lane groups and lanes."""
    for group in inventory.of(asm.LANE_GROUP):
        yield from _check_group(inventory, group)
        if group.body["spec"].get("isPermissive"):
            yield from _check_baseline(inventory, group)
    for lane in inventory.of(asm.LANE):
        name = group_of(lane)
        own_group = inventory.named(asm.LANE_GROUP, name)
        if own_group is not None:
            yield from _check_lane(inventory, own_group, lane)
            yield from _check_entrance(own_group, lane)
        else:
            known = one_of(name, (one.name for one in inventory.of(asm.LANE_GROUP)))
            reason = (
                f"there is no lane group {name!r}; {known}" if name else f"must be set; {known}"
            )
            yield problem(lane, f"metadata.labels.{asm.GROUP_LABEL}", reason)


def _check_group(inventory: Inventory, group: Document) -> Iterator[Problem]:
    for index, host in enumerate(hosts_of(group)):
        if host not in inventory.services:
            yield problem(group, f"spec.services[{index}]", no_service(inventory, host))
    gateway = group.body["spec"]["ingress"]["gateway"]
    if not inventory.named(GATEWAY, gateway["name"], gateway["namespace"]):
        known = [one.name for one in inventory.of(GATEWAY) if one.namespace == gateway["namespace"]]
        reason = (
            f"there is no Gateway {gateway['name']!r} in {gateway['namespace']};"
            f" {one_of(gateway['name'], known)}"
        )
        yield problem(group, "spec.ingress.gateway.name", reason)
    lanes = inventory.lanes_of(group)
    if not lanes:
        reason = f"no lane has the label {asm.GROUP_LABEL}: {group.name}"
        yield problem(group, "metadata.name", reason)
    weights = {
        lane.name: weight["weight"]
        for lane in lanes
        if (weight := lane.body["spec"].get("ingressWeight"))
    }
    if _strategy(group) == asm.WEIGHTS:
        if weights:
            last = next(lane for lane in reversed(lanes) if lane.name in weights)
            yield from check_weights(last, "spec.ingressWeight.weight", [*weights.values()])
        else:
            place = "spec.ingress.ingressRouting.ingressRoutingStrategy"
            yield problem(group, place, f"{asm.WEIGHTS}, but no lane has an ingressWeight")


def _check_baseline(inventory: Inventory, group: Document) -> Iterator[Problem]:
    place = "spec.permissiveModeConfiguration"
    mode = group.body["spec"].get("permissiveModeConfiguration") or {}
    for name in ("traceHeader", "routeHeader", "fallbackTarget"):
        if not mode.get(name):
            yield problem(group, f"{place}.{name}", "must be set in a permissive lane group")
    lanes = {lane.name: set(inventory.hosts_of_lane(lane)) for lane in inventory.lanes_of(group)}
    hosts = dict.fromkeys(hosts_of(group))
    own: dict[str, str] = mode.get("serviceLevelFallbackTarget") or {}
    for service, target in own.items():
        inside = f"{place}.serviceLevelFallbackTarget.{service}"
        namespace, _, name = service.rpartition("/")
        host = host_of(name, namespace)
        if host not in hosts:
            known = one_of(service, map(_short, hosts))
            reason = f"is no service of lane group {group.name}; {known}"
            yield problem(group, inside, reason)
        elif target not in lanes:
            reason = (
                f"there is no lane {target!r} in lane group {group.name}; {one_of(target, lanes)}"
            )
            yield problem(group, inside, reason)
        elif host not in lanes[target]:
            yield problem(group, inside, f"lane {target} does not hold {_short(host)}")
        hosts.pop(host, None)
    baseline: str | None = mode.get("fallbackTarget")
    if baseline and baseline not in lanes:
        known = one_of(baseline, lanes)
        reason = f"there is no lane {baseline!r} in lane group {group.name}; {known}"
        yield problem(group, f"{place}.fallbackTarget", reason)
    elif baseline and (missing := [_short(host) for host in hosts if host not in lanes[baseline]]):
        reason = f"the baseline must hold every service, but {baseline} lacks {', '.join(missing)}"
        yield problem(group, f"{place}.fallbackTarget", reason)


def _check_lane(inventory: Inventory, group: Document, lane: Document) -> Iterator[Problem]:
    hosts = hosts_of(group)
    held = inventory.hosts_of_lane(lane)
    labels: dict[str, str] = lane.body["spec"]["labelSelector"]
    for index, host in enumerate(held):
        if host not in hosts:
            known = one_of(_short(host), map(_short, hosts))
            reason = f"{_short(host)} is no service of lane group {group.name}; {known}"
            yield problem(lane, f"spec.services[{index}]", reason)
            continue
        pods = inventory.pods_of(host) if host in inventory.services else []
        if pods and (missed := miss(labels, pods, of=_short(host))):
            yield problem(lane, "spec.labelSelector", missed)
    missing = [_short(host) for host in hosts if host not in held]
    if missing and not group.body["spec"].get("isPermissive"):
        reason = (
            f"a strict lane must hold every service of its group, but lacks {', '.join(missing)}"
        )
        yield problem(lane, "spec.services", reason)
    for other in inventory.lanes_of(group):
        if other is lane:
            break
        if other.body["spec"]["labelSelector"] == labels:
            reason = f"selects the same pods as lane {other.name}"
            yield problem(lane, "spec.labelSelector", reason)


def _check_entrance(group: Document, lane: Document) -> Iterator[Problem]:
    spec = lane.body["spec"]
    weight, rules = spec.get("ingressWeight"), spec.get("ingressRules") or []
    place = "spec.ingressWeight"
    if weight and _strategy(group) != asm.WEIGHTS:
        reason = f"lane group {group.name} has not ingressRoutingStrategy: {asm.WEIGHTS}"
        yield problem(lane, place, reason)
    if rules and _strategy(group) != asm.RULES:
        reason = f"lane group {group.name} has not ingressRoutingStrategy: {asm.RULES}"
        yield problem(lane, "spec.ingressRules", reason)
    entered = {f"spec.ingressRules[{n}].route": rule["route"] for n, rule in enumerate(rules)}
    if weight:
        entered[place] = weight
    for inside, route in entered.items():
        host = route["destination"]["host"]
        if full_host(host, "default") not in hosts_of(group):
            known = one_of(host, hosts_of(group))
            reason = f"{host!r} is no service of lane group {group.name}; {known}"
            yield problem(lane, f"{inside}.destination.host", reason)


def _strategy(group: Document) -> str:
    routing = group.body["spec"]["ingress"].get("ingressRouting") or {}
    strategy: str = routing.get("ingressRoutingStrategy") or asm.RULES
    return strategy


def _short(host: str) -> str:
    """A Service as `serviceLevelFallbackTarget` has it: `default/mocka`."""
    name, namespace, *_ = host.split(".")
    return f"{namespace}/{name}"
