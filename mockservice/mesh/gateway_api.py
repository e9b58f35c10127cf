"""Reads Gateway API's Gateway and HTTPRoute (gateway.networking.k8s.io).

An HTTPRoute attaches to a Gateway, or to a Service for the calls between pods.

Source: Gateway API, "HTTPRoute" and GEP-1324 (routes bound to Services).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from mockservice.manifests.hosts import host_of
from mockservice.mesh.istio import SERVED_PLAINLY, Gateway, Ingress
from mockservice.mesh.model import (
    PERCENT_OF_ALL,
    Destination,
    DirectResponse,
    HeaderChanges,
    Headers,
    Match,
    Mirror,
    Redirect,
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
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_NO_BACKEND: Final = 500
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

    def rank(route: Route) -> tuple[bool, int, bool, int, int]:
        (match,) = route.matches
        path = match.uri or Text("segments", "/")
        return (
            path.kind != "exact",
            -len(path.value),
            match.method is None,
            -len(match.headers),
            -len(match.query),
        )

    return tuple(sorted(routes, key=rank))


def read_gateway(spec: Fields, name: str, namespace: str, ingress: Ingress) -> None:
    """Read a Gateway's `spec` and add it to the ingress."""
    sections: list[tuple[str, str]] = []
    allowed_from = "Same"
    with spec:
        # Selects the controller, of which there is only one here.
        spec.ignore("gatewayClassName")
        for listener in spec.objects("listeners"):
            with listener:
                is_tls = listener.text("protocol", allowed=("HTTP", "HTTPS")) == "HTTPS"
                ingress.add_port(listener, "port", is_tls)
                if is_tls:
                    listener.object("tls").text("mode", allowed=("Terminate",))
                    listener.note("tls", f"certificates are left out: {SERVED_PLAINLY}")
                sections.append((listener.text("name"), listener.text("hostname", "*")))
                with (
                    listener.object("allowedRoutes") as allowed,
                    allowed.object("namespaces") as namespaces,
                ):
                    allowed_from = namespaces.text("from", "Same", allowed=("Same", "All"))
    allowed_namespace = namespace if allowed_from == "Same" else None
    ingress.gateways.append(
        Gateway(
            name,
            namespace,
            tuple(host for _, host in sections),
            allowed_namespace=allowed_namespace,
            sections=tuple(sections),
        )
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
                    port = parent.number("port")
                    if owner != namespace:
                        parent.refuse("namespace")
                    own = routes.between_pods.setdefault(host_of(name, owner), [])
                    own += read if port is None else [_at_port(route, port) for route in read]
                    continue
                section, port = parent.text("sectionName") or None, parent.number("port")
                served = ingress.hosts(name, owner, hosts, namespace, section)
                if served is None or port not in (None, ingress.port):
                    reason = f"no Gateway {owner}/{name} accepts routes from namespace {namespace}"
                    if section is not None or port is not None:
                        reason += " at this listener"
                    parent.refuse("name", reason)
                for host in served or ():
                    routes.at_gateway.setdefault(host, []).extend(read)
    return routes


def _at_port(route: Route, port: int) -> Route:
    return replace(route, matches=tuple(replace(match, port=port) for match in route.matches))


def _read_rule(rule: Fields, namespace: str) -> list[Route]:
    with rule:
        rule.ignore("name")
        matches = rule.each("matches", _read_match) or (Match(),)
        backends = rule.each("backendRefs", lambda backend: _read_backend(backend, namespace))
        filters = _read_filters(rule, namespace)
        redirect, direct_response = filters.redirect, None
        if redirect is None and not sum(backend.weight for backend in backends):
            # Source: Gateway API, `HTTPRouteRule.backendRefs`.
            direct_response = DirectResponse(_NO_BACKEND)
            rule.note("", f"no backend has a weight: requests are answered with {_NO_BACKEND}")
        with rule.object("timeouts") as timeouts:
            request, backend_request = (
                timeouts.seconds("request"),
                timeouts.seconds("backendRequest"),
            )
        route = Route(
            () if redirect or direct_response else backends,
            headers=filters.headers,
            # Without retries of its own a rule makes one backend request. 0 is no timeout.
            timeout=backend_request or request or None,
            redirect=redirect,
            direct_response=direct_response,
            mirrors=tuple(mirror for mirror in filters.mirrors if mirror.percent),
            source=rule.source,
        )
        return [_rewritten(replace(route, matches=(match,)), filters) for match in matches]


def _rewritten(route: Route, filters: _Filters) -> Route:
    """Add what a route does with the path; where a prefix is replaced, that depends on the match.

    Source: Gateway API, `HTTPPathModifier.replacePrefixMatch`.
    """
    route = replace(route, rewrite_authority=filters.hostname)
    if filters.path is None:
        return route
    (match,) = route.matches
    prefix = (match.uri.value if match.uri else "").rstrip("/")
    is_whole, path = filters.path
    regex, uri = None, path.rstrip("/")
    if is_whole:
        regex = ("/.*", path)
    elif not uri:
        regex = (f"^{re.escape(prefix)}(/?)(.*)$", r"/\2")
    elif not prefix:
        # Envoy replaces the first slash then.
        uri = f"{uri}/"
    if route.redirect is None:
        return replace(route, rewrite_regex=regex, rewrite_uri=None if regex else uri)
    if is_whole:
        redirect = replace(route.redirect, path=path)
    else:
        redirect = replace(route.redirect, regex=regex, prefix=None if regex else uri)
    return replace(route, redirect=redirect)


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
            query=match.each("queryParams", _read_named),
        )


