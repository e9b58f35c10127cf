"""Reads Istio's VirtualService (networking.istio.io): its routes at gateways and between pods."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mockservice.manifests.hosts import ALL_SIDECARS, full_host
from mockservice.mesh.istio import GATEWAY_LABELS, GATEWAY_NAMESPACE
from mockservice.mesh.model import (
    PERCENT_OF_ALL,
    Cors,
    Destination,
    DirectResponse,
    Fault,
    HeaderChanges,
    Headers,
    Match,
    Mirror,
    Redirect,
    Retries,
    Route,
    RouteTable,
    Text,
    selects,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mockservice.mesh.fields import Fields
    from mockservice.mesh.istio import Ingress

_REDIRECTS: Final = (301, 302, 303, 307, 308)
_ANYWHERE: Final = "*"


@dataclass(frozen=True, slots=True)
class _Condition:
    """What a request must be, and the gateways where that counts: full names, or all sidecars."""

    match: Match
    gateways: tuple[str, ...] = ()
    """None of them: everywhere."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """A route as a VirtualService has it."""

    route: Route
    """Without its matches."""
    conditions: tuple[_Condition, ...]
    """None of them: any request."""
    delegate: tuple[str, str] | None = None
    """Namespace and name of the VirtualService whose routes take the place of this one."""


@dataclass(frozen=True, slots=True)
class VirtualService:
    """A VirtualService as its manifest has it."""

    name: str
    namespace: str
    spec: Fields
    hosts: tuple[str, ...]
    gateways: tuple[str, ...]
    """Full names, or all sidecars."""
    rules: tuple[_Rule, ...]
    export_to: tuple[str, ...]

    def is_seen_from(self, namespace: str) -> bool:
        """Whether callers in a namespace use it. Source: Istio, `VirtualService.exportTo`."""
        own = namespace == self.namespace and "." in self.export_to
        return not self.export_to or own or not {_ANYWHERE, namespace}.isdisjoint(self.export_to)


def read_virtual_service(spec: Fields, name: str, namespace: str) -> VirtualService:
    """Read a VirtualService's `spec`."""
    with spec:
        gateways = spec.texts("gateways") or (ALL_SIDECARS,)
        return VirtualService(
            name,
            namespace,
            spec,
            spec.texts("hosts"),
            tuple(_full_gateway(gateway, namespace) for gateway in gateways),
            spec.each("http", lambda route: _read_rule(route, namespace)),
            spec.texts("exportTo"),
        )


def with_delegates(
    service: VirtualService, delegates: Mapping[tuple[str, str], VirtualService]
) -> VirtualService:
    """Put the routes of the VirtualServices that a service delegates to in their places.

    Args:
        service: it delegates to others, or not.
        delegates: those without hosts, by namespace and name.
    """
    return replace(service, rules=tuple(_delegated(service, delegates)))


def route_tables(
    service: VirtualService, ingress: Ingress
) -> tuple[list[RouteTable], list[RouteTable]]:
    """The route tables for the gateway and for the calls between pods."""
    at_gateway, between_pods = [], []
    source = service.spec.document
    for gateway in service.gateways:
        if gateway == ALL_SIDECARS:
            full = tuple(full_host(host, service.namespace) for host in service.hosts)
            routes = tuple(_routes(service.rules, _between_pods))
            between_pods.append(RouteTable(full, routes, source))
            continue
        owner, _, name = gateway.rpartition("/")
        served = ingress.hosts(name, owner, service.hosts)
        if served is None:
            service.spec.refuse("gateways", f"there is no Gateway {gateway!r}")
        elif not served:
            service.spec.refuse("hosts", f"Gateway {gateway!r} serves none of these hosts")
        else:
            at = _Place(gateway, ingress.port)
            at_gateway.append(RouteTable(served, tuple(_routes(service.rules, at)), source))
    return at_gateway, between_pods


