"""Envoy's routes: what a request must be, and what then becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mockservice.lanes.envoy_matches import match_of
from mockservice.lanes.envoy_parts import (
    TYPE,
    cluster_name,
    named_filter,
    percentage,
    seconds,
    string_match,
)
from mockservice.mesh.model import Headers, Match, selects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mockservice.lanes.envoy_parts import Caller, Context, Json
    from mockservice.mesh.model import (
        Cors,
        Destination,
        DirectResponse,
        Fault,
        HashOn,
        HeaderChanges,
        Redirect,
        Retries,
        Route,
        RouteTable,
    )

# Istio's defaults: pilot/pkg/networking/core/route/retry.
RETRY_ATTEMPTS: Final = 2
_RETRY_ON: Final = "connect-failure,refused-stream,unavailable,cancelled"
_RETRY_OTHER_HOST_ATTEMPTS: Final = 5

_REDIRECTS: Final = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}


def routes_of(context: Context, table: RouteTable, caller: Caller) -> Iterator[Json]:
    """Yield Envoy's routes for one table: one for each match that the caller satisfies."""
    for route in table.routes:
        for match in route.matches or (Match(),):
            if (
                selects(match.source_labels, caller.labels)
                and match.source_namespace in (None, caller.namespace)
                and match.port in (None, caller.port)
            ):
                yield _route(context, route, match, caller)


def _route(context: Context, route: Route, match: Match, caller: Caller) -> Json:
    translated = {"match": match_of(match), **_header_changes(route.headers)}
    if route.redirect is not None:
        translated["redirect"] = _redirect(route.redirect, caller)
    elif route.direct_response is not None:
        translated["direct_response"] = _direct_response(route.direct_response)
    else:
        translated["route"] = _action(context, route, caller)
    filters: Json = {}
    if route.fault is not None:
        filters["fault"] = _fault(route.fault)
    if route.cors is not None:
        filters["cors"] = _cors(route.cors)
    if filters:
        translated["typed_per_filter_config"] = filters
    return translated


def _action(context: Context, route: Route, caller: Caller) -> Json:
    action: Json = {
        "weighted_clusters": {
            "clusters": [
                {
                    "name": _destination_cluster(context, destination, caller.port),
                    "weight": destination.weight,
                    **_header_changes(destination.headers),
                }
                for destination in route.destinations
            ]
        },
        "timeout": seconds(route.timeout or 0),
        "retry_policy": retry_policy(route.retries),
    }
    if route.rewrite_uri is not None:
        action["prefix_rewrite"] = route.rewrite_uri
    if route.rewrite_authority is not None:
        action["host_rewrite_literal"] = route.rewrite_authority
    if route.rewrite_regex is not None:
        action["regex_rewrite"] = _regex_rewrite(route.rewrite_regex)
    if route.mirrors:
        action["request_mirror_policies"] = [
            {
                "cluster": _destination_cluster(context, mirror.destination, caller.port),
                "runtime_fraction": {"default_value": percentage(mirror.percent)},
            }
            for mirror in route.mirrors
        ]
    if hashes := list(_hash_policies(context, route, caller)):
        action["hash_policy"] = hashes
    return action


def _destination_port(context: Context, destination: Destination, called: int) -> int:
    """The port of a destination. Source: Istio, `Destination.port`."""
    service = context.mesh.service(destination.host)
    if destination.port is None and service is not None and len(service.ports) == 1:
        return service.ports[0]
    return destination.port or called


def _destination_cluster(context: Context, destination: Destination, called: int) -> str:
    service = context.mesh.service(destination.host)
    subset = destination.subset
    if (
        destination.fallback is not None
        and service is not None
        and not context.ready_pods(service, subset)
    ):
        subset = destination.fallback
    port = _destination_port(context, destination, called)
    return cluster_name(destination.host, port, subset)


def _hash_policies(context: Context, route: Route, caller: Caller) -> Iterator[Json]:
    for one in route.destinations:
        port = _destination_port(context, one, caller.port)
        balancer = context.mesh.policy(one.host, one.subset, port).load_balancer
        if balancer is not None and balancer.hash_on is not None:
            yield _hash_policy(balancer.hash_on)


