"""Translates the mesh into Envoy's configuration (v3 API, as JSON), as Istio would.

One Envoy does everything: the gateway is a listener, and so is the sidecar of each pod. A sidecar's
listener has two addresses, one for the pod's outbound calls and one for its inbound calls. Both
belong to one listener because the Lua filter must remember inbound requests for outbound calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from mockservice.mesh.istio import GATEWAY_NAMESPACE
from mockservice.mesh.model import PERCENT_OF_ALL, Headers, Match, Text, selects

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from mockservice.lanes.addresses import Place
    from mockservice.mesh.model import (
        ConnectionPool,
        Cors,
        Destination,
        DirectResponse,
        Fault,
        HashOn,
        HeaderChanges,
        LaneCarrier,
        LoadBalancer,
        Mesh,
        OutlierDetection,
        Pairs,
        Pod,
        Redirect,
        Retries,
        Route,
        RouteTable,
        Service,
        TrafficPolicy,
    )

Json = dict[str, Any]

GATEWAY_IP: Final = "127.0.0.1"

_TYPE: Final = "type.googleapis.com/envoy."
_UNLIMITED: Final = 2**32 - 1

# Istio's defaults: pilot/pkg/networking/core/route/retry and connectTimeout.
_RETRY_ATTEMPTS: Final = 2
_RETRY_ON: Final = "connect-failure,refused-stream,unavailable,cancelled"
_RETRY_INBOUND_ON: Final = "reset-before-request"
_RETRY_OTHER_HOST_ATTEMPTS: Final = 5
_CONNECT_TIMEOUT: Final = "10s"
_RING_SIZE: Final = 1024
# Envoy's: `RingHashLbConfig.maximum_ring_size`.
_MAX_RING_SIZE: Final = 8 * 1024 * 1024

_REDIRECTS: Final = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}


@dataclass(frozen=True, slots=True)
class Configuration:
    """Envoy's clusters, listeners and route tables, by name.

    Each listener uses the route table of the same name.
    """

    clusters: dict[str, Json]
    listeners: dict[str, Json]
    routes: dict[str, Json]


@dataclass(frozen=True, slots=True)
class _Context:
    """The input that all parts of the translation need."""

    mesh: Mesh
    places: Mapping[Pod, Place]
    ready: Collection[Pod]

    gateway_port: int

    def ready_pods(self, service: Service, subset: str | None) -> list[Pod]:
        return [pod for pod in self.mesh.pods_of(service, subset) if pod in self.ready]


@dataclass(frozen=True, slots=True)
class _Caller:
    """Whose requests routes are for."""

    labels: Pairs
    namespace: str
    port: int
    """That is called; the gateway's is that on a cluster."""


def configuration(
    mesh: Mesh, places: Mapping[Pod, Place], ready: Collection[Pod], gateway_port: int
) -> Configuration:
    """Translate the mesh.

    Args:
        mesh: the mesh that the manifests describe.
        places: the addresses of its pods; a pod without one gets no sidecar.
        ready: the pods that may receive requests.
        gateway_port: the port of the gateway on 127.0.0.1.
    """
    context = _Context(mesh, places, ready, gateway_port)
    clusters = dict(_clusters(context))
    listeners = {"gateway": _listener("gateway", [(GATEWAY_IP, gateway_port)], "INBOUND")}
    routes = {"gateway": _route_configuration("gateway", _gateway_hosts(context))}
    for pod, place in places.items():
        name = sidecar_name(pod, place)
        addresses = [(place.ip, place.outbound), (place.ip, place.inbound)]
        script = _sidecar_script(addresses[1], _carriers(mesh, pod))
        listeners[name] = _listener(name, addresses, "OUTBOUND", script)
        routes[name] = _route_configuration(name, _sidecar_hosts(context, pod, place))
        clusters[name] = _cluster(name, [(place.ip, place.port)])
    # Of a host or a port that no Service has: what is led there gets 503.
    for name in _clusters_in(list(routes.values())):
        clusters.setdefault(name, _cluster(name, []))
    return Configuration(clusters, listeners, routes)


def sidecar_name(pod: Pod, place: Place) -> str:
    """Return the name of a pod's listener, of its route table and of its service's cluster."""
    return f"{pod.namespace}.{pod.name}.{place.number}"


