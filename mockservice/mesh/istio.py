"""Reads Istio's Gateway, VirtualService and DestinationRule (networking.istio.io)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mockservice.manifests.hosts import ALL_SIDECARS, full_host
from mockservice.mesh.model import (
    Destination,
    Fault,
    HeaderChanges,
    Headers,
    Match,
    OutlierDetection,
    Pairs,
    Retries,
    Route,
    RouteTable,
    Subset,
    Text,
    selects,
)

if TYPE_CHECKING:
    from mockservice.mesh.fields import Fields


# The labels of the gateway that Istio installs by default.
_GATEWAY_LABELS: Final = (("app", "istio-ingressgateway"), ("istio", "ingressgateway"))
_LEAST_DURATION: Final = 0.001


@dataclass(frozen=True, slots=True)
class Gateway:
    """An ingress gateway and the hosts that it serves."""

    name: str
    namespace: str
    hosts: tuple[str, ...]
    labels: Pairs = ()
    allowed_namespace: str | None = None
    """The only namespace whose routes may attach to it; None for any namespace."""


@dataclass(frozen=True, slots=True)
class Ingress:
    """All ingress gateways. Local lanes serve them on one port."""

    gateways: list[Gateway] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)

    def add_port(self, fields: Fields, name: str) -> None:
        """Add a gateway's port, which must be the same for all gateways."""
        number = fields.number(name, 0)
        self.ports.add(number)
        if len(self.ports) > 1:
            fields.refuse(name, f"{number}: must be the same port for all gateways in local lanes")

    def hosts(
        self, name: str, namespace: str, hosts: tuple[str, ...], route_namespace: str | None = None
    ) -> tuple[str, ...] | None:
        """Return the part of the requested hosts that a gateway serves.

        Args:
            name: the gateway's name.
            namespace: the gateway's namespace.
            hosts: the hosts of a route; each may start with a wildcard.
            route_namespace: where the route is; None to skip the check that it may attach.

        Returns:
            The hosts, or None if there is no such gateway or the route may not attach to it.
        """
        for gateway in self.gateways:
            if (gateway.name, gateway.namespace) == (name, namespace):
                if route_namespace and gateway.allowed_namespace not in (None, route_namespace):
                    return None
                common = (_narrower(one, other) for one in hosts for other in gateway.hosts)
                return tuple(dict.fromkeys(host for host in common if host))
        return None


def _narrower(one: str, other: str) -> str | None:
    """Return the intersection of two hosts that may start with a wildcard."""
    for wide, narrow in ((one, other), (other, one)):
        if wide == narrow or (wide.startswith("*") and narrow.endswith(wide[1:])):
            return narrow
    return None


def read_gateway(spec: Fields, name: str, namespace: str, ingress: Ingress) -> None:
    """Read a Gateway's `spec` and add it to the ingress."""
    with spec:
        labels = spec.pairs("selector")
        if not selects(labels, _GATEWAY_LABELS):
            wanted = " or ".join(f"{name}: {value}" for name, value in _GATEWAY_LABELS)
            spec.refuse("selector", f"selects no gateway: the one of local lanes has {wanted}")
        hosts: list[str] = []
        for server in spec.objects("servers"):
            with server:
                server.ignore("name")
                with server.object("port") as port:
                    port.ignore("name")
                    port.text("protocol", allowed=("HTTP",))
                    ingress.add_port(port, "number")
                # NAMESPACE/HOST limits a host to the routes of one namespace.
                hosts.extend(host.rpartition("/")[2] for host in server.texts("hosts"))
    ingress.gateways.append(Gateway(name, namespace, tuple(hosts), labels))


def read_virtual_service(
    spec: Fields, namespace: str, ingress: Ingress
) -> tuple[list[RouteTable], list[RouteTable]]:
    """Read a VirtualService's `spec`: route tables for the gateway and for calls between pods."""
    at_gateway, between_pods = [], []
    with spec:
        hosts = spec.texts("hosts")
        gateways = spec.texts("gateways") or (ALL_SIDECARS,)
        routes = spec.each("http", lambda route: _read_route(route, namespace))
        for gateway in gateways:
            if gateway == ALL_SIDECARS:
                full = tuple(full_host(host, namespace) for host in hosts)
                between_pods.append(RouteTable(full, routes, spec.document))
                continue
            owner, _, name = gateway.rpartition("/")
            served = ingress.hosts(name, owner or namespace, hosts)
            if served is None:
                spec.refuse("gateways", f"there is no Gateway {gateway!r}")
            elif not served:
                spec.refuse("hosts", f"Gateway {gateway!r} serves none of these hosts")
            else:
                at_gateway.append(RouteTable(served, routes, spec.document))
    return at_gateway, between_pods