def _read_header(header: Fields) -> tuple[str, Text]:
    name, text = _read_named(header)
    return name.lower(), text


def _read_named(named: Fields) -> tuple[str, Text]:
    with named:
        kind = _HEADERS.get(named.text("type", "Exact", allowed=tuple(_HEADERS)), "exact")
        return named.text("name"), Text(kind, named.text("value"))


def _read_backend(backend: Fields, namespace: str) -> Destination:
    with backend:
        found = _read_reference(backend, namespace)
        filters = _read_filters(backend, namespace, are_of_backend=True)
        return replace(found, weight=backend.number("weight", 1), headers=filters.headers)


def _read_reference(reference: Fields, namespace: str) -> Destination:
    reference.ignore("group")
    reference.text("kind", "Service", allowed=("Service",))
    host = host_of(reference.text("name"), reference.text("namespace", namespace))
    return Destination(host, reference.number("port"))


# Filters


@dataclass(slots=True)
class _Filters:
    headers: Headers = field(default_factory=Headers)
    redirect: Redirect | None = None
    mirrors: list[Mirror] = field(default_factory=list)
    hostname: str | None = None
    """The `Host` that backends see."""
    path: tuple[bool, str] | None = None
    """What takes the place of the whole path, or else of the prefix that matches."""


def _read_filters(owner: Fields, namespace: str, *, are_of_backend: bool = False) -> _Filters:
    """Read the filters of a rule, or of a backend, which only changes headers here."""
    filters = _Filters()
    for item in owner.objects("filters"):
        with item:
            item.ignore("type")
            if "requestHeaderModifier" in item:
                request = _read_changes(item, "requestHeaderModifier")
                filters.headers = replace(filters.headers, request=request)
            if "responseHeaderModifier" in item:
                response = _read_changes(item, "responseHeaderModifier")
                filters.headers = replace(filters.headers, response=response)
            if are_of_backend:
                continue
            if "requestMirror" in item:
                filters.mirrors.append(_read_mirror(item.object("requestMirror"), namespace))
            if "requestRedirect" in item:
                with item.object("requestRedirect") as redirect:
                    filters.redirect = _read_redirect(redirect)
                    filters.path = _read_path(redirect)
            if "urlRewrite" in item:
                with item.object("urlRewrite") as rewrite:
                    filters.hostname = rewrite.text("hostname") or None
                    filters.path = _read_path(rewrite)
    return filters


def _read_mirror(mirror: Fields, namespace: str) -> Mirror:
    with mirror:
        with mirror.object("backendRef") as reference:
            destination = _read_reference(reference, namespace)
        percent = float(mirror.number("percent", PERCENT_OF_ALL))
        if "fraction" in mirror:
            with mirror.object("fraction") as fraction:
                part, whole = fraction.number("numerator", 0), fraction.number("denominator", 100)
            percent = PERCENT_OF_ALL * part / (whole or 1)
        return Mirror(destination, percent)


def _read_redirect(redirect: Fields) -> Redirect:
    status: int = redirect.number("statusCode", 302)
    if status not in _REDIRECTS:
        known = ", ".join(map(str, _REDIRECTS))
        redirect.refuse("statusCode", f"{status}: must be one of {known}")
    scheme, port = redirect.text("scheme") or None, redirect.number("port")
    return Redirect(
        status,
        scheme,
        redirect.text("hostname") or None,
        port,
        # Source: Gateway API, `HTTPRequestRedirectFilter.port`.
        keeps_port=port is None and scheme is None,
    )


def _read_path(owner: Fields) -> tuple[bool, str] | None:
    if "path" not in owner:
        return None
    with owner.object("path") as path:
        kinds = ("ReplaceFullPath", "ReplacePrefixMatch")
        is_whole = path.text("type", allowed=kinds) == kinds[0]
        return is_whole, path.text("replaceFullPath" if is_whole else "replacePrefixMatch")


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