# Clusters


def _cluster_name(host: str, port: int, subset: str | None) -> str:
    return f"outbound|{port}|{subset or ''}|{host}"


def _clusters(context: _Context) -> Iterator[tuple[str, Json]]:
    for service in context.mesh.services:
        names = [one.name for one in context.mesh.subsets if one.host == service.host]
        for subset in dict.fromkeys([None, *names]):
            places = [
                context.places[pod]
                for pod in context.ready_pods(service, subset)
                if pod in context.places
            ]
            for port in service.ports:
                name = _cluster_name(service.host, port, subset)
                is_served = port not in service.unserved_ports
                addresses = [(place.ip, place.inbound) for place in places if is_served]
                policy = context.mesh.policy(service.host, subset, port)
                yield name, _cluster(name, addresses, policy)


def _clusters_in(routes: Any) -> Iterator[str]:
    """Yield the names of all clusters that routes lead to."""
    if isinstance(routes, list):
        for one in routes:
            yield from _clusters_in(one)
    elif isinstance(routes, dict):
        if isinstance(name := routes.get("cluster"), str):
            yield name
        for cluster in routes.get("weighted_clusters", {}).get("clusters", ()):
            yield cluster["name"]
        for name in ("virtual_hosts", "routes", "route", "request_mirror_policies"):
            yield from _clusters_in(routes.get(name))


def _cluster(
    name: str, addresses: list[tuple[str, int]], policy: TrafficPolicy | None = None
) -> Json:
    endpoints = [{"endpoint": {"address": _address(*address)}} for address in addresses]
    cluster: Json = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": _CONNECT_TIMEOUT,
        "lb_policy": "LEAST_REQUEST",
        # Never send requests to ejected pods, not even if all pods are ejected.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": _UNLIMITED,
                    "max_pending_requests": _UNLIMITED,
                    "max_requests": _UNLIMITED,
                    "max_retries": _UNLIMITED,
                }
            ]
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }
    if policy is not None and policy.load_balancer is not None:
        cluster |= _load_balancer(policy.load_balancer)
    if policy is not None and policy.pool is not None:
        _limit(cluster, policy.pool)
    if policy is not None and policy.outliers is not None:
        cluster["outlier_detection"] = _outlier_detection(policy.outliers)
        if policy.outliers.min_health_percent is not None:
            panic = {"value": policy.outliers.min_health_percent}
            cluster["common_lb_config"]["healthy_panic_threshold"] = panic
    return cluster


def _load_balancer(balancer: LoadBalancer) -> Json:
    translated: Json = {"lb_policy": balancer.policy}
    if balancer.policy == "RING_HASH":
        size = balancer.size or _RING_SIZE
        # Envoy's own limit, or more where more is asked for.
        most = max(size, _MAX_RING_SIZE)
        translated["ring_hash_lb_config"] = {
            "minimum_ring_size": size,
            "maximum_ring_size": most,
        }
    elif balancer.policy == "MAGLEV" and balancer.size is not None:
        translated["maglev_lb_config"] = {"table_size": balancer.size}
    return translated


def _limit(cluster: Json, pool: ConnectionPool) -> None:
    """Add the limits of a connection pool to a cluster."""
    (thresholds,) = cluster["circuit_breakers"]["thresholds"]
    for name, limit in (
        ("max_connections", pool.max_connections),
        ("max_pending_requests", pool.max_pending_requests),
        ("max_requests", pool.max_requests),
        ("max_retries", pool.max_retries),
    ):
        # 0 stands for Istio's default, which is no limit.
        if limit:
            thresholds[name] = limit
    if pool.connect_timeout is not None:
        cluster["connect_timeout"] = _seconds(pool.connect_timeout)
    options: Json = {}
    if pool.idle_timeout is not None:
        options["idle_timeout"] = _seconds(pool.idle_timeout)
    if pool.max_connection_duration is not None:
        options["max_connection_duration"] = _seconds(pool.max_connection_duration)
    if pool.max_requests_per_connection:
        options["max_requests_per_connection"] = pool.max_requests_per_connection
    if options:
        type_name = "extensions.upstreams.http.v3.HttpProtocolOptions"
        cluster["typed_extension_protocol_options"] = {
            f"envoy.{type_name}": {
                "@type": _TYPE + type_name,
                "common_http_protocol_options": options,
                "explicit_http_config": {"http_protocol_options": {}},
            }
        }