def _full_gateway(name: str, namespace: str) -> str:
    return name if name == ALL_SIDECARS or "/" in name else f"{namespace}/{name}"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where routes are used, and what of their conditions is left to be decided there.

    Where a condition names gateways, Istio does not look at its callers.
    Source: Istio, `HTTPMatchRequest.gateways`.
    """

    gateway: str
    port: int | None = None

    def __call__(self, condition: _Condition) -> Match | None:
        """The match there; None: no request there can be so."""
        match = condition.match
        if condition.gateways:
            if self.gateway not in condition.gateways:
                return None
            match = replace(match, source_labels=(), source_namespace=None)
        if self.gateway == ALL_SIDECARS:
            return match
        if (
            selects(match.source_labels, GATEWAY_LABELS)
            and match.source_namespace in (None, GATEWAY_NAMESPACE)
            and match.port in (None, self.port)
        ):
            return replace(match, source_labels=(), source_namespace=None, port=None)
        return None


_between_pods: Final = _Place(ALL_SIDECARS)


def _routes(rules: Iterable[_Rule], place: _Place) -> Iterator[Route]:
    for rule in rules:
        matches = tuple(match for one in rule.conditions if (match := place(one)) is not None)
        if matches or not rule.conditions:
            yield replace(rule.route, matches=matches)


# Delegation. Source: Istio, `HTTPRoute.delegate`, and how its pilot merges both.


def _delegated(
    service: VirtualService, delegates: Mapping[tuple[str, str], VirtualService]
) -> Iterator[_Rule]:
    for number, rule in enumerate(service.rules):
        if rule.delegate is None:
            yield rule
            continue
        namespace, name = rule.delegate
        place = f"http[{number}].delegate"
        delegate = delegates.get(rule.delegate)
        if delegate is None:
            reason = f"there is no VirtualService {namespace}/{name} without hosts"
            service.spec.refuse(place, reason)
            continue
        for own in delegate.rules:
            if own.delegate is not None:
                service.spec.refuse(place, f"{namespace}/{name} must not delegate itself")
                continue
            conditions = _merged_conditions(rule.conditions, own.conditions)
            if conditions is None:
                source = own.route.source
                where = f"a route of {source}" if source else f"a route of {namespace}/{name}"
                service.spec.note(place, f"{where} is left out: it matches more than this one")
                continue
            yield _Rule(_merged_route(rule.route, own.route), conditions)


def _merged_route(root: Route, own: Route) -> Route:
    """A delegate's route; what it leaves open is as at the root."""
    return replace(
        own,
        headers=root.headers if own.headers == Headers() else own.headers,
        rewrite_uri=own.rewrite_uri or root.rewrite_uri,
        rewrite_authority=own.rewrite_authority or root.rewrite_authority,
        rewrite_regex=own.rewrite_regex or root.rewrite_regex,
        timeout=root.timeout if own.timeout is None else own.timeout,
        retries=own.retries or root.retries,
        fault=own.fault or root.fault,
        mirrors=own.mirrors or root.mirrors,
        cors=own.cors or root.cors,
    )


def _merged_conditions(
    root: tuple[_Condition, ...], own: tuple[_Condition, ...]
) -> tuple[_Condition, ...] | None:
    """What a request must be for both; None where the delegate asks for what the root excludes."""
    if not root or not own:
        return root or own
    found: list[_Condition] = []
    for leaf in own:
        fitting = [_merged(one, leaf) for one in root if not _conflict(one, leaf)]
        if not fitting:
            return None
        found += fitting
    return tuple(found)


def _merged(root: _Condition, leaf: _Condition) -> _Condition:
    one, other = root.match, leaf.match
    match = replace(
        other,
        uri=other.uri or one.uri,
        method=other.method or one.method,
        scheme=other.scheme or one.scheme,
        authority=other.authority or one.authority,
        headers=tuple((dict(one.headers) | dict(other.headers)).items()),
        without_headers=tuple((dict(one.without_headers) | dict(other.without_headers)).items()),
        query=tuple((dict(one.query) | dict(other.query)).items()),
        port=one.port if other.port is None else other.port,
        source_labels=tuple(sorted((dict(one.source_labels) | dict(other.source_labels)).items())),
        source_namespace=other.source_namespace or one.source_namespace,
    )
    return _Condition(match, leaf.gateways or root.gateways)


def _conflict(root: _Condition, leaf: _Condition) -> bool:
    """Whether a delegate's condition is no part of the root's."""
    one, other = root.match, leaf.match
    texts = [
        (one.uri, other.uri),
        (one.scheme, other.scheme),
        (one.method, other.method),
        (one.authority, other.authority),
    ]
    for ours, theirs in (
        (one.headers, other.headers),
        (one.without_headers, other.without_headers),
        (one.query, other.query),
    ):
        texts += [(dict(ours).get(name), text) for name, text in theirs]
    labels = dict(one.source_labels)
    return (
        any(_excludes(wide, narrow) for wide, narrow in texts)
        or (one.port is not None and other.port not in (None, one.port))
        or (one.source_namespace is not None and other.source_namespace != one.source_namespace)
        or any(labels.get(name, value) != value for name, value in other.source_labels)
        or (bool(root.gateways) and not set(leaf.gateways) <= set(root.gateways))
    )


