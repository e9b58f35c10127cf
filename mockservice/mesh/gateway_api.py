"""Reads Gateway API's Gateway and HTTPRoute (gateway.networking.k8s.io).

An HTTPRoute attaches to a Gateway, or to a Service for the calls between pods.

Source: Gateway API, "HTTPRoute" and GEP-1324 (routes bound to Services).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from mockservice.manifests.hosts import host_of
from mockservice.mesh.istio import Gateway, Ingress
from mockservice.mesh.model import (
    Destination,
    HeaderChanges,
    Headers,
    Match,
    Route,
    RouteTable,
    Text,
    TextKind,
    pairs,
)

if TYPE_CHECKING:
    from mockservice.mesh.fields import Fields

_PATHS: Final[dict[str, TextKind]] = {
    "Exact": "exact",
    "PathPrefix": "segments",
    "RegularExpression": "regex",
}
_HEADERS: Final[dict[str, TextKind]] = {"Exact": "exact", "RegularExpression": "regex"}


@dataclass(frozen=True, slots=True)
class HttpRoutes:
    """The routes of HTTPRoutes, by host."""

    at_gateway: dict[str, list[Route]] = field(default_factory=dict)
    between_pods: dict[str, list[Route]] = field(default_factory=dict)

    def add(self, others: HttpRoutes) -> None:
        """Append the routes of others."""
        for mine, theirs in (
            (self.at_gateway, others.at_gateway),
            (self.between_pods, others.between_pods),
        ):
            for host, routes in theirs.items():
                mine.setdefault(host, []).extend(routes)

    def gateway_tables(self) -> list[RouteTable]:
        """Return the route tables of the gateway."""
        return _tables(self.at_gateway)

    def call_tables(self) -> list[RouteTable]:
        """Return the route tables for calls between pods."""
        return _tables(self.between_pods)


def _tables(routes_of: dict[str, list[Route]]) -> list[RouteTable]:
    """Return one table for each host; its source is the first HTTPRoute of that host."""
    return [
        RouteTable((host,), _by_precedence(routes), routes[0].source if routes else None)
        for host, routes in routes_of.items()
    ]


def _by_precedence(routes: list[Route]) -> tuple[Route, ...]:
    """Sort routes with one match each by precedence.

    Source: Gateway API, `HTTPRouteRule.matches`.
    """

    def rank(route: Route) -> tuple[bool, int, bool, int]:
        (match,) = route.matches
        path = match.uri or Text("segments", "/")
        return (
            path.kind != "exact",
            -len(path.value),
            match.method is None,
            -len(match.headers),
        )

    return tuple(sorted(routes, key=rank))


def read_gateway(spec: Fields, name: str, namespace: str, ingress: Ingress) -> None:
    """Read a Gateway's `spec` and add it to the ingress."""
    hosts: list[str] = []
    allowed_from = "Same"
    with spec:
        # Selects the controller, of which there is only one here.
        spec.ignore("gatewayClassName")
        for listener in spec.objects("listeners"):
            with listener:
                listener.ignore("name")
                listener.text("protocol", allowed=("HTTP",))
                ingress.add_port(listener, "port")
                hosts.append(listener.text("hostname", "*"))
                with (
                    listener.object("allowedRoutes") as allowed,
                    allowed.object("namespaces") as namespaces,
                ):
                    allowed_from = namespaces.text("from", "Same", allowed=("Same", "All"))
    allowed_namespace = namespace if allowed_from == "Same" else None
    ingress.gateways.append(
        Gateway(name, namespace, tuple(hosts), allowed_namespace=allowed_namespace)
    )


def read_http_route(spec: Fields, namespace: str, ingress: Ingress) -> HttpRoutes:
    """Read an HTTPRoute's `spec`."""
    routes = HttpRoutes()
    with spec:
        hosts = spec.texts("hostnames") or ("*",)
        read = [route for rule in spec.objects("rules") for route in _read_rule(rule, namespace)]
        for parent in spec.objects("parentRefs"):
            with parent:
                name, owner = parent.text("name"), parent.text("namespace", namespace)
                parent.ignore("group")
                if parent.text("kind", "Gateway", allowed=("Gateway", "Service")) == "Service":
                    # Local lanes use the same routes for all ports of a Service.
                    parent.ignore("port")
                    if owner != namespace:
                        parent.refuse("namespace")
                    routes.between_pods.setdefault(host_of(name, owner), []).extend(read)
                    continue
                served = ingress.hosts(name, owner, hosts, namespace)
                if served is None:
                    reason = f"no Gateway {owner}/{name} accepts routes from namespace {namespace}"
                    parent.refuse("name", reason)
                for host in served or ():
                    routes.at_gateway.setdefault(host, []).extend(read)
    return routes


def _read_rule(rule: Fields, namespace: str) -> list[Route]:
    with rule:
        rule.ignore("name")
        matches = rule.each("matches", _read_match) or (Match(),)
        backends = rule.each("backendRefs", lambda backend: _read_backend(backend, namespace))
        if not backends:
            rule.refuse("backendRefs", "must have at least one backend")
        headers = _read_filters(rule)
        with rule.object("timeouts") as timeouts:
            timeout = timeouts.seconds("request")
        route = Route(backends, headers=headers, timeout=timeout, source=rule.source)
        return [replace(route, matches=(match,)) for match in matches]


def _read_match(match: Fields) -> Match:
    with match:
        with match.object("path") as path:
            kind = _PATHS.get(path.text("type", "PathPrefix", allowed=tuple(_PATHS)), "segments")
            uri = Text(kind, path.text("value", "/"))
        method = match.text("method")
        return Match(
            uri=uri,
            method=Text("exact", method) if method else None,
            headers=match.each("headers", _read_header),
        )


def _read_header(header: Fields) -> tuple[str, Text]:
    with header:
        kind = _HEADERS.get(header.text("type", "Exact", allowed=tuple(_HEADERS)), "exact")
        return header.text("name").lower(), Text(kind, header.text("value"))


def _read_backend(backend: Fields, namespace: str) -> Destination:
    with backend:
        backend.ignore("group")
        backend.text("kind", "Service", allowed=("Service",))
        host = host_of(backend.text("name"), backend.text("namespace", namespace))
        return Destination(
            host,
            backend.number("port"),
            weight=backend.number("weight", 1),
            headers=_read_filters(backend),
        )


def _read_filters(owner: Fields) -> Headers:
    headers = Headers()
    for item in owner.objects("filters"):
        with item:
            item.ignore("type")
            if "requestHeaderModifier" in item:
                headers = replace(headers, request=_read_changes(item, "requestHeaderModifier"))
            if "responseHeaderModifier" in item:
                headers = replace(headers, response=_read_changes(item, "responseHeaderModifier"))
    return headers


def _read_changes(item: Fields, name: str) -> HeaderChanges:
    with item.object(name) as changes:
        return HeaderChanges(
            pairs(dict(changes.each("set", _read_pair))),
            pairs(dict(changes.each("add", _read_pair))),
            changes.texts("remove"),
        )


def _read_pair(pair: Fields) -> tuple[str, str]:
    with pair:
        return pair.text("name"), pair.text("value")