def _outlier_detection(outliers: OutlierDetection) -> Json:
    detection: Json = {"enforcing_success_rate": 0}
    if outliers.consecutive_5xx is not None:
        detection["consecutive_5xx"] = outliers.consecutive_5xx
        detection["enforcing_consecutive_5xx"] = 100 if outliers.consecutive_5xx else 0
    if outliers.consecutive_gateway_errors is not None:
        number = outliers.consecutive_gateway_errors
        detection["consecutive_gateway_failure"] = number
        detection["enforcing_consecutive_gateway_failure"] = 100 if number else 0
    if outliers.splits_local_errors:
        detection["split_external_local_origin_errors"] = True
    if outliers.consecutive_local_errors is not None:
        number = outliers.consecutive_local_errors
        detection["consecutive_local_origin_failure"] = number
        detection["enforcing_consecutive_local_origin_failure"] = 100 if number else 0
    if outliers.interval is not None:
        detection["interval"] = _seconds(outliers.interval)
    if outliers.base_ejection_time is not None:
        detection["base_ejection_time"] = _seconds(outliers.base_ejection_time)
    if outliers.max_ejection_percent is not None:
        detection["max_ejection_percent"] = outliers.max_ejection_percent
    return detection


# Listeners


def _listener(
    name: str, addresses: list[tuple[str, int]], direction: str, script: str | None = None
) -> Json:
    filters = []
    if script is not None:
        source = {"default_source_code": {"inline_string": script}}
        filters.append(_filter("lua", "extensions.filters.http.lua.v3.Lua", **source))
    filters.append(_filter("cors", "extensions.filters.http.cors.v3.Cors"))
    filters.append(_filter("fault", "extensions.filters.http.fault.v3.HTTPFault"))
    filters.append(_filter("router", "extensions.filters.http.router.v3.Router"))
    manager = _filter(
        "http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        http_filters=filters,
        # Keep an existing x-request-id and generate a missing one, as Istio's sidecars do.
        preserve_external_request_id=True,
        use_remote_address=script is None,
        normalize_path=True,
    )
    return {
        "name": name,
        "address": _address(*addresses[0]),
        "additional_addresses": [{"address": _address(*more)} for more in addresses[1:]],
        "traffic_direction": direction,
        # With SO_REUSEPORT a second Envoy could share the port without an error.
        "enable_reuse_port": False,
        "filter_chains": [{"filters": [manager]}],
    }


def _filter(name: str, type_name: str, **config: Any) -> Json:
    return {"name": name, "typed_config": {"@type": _TYPE + type_name, **config}}


def _sidecar_script(inbound: tuple[str, int], carriers: list[LaneCarrier]) -> str:
    listed = "".join(
        f'{{trace = "{carrier.trace_header}", route = "{carrier.route_header}"}}, '
        for carrier in carriers
    )
    constants = f'local INBOUND = "{inbound[0]}:{inbound[1]}"\nlocal CARRIERS = {{{listed}}}\n'
    return constants + files(__package__).joinpath("sidecar.lua").read_text("utf-8")


def _carriers(mesh: Mesh, pod: Pod) -> list[LaneCarrier]:
    hosts = {service.host for service in mesh.services_of(pod)}
    return [carrier for carrier in mesh.carriers if hosts.intersection(carrier.hosts)]


# Routes


def _route_configuration(name: str, hosts: list[Json]) -> Json:
    return {
        "name": name,
        "virtual_hosts": hosts,
        "ignore_port_in_host_matching": name == "gateway",
    }


def _gateway_hosts(context: _Context) -> list[Json]:
    mesh = context.mesh
    caller = _Caller(mesh.gateway_labels, GATEWAY_NAMESPACE, mesh.gateway_port)
    by_host: dict[str, list[Json]] = {}
    for table in mesh.gateway:
        for host in table.hosts:
            by_host.setdefault(host, []).extend(_routes(context, table, caller))
    return [{"name": host, "domains": [host], "routes": routes} for host, routes in by_host.items()]