def _read_route(route: Fields, namespace: str) -> Route:
    with route:
        route.ignore("name")
        destinations = route.each("route", lambda fields: _read_destination(fields, namespace))
        if not destinations:
            route.refuse("route", "must have at least one destination")
        if len(destinations) == 1:
            # A single destination gets all requests, whatever its weight.
            only = destinations[0]
            destinations = (
                Destination(only.host, only.port, only.subset, 1, only.headers, only.fallback),
            )
        with route.object("rewrite") as rewrite:
            rewrite_uri, rewrite_authority = rewrite.text("uri"), rewrite.text("authority")
        return Route(
            destinations=destinations,
            matches=route.each("match", read_match),
            headers=_read_headers(route),
            rewrite_uri=rewrite_uri or None,
            rewrite_authority=rewrite_authority or None,
            timeout=_duration(route, "timeout"),
            retries=route.optional("retries", _read_retries),
            fault=route.optional("fault", _read_fault),
            source=route.source,
        )


def read_match(match: Fields) -> Match:
    """Read an HTTPMatchRequest, which ASM's ingress rules use as well."""
    with match:
        match.ignore("name")
        return Match(
            uri=match.optional("uri", _read_text),
            method=match.optional("method", _read_text),
            headers=match.named("headers", _read_text),
            without_headers=match.named("withoutHeaders", _read_text),
            source_labels=match.pairs("sourceLabels"),
        )


def _read_text(text: Fields) -> Text:
    with text:
        if "exact" in text:
            return Text("exact", text.text("exact"))
        if "prefix" in text:
            return Text("prefix", text.text("prefix"))
        if "regex" in text:
            return Text("regex", text.text("regex"))
        return Text("present")


def _read_destination(fields: Fields, namespace: str) -> Destination:
    with fields:
        fallback = None
        with fields.object("destination") as destination:
            host = full_host(destination.text("host"), namespace)
            subset = destination.text("subset") or None
            with destination.object("port") as port:
                number = port.number("number")
        # An ASM extension of HTTPRouteDestination.
        with fields.object("fallback") as instead, instead.object("target") as target:
            fallback = target.text("subset") or None
            if full_host(target.text("host") or host, namespace) != host:
                target.refuse("host", f"must be {host}: local lanes fall back only within one host")
        return Destination(
            host, number, subset, fields.number("weight", 0), _read_headers(fields), fallback
        )


def _read_headers(fields: Fields) -> Headers:
    with fields.object("headers") as headers:
        return Headers(_read_changes(headers, "request"), _read_changes(headers, "response"))


def _read_changes(headers: Fields, direction: str) -> HeaderChanges:
    with headers.object(direction) as changes:
        return HeaderChanges(changes.pairs("set"), changes.pairs("add"), changes.texts("remove"))


def _read_retries(retries: Fields) -> Retries:
    with retries:
        return Retries(
            attempts=retries.number("attempts", 0),
            per_try_timeout=_duration(retries, "perTryTimeout"),
            on=retries.text("retryOn") or None,
        )


def _read_fault(fault: Fields) -> Fault:
    with fault, fault.object("delay") as delay, fault.object("abort") as abort:
        return Fault(
            delay=_duration(delay, "fixedDelay"),
            delay_percent=_percent(delay),
            abort_status=abort.number("httpStatus"),
            abort_percent=_percent(abort),
        )


def _percent(fault: Fields) -> float:
    """The percentage of a fault, which hits no request without one, as in Istio."""
    return fault.percent("percentage", float(fault.number("percent", 0)))


def _duration(fields: Fields, name: str) -> float | None:
    """A duration in seconds that Istio's validation takes."""
    seconds = fields.seconds(name)
    if seconds is not None and seconds < _LEAST_DURATION:
        fields.refuse(name, "must be at least 1ms")
    return seconds


def read_destination_rule(
    spec: Fields, namespace: str
) -> tuple[str, tuple[Subset, ...], OutlierDetection | None]:
    """Read a DestinationRule's `spec`: its host, its subsets and the host's outlier detection."""
    with spec:
        host = full_host(spec.text("host"), namespace)
        subsets = spec.each("subsets", lambda subset: _read_subset(subset, host))
        return host, subsets, spec.optional("trafficPolicy", _read_policy)


def _read_subset(subset: Fields, host: str) -> Subset:
    with subset:
        return Subset(
            host,
            subset.text("name"),
            subset.pairs("labels"),
            subset.optional("trafficPolicy", _read_policy),
            subset.source,
        )


def _read_policy(policy: Fields) -> OutlierDetection | None:
    with policy:
        return policy.optional("outlierDetection", _read_outliers)


def _read_outliers(outliers: Fields) -> OutlierDetection:
    with outliers:
        return OutlierDetection(
            consecutive_5xx=outliers.number("consecutive5xxErrors"),
            consecutive_gateway_errors=outliers.number("consecutiveGatewayErrors"),
            interval=_duration(outliers, "interval"),
            base_ejection_time=_duration(outliers, "baseEjectionTime"),
            max_ejection_percent=outliers.number("maxEjectionPercent"),
            min_health_percent=outliers.number("minHealthPercent"),
        )
