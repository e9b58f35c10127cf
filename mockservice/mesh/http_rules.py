"""Reads a route of a VirtualService's `http` (networking.istio.io)."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mockservice.manifests.hosts import ALL_SIDECARS, full_host
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
    Text,
)

if TYPE_CHECKING:
    from mockservice.mesh.fields import Fields

_REDIRECTS: Final = (301, 302, 303, 307, 308)
# What Istio's validation takes.
_METHODS: Final = (
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "*",
)
_RETRY_ON: Final = (
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
)


@dataclass(frozen=True, slots=True)
class Condition:
    """What a request must be, and the gateways where that counts: full names, or all sidecars."""

    match: Match
    gateways: tuple[str, ...] = ()
    """None of them: everywhere."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A route as a VirtualService has it."""

    route: Route
    """Without its matches."""
    conditions: tuple[Condition, ...]
    """None of them: any request."""
    delegate: tuple[str, str] | None = None
    """Namespace and name of the VirtualService whose routes take the place of this one."""


def read_rule(route: Fields, namespace: str) -> Rule:
    """Read an HTTPRoute of a VirtualService in a namespace."""
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
        if "rewrite" in route and not (rewrite_uri or rewrite_authority or rewrite_regex):
            route.refuse("rewrite", "must have uri, uriRegexRewrite or authority")
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
        return Rule(found, conditions, delegate)


def full_gateway(name: str, namespace: str) -> str:
    """Return `NAMESPACE/NAME` of a gateway that a rule in a namespace names."""
    return name if name == ALL_SIDECARS or "/" in name else f"{namespace}/{name}"


def read_match(match: Fields) -> Match:
    """Read an HTTPMatchRequest, as ASM's ingress rules use it."""
    with match:
        return _read_match(match)


def _read_condition(match: Fields, namespace: str) -> Condition:
    with match:
        found = replace(
            _read_match(match),
            port=_read_port(match),
            source_namespace=match.text("sourceNamespace") or None,
        )
        gateways = match.texts("gateways")
        return Condition(found, tuple(full_gateway(name, namespace) for name in gateways))


def _read_port(match: Fields) -> int | None:
    port: int | None = match.number("port")
    if port is not None and not 1 <= port <= 65535:
        match.refuse("port", f"{port}: must be from 1 to 65535")
    return port


def _read_match(match: Fields) -> Match:
    # These name the match in traces and in statistics.
    match.ignore("name", "statPrefix")
    uri = match.optional("uri", _read_text)
    ignores_case = match.flag("ignoreUriCase")
    return Match(
        uri=None if uri is None else replace(uri, ignores_case=ignores_case),
        method=match.optional("method", _read_text),
        headers=match.named("headers", _read_text),
        without_headers=match.named("withoutHeaders", _read_missing),
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


def _read_missing(text: Fields) -> Text:
    """What a header must not be; `*` is no regular expression here, but any value, as in Istio."""
    found = _read_text(text)
    return Text("present") if found == Text("regex", "*") else found


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
        route.note("route", f"weights {terms} add up to {sum(weights)}: they are shares of that")
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
        parts = ("uri", "authority", "scheme", "port", "derivePort")
        if not any(name in redirect for name in parts):
            redirect.refuse("", "must have uri, authority, scheme, port or derivePort")
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
    if "mirror" in route and "mirrors" in route:
        route.refuse("mirrors", "must not be set beside mirror")
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
        methods, max_age = cors.texts("allowMethods"), cors.duration("maxAge")
        if unknown := [method for method in methods if method not in _METHODS]:
            known = ", ".join(_METHODS)
            cors.refuse("allowMethods", f"{unknown[0]!r}: must be one of {known}")
        if max_age is not None and max_age % 1:
            cors.refuse("maxAge", "must be whole seconds")
        return Cors(
            origins=cors.each("allowOrigins", _read_text) or older,
            methods=methods,
            headers=cors.texts("allowHeaders"),
            expose_headers=cors.texts("exposeHeaders"),
            max_age=max_age,
            credentials=cors.flag("allowCredentials") if "allowCredentials" in cors else None,
            forwards_unmatched=cors.text("unmatchedPreflights") != "IGNORE",
        )


def _read_retries(retries: Fields) -> Retries:
    with retries:
        # All pods are in one place.
        retries.ignore("retryRemoteLocalities")
        others = "retryIgnorePreviousHosts"
        attempts: int = retries.number("attempts", 0)
        if attempts < 0:
            retries.refuse("attempts", f"{attempts}: must be 0 or more")
        for name in ("perTryTimeout", "retryOn", "retryRemoteLocalities"):
            if not attempts and name in retries:
                retries.refuse(name, "must not be set without attempts")
        on = retries.text("retryOn")
        for condition in filter(None, on.split(",")):
            if condition not in _RETRY_ON and not condition.isdigit():
                known = ", ".join(_RETRY_ON)
                reason = f"{condition!r}: must be a status or one of {known}, without spaces"
                retries.refuse("retryOn", reason)
        return Retries(
            attempts=attempts,
            per_try_timeout=retries.duration("perTryTimeout"),
            on=on or None,
            backoff=retries.duration("backoff"),
            avoids_pod=retries.flag(others) if others in retries else None,
        )


def _read_fault(fault: Fields) -> Fault:
    if "delay" not in fault and "abort" not in fault:
        fault.refuse("", "must have abort or delay")
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