def _excludes(wide: Text | None, narrow: Text | None) -> bool:
    if wide is None or narrow is None or "present" in (wide.kind, narrow.kind):
        return False
    if wide.ignores_case != narrow.ignores_case or "regex" in (wide.kind, narrow.kind):
        return True
    if wide.kind == "exact":
        return narrow != wide
    return not narrow.value.startswith(wide.value)


# Fields


def _read_rule(route: Fields, namespace: str) -> _Rule:
    with route:
        route.ignore("name")
        conditions = route.each("match", lambda match: _read_condition(match, namespace))
        delegate = None
        if "delegate" in route:
            with route.object("delegate") as named:
                delegate = named.text("namespace") or namespace, named.text("name")
        redirect = route.optional("redirect", _read_redirect)
        direct_response = route.optional("directResponse", _read_direct_response)
        destinations = _read_destinations(route, namespace)
        answers = [bool(destinations), redirect, direct_response, delegate]
        if sum(map(bool, answers)) != 1:
            reason = "must have at least one destination"
            if any(answers):
                reason = "must have just one of route, redirect, directResponse and delegate"
            route.refuse("route", reason)
        with route.object("rewrite") as rewrite:
            rewrite_uri, rewrite_authority = rewrite.text("uri"), rewrite.text("authority")
            rewrite_regex = rewrite.optional("uriRegexRewrite", _read_regex_rewrite)
        found = Route(
            destinations=destinations,
            headers=_read_headers(route),
            rewrite_uri=rewrite_uri or None,
            rewrite_authority=rewrite_authority or None,
            rewrite_regex=rewrite_regex,
            timeout=route.duration("timeout"),
            retries=route.optional("retries", _read_retries),
            fault=route.optional("fault", _read_fault),
            redirect=redirect,
            direct_response=direct_response,
            mirrors=_read_mirrors(route, namespace),
            cors=route.optional("corsPolicy", _read_cors),
            source=route.source,
        )
        return _Rule(found, conditions, delegate)


def read_match(match: Fields) -> Match:
    """Read an HTTPMatchRequest, as ASM's ingress rules use it."""
    with match:
        return _read_match(match)


def _read_condition(match: Fields, namespace: str) -> _Condition:
    with match:
        found = replace(
            _read_match(match),
            port=match.number("port"),
            source_namespace=match.text("sourceNamespace") or None,
        )
        gateways = match.texts("gateways")
        return _Condition(found, tuple(_full_gateway(name, namespace) for name in gateways))


