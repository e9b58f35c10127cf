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
from mockservice.mesh.model import Destination, Headers, Match, selects

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mockservice.lanes.envoy_parts import Caller, Context, Json
    from mockservice.mesh.model import (
        Cors,
        DirectResponse,
        Fault,
        HashOn,
        HeaderChanges,
        LoadBalancer,
        Redirect,
        Retries,
        Route,
        Service,
    )

# Istio's defaults: pilot/pkg/networking/core/route/retry.
RETRY_ATTEMPTS: Final = 2
_RETRY_ON: Final = "connect-failure,refused-stream,unavailable,cancelled"
_RETRY_OTHER_HOST_ATTEMPTS: Final = 5

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = ("host", ":authority")
_HASHING: Final = ("RING_HASH", "MAGLEV")
_REDIRECTS: Final = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}


def routes_of(context: Context, routes: Iterable[Route], caller: Caller) -> Iterator[Json]:
    """Yield Envoy's routes: one for each match that the caller satisfies."""
    for route in routes:
        for match in route.matches or (Match(),):
            if (
                selects(match.source_labels, caller.labels)
                and match.source_namespace in (None, caller.namespace)
                and match.port in (None, caller.port)
            ):
                yield _route(context, route, match, caller)


def balanced_route(context: Context, service: Service, caller: Caller) -> Json:
    """The route of a Service that no rule routes: to all of its pods."""
    action: Json = {
        "cluster": cluster_name(service.host, caller.port, None),
        "timeout": "0s",
        "retry_policy": retry_policy(None),
    }
    balancer = _hashing(context, Destination(service.host, caller.port))
    if balancer is not None and balancer.hash_on is not None:
        action["hash_policy"] = [_hash_policy(balancer.hash_on)]
    return {"match": {"prefix": "/"}, "route": action}


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
    destinations = [one for one in route.destinations if one.weight]
    action: Json = {
        "weighted_clusters": {
            "clusters": [
                {
                    "name": _destination_cluster(context, destination, caller.port),
                    "weight": destination.weight,
                    **_header_changes(destination.headers),
                    **_host_rewrite(_authority(destination.headers)),
                }
                for destination in destinations
            ]
        },
        "timeout": seconds(route.timeout or 0),
    }
    if route.rewrite_uri is not None:
        action["prefix_rewrite"] = route.rewrite_uri
    action |= _host_rewrite(route.rewrite_authority or _authority(route.headers))
    if route.rewrite_regex is not None:
        action["regex_rewrite"] = _regex_rewrite(route.rewrite_regex)
    if route.mirrors:
        action["request_mirror_policies"] = [
            {
                "cluster": _destination_cluster(context, mirror.destination, caller.port),
                "runtime_fraction": {"default_value": percentage(mirror.percent)},
                "disable_shadow_host_suffix_append": True,
            }
            for mirror in route.mirrors
        ]
    balancers = [_hashing(context, one) for one in destinations]
    if hashes := [_hash_policy(one.hash_on) for one in balancers if one and one.hash_on]:
        action["hash_policy"] = hashes
    # Where there is only one, what is sent again goes to the pod that its hash stands for.
    is_bound = len(destinations) == 1 and balancers[0] is not None
    action["retry_policy"] = retry_policy(route.retries, is_bound)
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


def _hashing(context: Context, destination: Destination) -> LoadBalancer | None:
    """The load balancer whose hash counts for a destination; None: none of them hashes.

    That of a port counts only where the destination names the port.
    Source: Istio's pilot, `HashForHTTPDestination`.
    """
    mesh = context.mesh
    policies = [
        one.policy
        for one in mesh.subsets
        if one.policy is not None and (one.host, one.name) == (destination.host, destination.subset)
    ]
    if (whole := dict(mesh.policies).get(destination.host)) is not None:
        policies.append(whole)
    for policy in policies:
        at_port = dict(policy.ports).get(destination.port or 0, policy)
        for part in (at_port, policy):
            balancer = part.load_balancer
            if balancer is not None and balancer.policy in _HASHING:
                return balancer
    return None


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
    port = caller.local_port if redirect.keeps_port else redirect.port
    if port not in (None, _DEFAULT_PORTS.get(redirect.scheme or "http")):
        translated["port_redirect"] = port
    if redirect.path is not None:
        translated["path_redirect"] = redirect.path
    if redirect.prefix is not None:
        translated["prefix_rewrite"] = redirect.prefix
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


def _authority(headers: Headers) -> str | None:
    """The host that changes of headers ask for."""
    changes = (*headers.request.set, *headers.request.add)
    return next((value for name, value in changes if name.lower() in _HOST), None)


def _host_rewrite(authority: str | None) -> Json:
    return {} if authority is None else {"host_rewrite_literal": authority}


def _header_changes(headers: Headers) -> Json:
    translated: Json = {}
    for direction, changes in (("request", headers.request), ("response", headers.response)):
        if added := _added(changes):
            translated[f"{direction}_headers_to_add"] = added
        if removed := [name for name in changes.remove if not _is_internal(name)]:
            translated[f"{direction}_headers_to_remove"] = removed
    return translated


def _added(changes: HeaderChanges) -> list[Json]:
    return [
        {"header": {"key": name, "value": value}, "append_action": action}
        for header_pairs, action in (
            (changes.set, "OVERWRITE_IF_EXISTS_OR_ADD"),
            (changes.add, "APPEND_IF_EXISTS_OR_ADD"),
        )
        for name, value in header_pairs
        if not _is_internal(name)
    ]


def _is_internal(name: str) -> bool:
    """Whether Envoy does not let a header be changed like others."""
    return name.startswith(":") or name.lower() in _HOST


def retry_policy(retries: Retries | None, is_bound: bool = False) -> Json:
    """A `RetryPolicy`: that of the mesh where a route has none.

    Args:
        retries: what the route has.
        is_bound: whether retries go to the pod that has failed, unless the route says otherwise.
    """
    avoids_pod = not is_bound
    if retries is not None and retries.avoids_pod is not None:
        avoids_pod = retries.avoids_pod
    on = (retries and retries.on) or _RETRY_ON
    conditions = [condition.strip() for condition in on.split(",")]
    codes = [int(condition) for condition in conditions if condition.isdigit()]
    conditions = [condition for condition in conditions if not condition.isdigit()]
    policy: Json = {
        "retry_on": ",".join([*conditions, *(["retriable-status-codes"] if codes else [])]),
        "num_retries": RETRY_ATTEMPTS if retries is None else retries.attempts,
        "host_selection_retry_max_attempts": _RETRY_OTHER_HOST_ATTEMPTS,
    }
    if avoids_pod:
        policy["retry_host_predicate"] = [
            named_filter(
                "previous_hosts",
                "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            )
        ]
    if codes:
        policy["retriable_status_codes"] = codes
    if retries is not None and retries.per_try_timeout is not None:
        policy["per_try_timeout"] = seconds(retries.per_try_timeout)
    if retries is not None and retries.backoff is not None:
        policy["retry_back_off"] = {"base_interval": seconds(retries.backoff)}
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
