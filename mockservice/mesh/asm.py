"""ASM's lane kinds (istio.alibabacloud.com): what the mesh makes of lane groups and lanes.

A lane becomes a subset of each of its Services, named after it. In a strict group the caller's
labels decide, and callers outside of the lanes get the whole Service; in a permissive one the
route header decides, and what has none, or names a lane that lacks the Service, goes to the
baseline. Source: Alibaba Cloud Service Mesh, "ASMSwimLaneGroup and ASMSwimLane field reference".
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from mockservice.manifests.hosts import full_host, host_of
from mockservice.mesh import model
from mockservice.mesh.http_rules import read_match
from mockservice.mesh.model import (
    DeclaredLane,
    Destination,
    HeaderChanges,
    Headers,
    LaneCarrier,
    Match,
    Pairs,
    Route,
    RouteTable,
    Subset,
    Text,
)

if TYPE_CHECKING:
    from mockservice.manifests.documents import Source
    from mockservice.mesh.fields import Fields
    from mockservice.mesh.istio import Ingress

GROUP_LABEL: Final = "swimlane-group"
BAGGAGE: Final = "baggage"


@dataclass(frozen=True, slots=True)
class _Rule:
    """An ingress rule of a lane: requests that enter it."""

    hosts: tuple[str, ...]
    match: Match
    host: str
    source: Source


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane as its manifest has it."""

    name: str
    group: str
    labels: Pairs
    hosts: tuple[str, ...]
    """Of the Services that it holds; none means all of its group."""
    rules: tuple[_Rule, ...]
    weight: int | None
    weighted_host: str
    source: Source
    weight_source: Source


@dataclass(frozen=True, slots=True)
class LaneGroup:
    """A lane group as its manifest has it."""

    name: str
    hosts: tuple[str, ...]
    gateway: tuple[str, str]
    """Name and namespace."""
    weighted: bool = False
    weighted_hosts: tuple[str, ...] = ("*",)
    weighted_matches: tuple[Match, ...] = ()
    permissive: bool = False
    trace_header: str = ""
    route_header: str = ""
    fallback: str = ""
    fallbacks: dict[str, str] = field(default_factory=dict)
    """The fallback lane of single hosts."""
    source: Source | None = None


def read_lane_group(spec: Fields, name: str, gateways: Ingress) -> LaneGroup:
    """Read an ASMSwimLaneGroup's `spec`."""
    with spec:
        # Whether the console adds lanes by itself.
        spec.ignore("autoUpdate")
        with spec.object("ingress") as ingress:
            with ingress.object("gateway") as gateway:
                gateway.text("type", allowed=("ASM",))
                names = gateway.text("name"), gateway.text("namespace")
                if gateways.hosts(*names, ()) is None:
                    gateway.refuse("name", f"there is no Gateway {names[1]}/{names[0]}")
            with ingress.object("ingressRouting") as routing:
                strategy = routing.text(
                    "ingressRoutingStrategy", "rule_based", allowed=("rule_based", "weighted")
                )
                with routing.object("weightedRoutingRule") as rule:
                    weighted_hosts = rule.texts("hosts") or ("*",)
                    weighted_matches = rule.each("requestMatches", read_match)
        with spec.object("permissiveModeConfiguration") as mode:
            fallbacks = mode.pairs("serviceLevelFallbackTarget")
            group = LaneGroup(
                name=name,
                hosts=spec.each("services", _read_service),
                gateway=names,
                weighted=strategy == "weighted",
                weighted_hosts=weighted_hosts,
                weighted_matches=weighted_matches,
                permissive=spec.flag("isPermissive"),
                trace_header=mode.header("traceHeader"),
                route_header=mode.header("routeHeader"),
                fallback=mode.text("fallbackTarget"),
                fallbacks={_host_of_key(key): lane for key, lane in fallbacks},
                source=spec.document,
            )
            if group.permissive and not (group.trace_header and group.route_header):
                missing = "routeHeader" if group.trace_header else "traceHeader"
                mode.refuse(missing, "must be set in a permissive lane group")
            if group.permissive and not all(_fallback(group, host) for host in group.hosts):
                mode.refuse("fallbackTarget", "must be set in a permissive lane group")
        return group


def _read_service(service: Fields) -> str:
    with service:
        service.ignore("cluster")
        return host_of(service.text("name"), service.text("namespace", "default"))


def _host_of_key(key: str) -> str:
    namespace, _, name = key.rpartition("/")
    return host_of(name, namespace or "default")


def read_lane(spec: Fields, name: str, group: str) -> Lane:
    """Read an ASMSwimLane's `spec`."""
    with spec:
        with spec.object("ingressWeight") as weight:
            share = weight.number("weight")
            with weight.object("destination") as destination:
                weighted_host = full_host(destination.text("host"), "default")
        return Lane(
            name=name,
            group=group,
            labels=spec.pairs("labelSelector"),
            hosts=spec.each("services", _read_service),
            rules=tuple(rule for rule in spec.each("ingressRules", _read_rule) if rule),
            weight=share,
            weighted_host=weighted_host,
            source=spec.document,
            weight_source=weight.source,
        )


