"""Checks that ASM's lane groups and lanes fit each other, the Services and the pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mockservice.manifests import asm
from mockservice.manifests.hosts import full_host, host_of
from mockservice.manifests.inventory import (
    Inventory,
    group_of,
    hosts_of,
    one_of_hosts,
    unmatched,
)
from mockservice.manifests.kinds import GATEWAY
from mockservice.manifests.problems import Problem, one_of, problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
            allowed = one_of(name, (one.name for one in inventory.of(asm.LANE_GROUP)))
            missing = f"there is no lane group {name!r}" if name else "must be set"
            yield problem(lane, f"metadata.labels.{asm.GROUP_LABEL}", f"{missing}; {allowed}")


def _check_group(inventory: Inventory, group: Document) -> Iterator[Problem]:
    for index, host in enumerate(hosts_of(group)):
        if host not in inventory.services:
            reason = inventory.no_service(host, "default")
            yield problem(group, f"spec.services[{index}]", reason)
    gateway = group.body["spec"]["ingress"]["gateway"]
    if not inventory.named(GATEWAY, gateway["name"], gateway["namespace"]):
        reason = inventory.not_in_namespace(GATEWAY, gateway["name"], gateway["namespace"])
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
            yield from _check_weights(last, [*weights.values()])
        else:
            place = "spec.ingress.ingressRouting.ingressRoutingStrategy"
            reason = f"{asm.WEIGHTS!r}: at least one lane must have an ingressWeight"
            yield problem(group, place, reason)


def _check_weights(lane: Document, weights: list[int]) -> Iterator[Problem]:
    if sum(weights) != 100:
        terms = f" {' + '.join(map(str, weights))} is" if len(weights) > 1 else ""
        reason = f"weights must add up to 100, but{terms} {sum(weights)}"
        yield problem(lane, "spec.ingressWeight.weight", reason)


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
            yield problem(group, inside, _not_in_group(group, service))
        elif target not in lanes:
            yield problem(group, inside, _no_lane(group, target, lanes))
        elif host not in lanes[target]:
            yield problem(group, inside, f"lane {target} does not have {_short(host)}")
        hosts.pop(host, None)
    baseline: str | None = mode.get("fallbackTarget")
    if baseline and baseline not in lanes:
        yield problem(group, f"{place}.fallbackTarget", _no_lane(group, baseline, lanes))
    elif baseline and (missing := [_short(host) for host in hosts if host not in lanes[baseline]]):
        reason = f"the baseline must have every service, but {baseline} lacks {', '.join(missing)}"
        yield problem(group, f"{place}.fallbackTarget", reason)


def _check_lane(inventory: Inventory, group: Document, lane: Document) -> Iterator[Problem]:
    hosts = hosts_of(group)
    own_hosts = inventory.hosts_of_lane(lane)
    labels: dict[str, str] = lane.body["spec"]["labelSelector"]
    for index, host in enumerate(own_hosts):
        if host not in hosts:
            yield problem(lane, f"spec.services[{index}]", _not_in_group(group, _short(host)))
            continue
        pods = inventory.pods_of(host) if host in inventory.services else []
        if pods and (reason := unmatched(labels, pods, f"of {_short(host)}")):
            yield problem(lane, "spec.labelSelector", reason)
    missing = [_short(host) for host in hosts if host not in own_hosts]
    if missing and not group.body["spec"].get("isPermissive"):
        reason = (
            f"a strict lane must have every service of its group, but lacks {', '.join(missing)}"
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
    entrances = {f"spec.ingressRules[{n}].route": rule["route"] for n, rule in enumerate(rules)}
    if rules:
        yield from _check_strategy(group, lane, "spec.ingressRules", asm.RULES)
    if weight:
        yield from _check_strategy(group, lane, "spec.ingressWeight", asm.WEIGHTS)
        entrances["spec.ingressWeight"] = weight
    for place, route in entrances.items():
        host = route["destination"]["host"]
        if full_host(host, "default") not in hosts_of(group):
            allowed = one_of_hosts(host, "default", hosts_of(group))
            reason = f"lane group {group.name} has no service {host!r}; {allowed}"
            yield problem(lane, f"{place}.destination.host", reason)


def _check_strategy(group: Document, lane: Document, place: str, needed: str) -> Iterator[Problem]:
    if (strategy := _strategy(group)) != needed:
        reason = (
            f"needs ingressRoutingStrategy {needed!r}, but lane group {group.name} has {strategy!r}"
        )
        yield problem(lane, place, reason)


def _strategy(group: Document) -> str:
    routing = group.body["spec"]["ingress"].get("ingressRouting") or {}
    strategy: str = routing.get("ingressRoutingStrategy") or asm.RULES
    return strategy


def _no_lane(group: Document, name: str, lanes: Iterable[str]) -> str:
    return f"there is no lane {name!r} in lane group {group.name}; {one_of(name, lanes)}"


def _not_in_group(group: Document, service: str) -> str:
    known = [_short(host) for host in hosts_of(group)]
    aliases = {name.rpartition("/")[2]: name for name in known}
    return f"lane group {group.name} has no service {service!r}; {one_of(service, known, aliases)}"


def _short(host: str) -> str:
    """Return a Service as `serviceLevelFallbackTarget` names it: `default/mocka`."""
    name, namespace, *_ = host.split(".")
    return f"{namespace}/{name}"
