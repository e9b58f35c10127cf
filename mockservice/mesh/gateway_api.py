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
    from collections.abc import Sequence

    from mockservice.mesh.fields import Fields

_PATHS: Final[dict[str, TextKind]] = {
    "Exact": "exact",
    "PathPrefix": "segments",
    "RegularExpression": "regex",
}
_PATH_RANKS: Final = ("exact", "segments", "regex")
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_NO_BACKEND: Final = 500
_HEADERS: Final[dict[str, TextKind]] = {"Exact": "exact", "RegularExpression": "regex"}


@dataclass(frozen=True, slots=True)
class Grant:
    """That HTTPRoutes of a namespace may lead to a Service of another one, or to all there."""

    caller: str
    namespace: str
    service: str | None


@dataclass(frozen=True, slots=True)
class _Owner:
    """Where an HTTPRoute is, and what lets it lead to Services of other namespaces."""

    namespace: str
    grants: Sequence[Grant] | None
    """None: it needs no grant."""

    def may_lead_to(self, service: str, namespace: str) -> bool:
        """Whether there is a grant, or none is needed."""
        if self.grants is None or namespace == self.namespace:
            return True
        asked = (Grant(self.namespace, namespace, name) for name in (service, None))
        return any(one in self.grants for one in asked)


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

    Source: Gateway API, `HTTPRouteRule.matches`; where regular expressions stand is up to the
    implementation, and with Istio it is after all prefixes.
    """

    def rank(route: Route) -> tuple[int, int, bool, int, int]:
        (match,) = route.matches
        path = match.uri or Text("segments", "/")
        return (
            _PATH_RANKS.index(path.kind),
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


def read_reference_grant(spec: Fields, namespace: str) -> list[Grant]:
    """Read a ReferenceGrant's `spec`: what it lets HTTPRoutes do."""
    with spec:
        callers = [
            one.text("namespace") for one in spec.objects("from") if one.text("kind") == "HTTPRoute"
        ]
        services = [
            one.text("name") or None for one in spec.objects("to") if one.text("kind") == "Service"
        ]
    return [Grant(caller, namespace, service) for caller in callers for service in services]


def read_http_route(
    spec: Fields, namespace: str, ingress: Ingress, grants: Sequence[Grant]
) -> HttpRoutes:
    """Read an HTTPRoute's `spec`."""
    routes = HttpRoutes()
    with spec:
        hosts = spec.texts("hostnames") or ("*",)
        kinds = [parent.text("kind", "Gateway") for parent in spec.objects("parentRefs")]
        # Istio asks for no grant where the parent is a Service.
        owner = _Owner(namespace, grants if "Gateway" in kinds else None)
        read = [route for rule in spec.objects("rules") for route in _read_rule(rule, owner)]
        for parent in spec.objects("parentRefs"):
            with parent:
                name, place = parent.text("name"), parent.text("namespace", namespace)
                parent.ignore("group")
                if parent.text("kind", "Gateway", allowed=("Gateway", "Service")) == "Service":
                    port = parent.number("port")
                    if place != namespace:
                        parent.refuse("namespace")
                    own = routes.between_pods.setdefault(host_of(name, place), [])
                    own += read if port is None else [_at_port(route, port) for route in read]
                    continue
                section, port = parent.text("sectionName") or None, parent.number("port")
                served = ingress.hosts(name, place, hosts, namespace, section)
                if served is None or port not in (None, ingress.port):
                    reason = f"no Gateway {place}/{name} accepts routes from namespace {namespace}"
                    if section is not None or port is not None:
                        reason += " at this listener"
                    parent.refuse("name", reason)
                for host in served or ():
                    routes.at_gateway.setdefault(host, []).extend(read)
    return routes


def _at_port(route: Route, port: int) -> Route:
    return replace(route, matches=tuple(replace(match, port=port) for match in route.matches))


def _read_rule(rule: Fields, owner: _Owner) -> list[Route]:
    with rule:
        rule.ignore("name")
        matches = rule.each("matches", _read_match) or (Match(),)
        backends = rule.each("backendRefs", lambda backend: _read_backend(backend, owner))
        filters = _read_filters(rule, owner)
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
    """Add what a route does with the path; to remove a prefix depends on the match.

    Where a path is `/`, slashes may be missing or doubled then, as they are with Istio.
    Source: Gateway API, `HTTPPathModifier`; Istio's pilot, `createRewriteFilter`.
    """
    route = replace(route, rewrite_authority=filters.hostname)
    if filters.path is None:
        return route
    is_whole, path = filters.path
    if route.redirect is not None:
        changed = {"path": path} if is_whole else {"prefix": path or None}
        return replace(route, redirect=replace(route.redirect, **changed))
    if is_whole:
        return replace(route, rewrite_regex=("/.*", path))
    if uri := path.removesuffix("/"):
        return replace(route, rewrite_uri=uri)
    (match,) = route.matches
    has_prefix = match.uri is not None and match.uri.kind == "segments"
    prefix = match.uri.value.rstrip("/") if match.uri and has_prefix else ""
    return replace(route, rewrite_regex=(f"^{re.escape(prefix)}(/?)(.*)", r"/\2"))


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


def _read_backend(backend: Fields, owner: _Owner) -> Destination:
    with backend:
        found = _read_reference(backend, owner)
        filters = _read_filters(backend, owner, are_of_backend=True)
        return replace(found, weight=backend.number("weight", 1), headers=filters.headers)


def _read_reference(reference: Fields, owner: _Owner) -> Destination:
    reference.ignore("group")
    reference.text("kind", "Service", allowed=("Service",))
    name, namespace = reference.text("name"), reference.text("namespace", owner.namespace)
    if not owner.may_lead_to(name, namespace):
        reason = f"no ReferenceGrant there lets HTTPRoutes of {owner.namespace} lead to {name}"
        reference.refuse("namespace", f"{namespace!r}: {reason}; on a cluster requests get 500")
    return Destination(host_of(name, namespace), reference.number("port"))


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


def _read_filters(fields: Fields, owner: _Owner, *, are_of_backend: bool = False) -> _Filters:
    """Read the filters of a rule, or of a backend, which only changes headers here."""
    filters = _Filters()
    for item in fields.objects("filters"):
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
                filters.mirrors.append(_read_mirror(item.object("requestMirror"), owner))
            if "requestRedirect" in item:
                with item.object("requestRedirect") as redirect:
                    filters.redirect = _read_redirect(redirect)
                    filters.path = _read_path(redirect)
            if "urlRewrite" in item:
                with item.object("urlRewrite") as rewrite:
                    filters.hostname = rewrite.text("hostname") or None
                    filters.path = _read_path(rewrite)
    return filters


def _read_mirror(mirror: Fields, owner: _Owner) -> Mirror:
    with mirror:
        with mirror.object("backendRef") as reference:
            destination = _read_reference(reference, owner)
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