def _read_rule(rule: Fields) -> _Rule | None:
    with rule:
        rule.ignore("name")
        online = rule.flag("online", default=True)
        with rule.object("route") as route, route.object("destination") as destination:
            host = full_host(destination.text("host"), "default")
        match = read_match(rule.object("match"))
        hosts = rule.texts("hosts") or ("*",)
        return _Rule(hosts, match, host, rule.source) if online else None


def subsets(group: LaneGroup, lanes: list[Lane]) -> list[Subset]:
    """A subset for each lane and each Service of the group; strict lanes hold all of them."""
    return [
        Subset(host, lane.name, lane.labels, source=lane.source)
        for lane in lanes
        for host in group.hosts
        if not group.permissive or _holds(lane, host)
    ]


def calls(group: LaneGroup, lanes: list[Lane]) -> list[RouteTable]:
    """The routes between the pods of a lane group's Services."""
    if group.permissive:
        return [_permissive_calls(group, lanes, host) for host in group.hosts]
    tables = []
    for host in group.hosts:
        inside = tuple(
            Route(
                (Destination(host, subset=lane.name),),
                (Match(source_labels=lane.labels),),
                source=lane.source,
            )
            for lane in lanes
        )
        # Who calls from outside of the lanes gets the whole Service.
        rest = Route((Destination(host),), source=group.source)
        tables.append(RouteTable((host,), (*inside, rest), group.source))
    return tables


def _permissive_calls(group: LaneGroup, lanes: list[Lane], host: str) -> RouteTable:
    by_header = tuple(
        Route(
            (_destination(group, lane, host),),
            (Match(headers=((group.route_header, Text("exact", lane.name)),)),),
            source=lane.source,
        )
        for lane in lanes
    )
    baseline = _fallback(group, host)
    rest = Route((Destination(host, subset=baseline),), source=group.source)
    return RouteTable((host,), (*by_header, rest), group.source)


def entrances(group: LaneGroup, lanes: list[Lane], ingress: Ingress) -> list[RouteTable]:
    """The routes at the gateway into the lanes."""
    wanted: list[tuple[tuple[str, ...], Route]] = []
    if group.weighted:
        shares = tuple(
            replace(_entrance(group, lane, lane.weighted_host), weight=lane.weight)
            for lane in lanes
            if lane.weight is not None
        )
        if shares:
            source = next(lane.weight_source for lane in lanes if lane.weight is not None)
            route = Route(shares, group.weighted_matches, source=source)
            wanted.append((group.weighted_hosts, route))
    else:
        wanted.extend(
            (
                rule.hosts,
                Route((_entrance(group, lane, rule.host),), (rule.match,), source=rule.source),
            )
            for lane in lanes
            for rule in lane.rules
        )
    return [
        RouteTable(ingress.hosts(*group.gateway, hosts) or (), (route,), route.source)
        for hosts, route in wanted
    ]


def _entrance(group: LaneGroup, lane: Lane, host: str) -> Destination:
    destination = _destination(group, lane, host)
    if not group.permissive:
        return destination
    tag = HeaderChanges(set=((group.route_header, lane.name),))
    if group.trace_header == BAGGAGE:
        tag = replace(tag, add=((BAGGAGE, f"{group.route_header}={lane.name}"),))
    return replace(destination, headers=Headers(request=tag))


def _destination(group: LaneGroup, lane: Lane, host: str) -> Destination:
    """A lane's part of a Service, and in a permissive group what stands in for it."""
    fallback = _fallback(group, host) if group.permissive else None
    if fallback is not None and not _holds(lane, host):
        return Destination(host, subset=fallback)
    return Destination(host, subset=lane.name, fallback=fallback)


def _fallback(group: LaneGroup, host: str) -> str | None:
    return group.fallbacks.get(host) or group.fallback or None


def _holds(lane: Lane, host: str) -> bool:
    return not lane.hosts or host in lane.hosts


def carriers(group: LaneGroup) -> list[LaneCarrier]:
    """How lanes are found again in a permissive group; none where the hops carry them."""
    if not group.permissive or group.trace_header == group.route_header:
        return []
    return [LaneCarrier(group.trace_header, group.route_header, group.hosts)]


def declared(group: LaneGroup, lanes: list[Lane]) -> model.LaneGroup:
    """The lanes as they are declared."""
    return model.LaneGroup(
        name=group.name,
        hosts=group.hosts,
        lanes=tuple(
            DeclaredLane(
                lane.name,
                lane.labels,
                tuple(host for host in group.hosts if not group.permissive or _holds(lane, host)),
                lane.source,
            )
            for lane in lanes
        ),
        route_header=group.route_header if group.permissive else None,
        baseline=group.fallback or None if group.permissive else None,
        baselines=tuple(group.fallbacks.items()) if group.permissive else (),
        source=group.source,
    )