def _sidecar_hosts(context: _Context, pod: Pod, place: Place) -> list[Json]:
    """Return a virtual host for each Service; inbound requests go to the pod, whatever the host."""
    inbound = {
        "name": "inbound",
        "match": {
            "prefix": "/",
            "dynamic_metadata": [
                {
                    "filter": "sidecar",
                    "path": [{"key": "inbound"}],
                    "value": {"bool_match": True},
                }
            ],
        },
        "route": {
            "cluster": sidecar_name(pod, place),
            "timeout": "0s",
            "retry_policy": {"retry_on": _RETRY_INBOUND_ON, "num_retries": _RETRY_ATTEMPTS},
        },
    }
    unknown = {
        "name": "unknown",
        "match": {"prefix": "/"},
        "direct_response": {"status": 502, "body": {"inline_string": "no such Service"}},
    }
    hosts = []
    for service in context.mesh.services:
        for port in service.ports:
            caller = _Caller(pod.labels, pod.namespace, port)
            routes = _service_routes(context, service, caller)
            name = f"{service.host}:{port}"
            domains = _domains(service, port, pod.namespace)
            hosts.append({"name": name, "domains": domains, "routes": [inbound, *routes]})
    return [*hosts, {"name": "any", "domains": ["*"], "routes": [inbound, unknown]}]


def _domains(service: Service, port: int, namespace: str) -> list[str]:
    """Return the DNS names of a Service, as seen from a namespace."""
    names = [service.host.removesuffix(end) for end in ("", ".cluster.local", ".svc.cluster.local")]
    if service.namespace == namespace:
        names.append(service.name)
    domains = [f"{name}:{port}" for name in names]
    return domains + names if port == 80 else domains


def _service_routes(context: _Context, service: Service, caller: _Caller) -> list[Json]:
    for table in context.mesh.calls:
        if service.host in table.hosts:
            return list(_routes(context, table, caller))
    cluster = _cluster_name(service.host, caller.port, None)
    return [
        {
            "match": {"prefix": "/"},
            "route": {
                "cluster": cluster,
                "timeout": "0s",
                "retry_policy": _retry_policy(None),
            },
        }
    ]


def _routes(context: _Context, table: RouteTable, caller: _Caller) -> Iterator[Json]:
    """Yield Envoy's routes for one table: one for each match that the caller satisfies."""
    for route in table.routes:
        for match in route.matches or (Match(),):
            if (
                selects(match.source_labels, caller.labels)
                and match.source_namespace in (None, caller.namespace)
                and match.port in (None, caller.port)
            ):
                yield _route(context, route, match, caller)


def _route(context: _Context, route: Route, match: Match, caller: _Caller) -> Json:
    translated = {"match": _match(match), **_header_changes(route.headers)}
    if route.redirect is not None:
        translated["redirect"] = _redirect(context, route.redirect, caller)
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


def _action(context: _Context, route: Route, caller: _Caller) -> Json:
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
        "timeout": _seconds(route.timeout or 0),
        "retry_policy": _retry_policy(route.retries),
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
                "runtime_fraction": {"default_value": _percentage(mirror.percent)},
            }
            for mirror in route.mirrors
        ]
    if hashes := list(_hash_policies(context, route, caller)):
        action["hash_policy"] = hashes
    return action


def _destination_port(context: _Context, destination: Destination, called: int) -> int:
    """The port of a destination. Source: Istio, `Destination.port`."""
    service = context.mesh.service(destination.host)
    if destination.port is None and service is not None and len(service.ports) == 1:
        return service.ports[0]
    return destination.port or called


def _destination_cluster(context: _Context, destination: Destination, called: int) -> str:
    service = context.mesh.service(destination.host)
    subset = destination.subset
    if (
        destination.fallback is not None
        and service is not None
        and not context.ready_pods(service, subset)
    ):
        subset = destination.fallback
    port = _destination_port(context, destination, called)
    return _cluster_name(destination.host, port, subset)


def _hash_policies(context: _Context, route: Route, caller: _Caller) -> Iterator[Json]:
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
                cookie["ttl"] = _seconds(hash_on.ttl)
            return {"cookie": cookie}