def _read_match(match: Fields) -> Match:
    # These name the match in traces and in statistics.
    match.ignore("name", "statPrefix")
    uri = match.optional("uri", _read_text)
    ignores_case = match.flag("ignoreUriCase")
    return Match(
        uri=None if uri is None else replace(uri, ignores_case=ignores_case),
        method=match.optional("method", _read_text),
        headers=match.named("headers", _read_text),
        without_headers=match.named("withoutHeaders", _read_text),
        source_labels=match.pairs("sourceLabels"),
        query=match.named("queryParams", _read_text),
        authority=match.optional("authority", _read_text),
        scheme=match.optional("scheme", _read_text),
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


def _read_destinations(route: Fields, namespace: str) -> tuple[Destination, ...]:
    destinations = route.each("route", lambda fields: _read_destination(fields, namespace))
    if len(destinations) == 1:
        # A single destination gets all requests, whatever its weight.
        return (replace(destinations[0], weight=1),)
    weights = [one.weight for one in destinations]
    if weights and not sum(weights):
        route.refuse("route", "weights must not all be 0")
    elif weights and sum(weights) != PERCENT_OF_ALL:
        terms = " + ".join(map(str, weights))
        route.note("route", f"weights {terms} add up to {sum(weights)}: they count as shares of it")
    return destinations


def _read_destination(fields: Fields, namespace: str) -> Destination:
    with fields:
        fallback = None
        found = _read_named(fields, "destination", namespace)
        # An ASM extension of HTTPRouteDestination.
        with fields.object("fallback") as instead, instead.object("target") as target:
            fallback = target.text("subset") or None
            if full_host(target.text("host") or found.host, namespace) != found.host:
                reason = f"must be {found.host}: local lanes fall back only within one host"
                target.refuse("host", reason)
        return replace(
            found,
            weight=fields.number("weight", 0),
            headers=_read_headers(fields),
            fallback=fallback,
        )


def _read_named(fields: Fields, name: str, namespace: str) -> Destination:
    with fields.object(name) as destination, destination.object("port") as port:
        host = full_host(destination.text("host"), namespace)
        subset = destination.text("subset") or None
        return Destination(host, port.number("number"), subset)


def _read_headers(fields: Fields) -> Headers:
    with fields.object("headers") as headers:
        return Headers(_read_changes(headers, "request"), _read_changes(headers, "response"))


def _read_changes(headers: Fields, direction: str) -> HeaderChanges:
    with headers.object(direction) as changes:
        return HeaderChanges(changes.pairs("set"), changes.pairs("add"), changes.texts("remove"))


def _read_regex_rewrite(rewrite: Fields) -> tuple[str, str]:
    with rewrite:
        return rewrite.text("match"), rewrite.text("rewrite")


def _read_redirect(redirect: Fields) -> Redirect:
    with redirect:
        ways = ("FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT")
        status: int = redirect.number("redirectCode", 301)
        if status not in _REDIRECTS:
            known = ", ".join(map(str, _REDIRECTS))
            redirect.refuse("redirectCode", f"{status}: must be one of {known}")
        return Redirect(
            status,
            scheme=redirect.text("scheme") or None,
            authority=redirect.text("authority") or None,
            port=redirect.number("port"),
            keeps_port=redirect.text("derivePort", allowed=ways) == ways[1],
            path=redirect.text("uri") or None,
        )


def _read_direct_response(response: Fields) -> DirectResponse:
    with response, response.object("body") as body:
        text = body.text("string")
        if "bytes" in body:
            try:
                text = b64decode(body.text("bytes"), validate=True).decode()
            except ValueError:
                body.refuse("bytes", "must be text in UTF-8, base64-encoded, in local lanes")
        status: int = response.number("status", 0)
        if not 200 <= status <= 599:
            response.refuse("status", f"{status}: must be from 200 to 599")
        return DirectResponse(status, text)


def _read_mirrors(route: Fields, namespace: str) -> tuple[Mirror, ...]:
    mirrors = []
    older = float(route.number("mirrorPercent", route.number("mirror_percent", PERCENT_OF_ALL)))
    percent = route.percent("mirrorPercentage", older)
    if "mirror" in route:
        mirrors.append(Mirror(_read_named(route, "mirror", namespace), percent))
    for one in route.objects("mirrors"):
        with one:
            destination = _read_named(one, "destination", namespace)
            mirrors.append(Mirror(destination, one.percent("percentage", PERCENT_OF_ALL)))
    return tuple(one for one in mirrors if one.percent)


def _read_cors(cors: Fields) -> Cors:
    with cors:
        older = tuple(Text("exact", origin) for origin in cors.texts("allowOrigin"))
        return Cors(
            origins=cors.each("allowOrigins", _read_text) or older,
            methods=cors.texts("allowMethods"),
            headers=cors.texts("allowHeaders"),
            expose_headers=cors.texts("exposeHeaders"),
            max_age=cors.seconds("maxAge"),
            credentials=cors.flag("allowCredentials") if "allowCredentials" in cors else None,
            forwards_unmatched=cors.text("unmatchedPreflights") != "IGNORE",
        )


def _read_retries(retries: Fields) -> Retries:
    with retries:
        return Retries(
            attempts=retries.number("attempts", 0),
            per_try_timeout=retries.duration("perTryTimeout"),
            on=retries.text("retryOn") or None,
        )


def _read_fault(fault: Fields) -> Fault:
    with fault, fault.object("delay") as delay, fault.object("abort") as abort:
        return Fault(
            delay=delay.duration("fixedDelay"),
            delay_percent=_percent(delay),
            abort_status=abort.number("httpStatus"),
            abort_percent=_percent(abort),
        )


def _percent(fault: Fields) -> float:
    """The percentage of a fault, which hits no request without one, as in Istio."""
    return fault.percent("percentage", float(fault.number("percent", 0)))