def _hash_policy(hash_on: HashOn) -> Json:
    match hash_on.kind:
        case "header":
            return {"header": {"header_name": hash_on.name}}
        case "query":
            return {"query_parameter": {"name": hash_on.name}}
        case "source_ip":
            return {"connection_properties": {"source_ip": True}}
        case "cookie":
            cookie: Json = {"name": hash_on.name}
            if hash_on.path is not None:
                cookie["path"] = hash_on.path
            if hash_on.ttl is not None:
                cookie["ttl"] = seconds(hash_on.ttl)
            return {"cookie": cookie}


def _redirect(redirect: Redirect, caller: Caller) -> Json:
    translated: Json = {"response_code": _REDIRECTS[redirect.status]}
    if redirect.scheme is not None:
        translated["scheme_redirect"] = redirect.scheme
    if redirect.authority is not None:
        translated["host_redirect"] = redirect.authority
    if redirect.keeps_port:
        translated["port_redirect"] = caller.local_port
    if redirect.port is not None:
        translated["port_redirect"] = redirect.port
    if redirect.path is not None:
        translated["path_redirect"] = redirect.path
    if redirect.prefix is not None:
        translated["prefix_rewrite"] = redirect.prefix
    if redirect.regex is not None:
        translated["regex_rewrite"] = _regex_rewrite(redirect.regex)
    return translated


def _regex_rewrite(rewrite: tuple[str, str]) -> Json:
    return {"pattern": {"regex": rewrite[0]}, "substitution": rewrite[1]}


def _direct_response(response: DirectResponse) -> Json:
    translated: Json = {"status": response.status}
    if response.body:
        translated["body"] = {"inline_string": response.body}
    return translated


def _cors(cors: Cors) -> Json:
    translated: Json = {
        "@type": f"{TYPE}extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [string_match(origin) for origin in cors.origins],
        "forward_not_matching_preflights": cors.forwards_unmatched,
    }
    for name, values in (
        ("allow_methods", cors.methods),
        ("allow_headers", cors.headers),
        ("expose_headers", cors.expose_headers),
    ):
        if values:
            translated[name] = ",".join(values)
    if cors.max_age is not None:
        translated["max_age"] = str(int(cors.max_age))
    if cors.credentials is not None:
        translated["allow_credentials"] = cors.credentials
    return translated


def _header_changes(headers: Headers) -> Json:
    translated: Json = {}
    for direction, changes in (("request", headers.request), ("response", headers.response)):
        if added := _added(changes):
            translated[f"{direction}_headers_to_add"] = added
        if changes.remove:
            translated[f"{direction}_headers_to_remove"] = list(changes.remove)
    return translated


def _added(changes: HeaderChanges) -> list[Json]:
    return [
        {"header": {"key": name, "value": value}, "append_action": action}
        for header_pairs, action in (
            (changes.set, "OVERWRITE_IF_EXISTS_OR_ADD"),
            (changes.add, "APPEND_IF_EXISTS_OR_ADD"),
        )
        for name, value in header_pairs
    ]


def retry_policy(retries: Retries | None) -> Json:
    """A `RetryPolicy`: that of the mesh where a route has none."""
    on = (retries and retries.on) or _RETRY_ON
    conditions = [condition.strip() for condition in on.split(",")]
    codes = [int(condition) for condition in conditions if condition.isdigit()]
    conditions = [condition for condition in conditions if not condition.isdigit()]
    policy: Json = {
        "retry_on": ",".join([*conditions, *(["retriable-status-codes"] if codes else [])]),
        "num_retries": RETRY_ATTEMPTS if retries is None else retries.attempts,
        "retry_host_predicate": [
            named_filter(
                "previous_hosts",
                "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            )
        ],
        "host_selection_retry_max_attempts": _RETRY_OTHER_HOST_ATTEMPTS,
    }
    if codes:
        policy["retriable_status_codes"] = codes
    if retries is not None and retries.per_try_timeout is not None:
        policy["per_try_timeout"] = seconds(retries.per_try_timeout)
    return policy


def _fault(fault: Fault) -> Json:
    translated: Json = {"@type": f"{TYPE}extensions.filters.http.fault.v3.HTTPFault"}
    if fault.delay is not None:
        translated["delay"] = {
            "fixed_delay": seconds(fault.delay),
            "percentage": percentage(fault.delay_percent),
        }
    if fault.abort_status is not None:
        translated["abort"] = {
            "http_status": fault.abort_status,
            "percentage": percentage(fault.abort_percent),
        }
    return translated