def _redirect(context: _Context, redirect: Redirect, caller: _Caller) -> Json:
    translated: Json = {"response_code": _REDIRECTS[redirect.status]}
    if redirect.scheme is not None:
        translated["scheme_redirect"] = redirect.scheme
    if redirect.authority is not None:
        translated["host_redirect"] = redirect.authority
    if redirect.keeps_port:
        is_gateway = caller.namespace == GATEWAY_NAMESPACE
        translated["port_redirect"] = context.gateway_port if is_gateway else caller.port
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
        "@type": f"{_TYPE}extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [_string(origin) for origin in cors.origins],
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


def _match(match: Match) -> Json:
    translated = _path(match.uri)
    headers = [_header(name, text) for name, text in match.headers]
    if match.method is not None:
        headers.append(_header(":method", match.method))
    headers += [
        {**_header(name, text, missing_is_empty=True), "invert_match": True}
        for name, text in match.without_headers
    ]
    if match.authority is not None:
        headers.append(_header(":authority", match.authority))
    if match.scheme is not None:
        headers.append(_header(":scheme", match.scheme))
    if headers:
        translated["headers"] = headers
    if match.query:
        translated["query_parameters"] = [
            {"name": name, "present_match": True}
            if text.kind == "present"
            else {"name": name, "string_match": _string(text)}
            for name, text in match.query
        ]
    return translated


def _path(uri: Text | None) -> Json:
    path = _path_pattern(uri)
    if uri is not None and uri.ignores_case and uri.kind != "regex":
        path["case_sensitive"] = False
    return path


def _path_pattern(uri: Text | None) -> Json:
    match uri:
        case Text("exact", value):
            return {"path": value}
        case Text("prefix", value):
            return {"prefix": value}
        case Text("regex", value):
            return {"safe_regex": {"regex": value}}
        case Text("segments", value) if value.rstrip("/"):
            return {"path_separated_prefix": value.rstrip("/")}
        case _:
            return {"prefix": "/"}


def _header(name: str, text: Text, missing_is_empty: bool = False) -> Json:
    if text.kind == "present":
        return {"name": name, "present_match": True}
    header: Json = {"name": name, "string_match": _string(text)}
    if missing_is_empty:
        header["treat_missing_header_as_empty"] = True
    return header


def _string(text: Text) -> Json:
    if text.kind == "regex":
        return {"safe_regex": {"regex": text.value}}
    return {text.kind: text.value}


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


def _retry_policy(retries: Retries | None) -> Json:
    on = (retries and retries.on) or _RETRY_ON
    conditions = [condition.strip() for condition in on.split(",")]
    codes = [int(condition) for condition in conditions if condition.isdigit()]
    conditions = [condition for condition in conditions if not condition.isdigit()]
    policy: Json = {
        "retry_on": ",".join([*conditions, *(["retriable-status-codes"] if codes else [])]),
        "num_retries": _RETRY_ATTEMPTS if retries is None else retries.attempts,
        "retry_host_predicate": [
            _filter(
                "previous_hosts",
                "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            )
        ],
        "host_selection_retry_max_attempts": _RETRY_OTHER_HOST_ATTEMPTS,
    }
    if codes:
        policy["retriable_status_codes"] = codes
    if retries is not None and retries.per_try_timeout is not None:
        policy["per_try_timeout"] = _seconds(retries.per_try_timeout)
    return policy


def _fault(fault: Fault) -> Json:
    translated: Json = {"@type": f"{_TYPE}extensions.filters.http.fault.v3.HTTPFault"}
    if fault.delay is not None:
        translated["delay"] = {
            "fixed_delay": _seconds(fault.delay),
            "percentage": _percentage(fault.delay_percent),
        }
    if fault.abort_status is not None:
        translated["abort"] = {
            "http_status": fault.abort_status,
            "percentage": _percentage(fault.abort_percent),
        }
    return translated


def _percentage(percent: float) -> Json:
    return {
        "numerator": round(percent * 1_000_000 / PERCENT_OF_ALL),
        "denominator": "MILLION",
    }


def _seconds(seconds: float) -> str:
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def _address(ip: str, port: int) -> Json:
    return {"socket_address": {"address": ip, "port_value": port}}
