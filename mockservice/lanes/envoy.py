"""Translates the mesh into Envoy's configuration (v3 API, as JSON), as Istio would.

One Envoy does everything: the gateway is a listener, and so is the sidecar of each pod. A sidecar's
listener has two addresses, one for the pod's outbound calls and one for its inbound calls. Both
belong to one listener because the Lua filter must remember inbound requests for outbound calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from mockservice.mesh.model import PERCENT_OF_ALL, Headers, Match, Text, selects

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from mockservice.lanes.addresses import Place
    from mockservice.mesh.model import (
        Destination,
        Fault,
        HeaderChanges,
        LaneCarrier,
        Mesh,
        OutlierDetection,
        Pairs,
        Pod,
        Retries,
        Route,
        RouteTable,
        Service,
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

    def ready_pods(self, service: Service, subset: str | None) -> list[Pod]:
        return [pod for pod in self.mesh.pods_of(service, subset) if pod in self.ready]


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
    context = _Context(mesh, places, ready)
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
    return Configuration(clusters, listeners, routes)


def sidecar_name(pod: Pod, place: Place) -> str:
    """Return the name of a pod's listener, of its route table and of its service's cluster."""
    return f"{pod.namespace}.{pod.name}.{place.number}"


# Clusters


def _cluster_name(host: str, port: int, subset: str | None) -> str:
    return f"outbound|{port}|{subset or ''}|{host}"


def _clusters(context: _Context) -> Iterator[tuple[str, Json]]:
    outliers = dict(context.mesh.outliers)
    for service in context.mesh.services:
        subsets = {
            subset.name: subset.outliers
            for subset in context.mesh.subsets
            if subset.host == service.host
        }
        for subset, own in ({None: None} | subsets).items():
            places = [
                context.places[pod]
                for pod in context.ready_pods(service, subset)
                if pod in context.places
            ]
            for port in service.ports:
                name = _cluster_name(service.host, port, subset)
                addresses = [(place.ip, place.inbound) for place in places]
                yield name, _cluster(name, addresses, own or outliers.get(service.host))


def _cluster(
    name: str, addresses: list[tuple[str, int]], outliers: OutlierDetection | None = None
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
    if outliers is not None:
        cluster["outlier_detection"] = _outlier_detection(outliers)
        if outliers.min_health_percent is not None:
            panic = {"value": outliers.min_health_percent}
            cluster["common_lb_config"]["healthy_panic_threshold"] = panic
    return cluster


def _outlier_detection(outliers: OutlierDetection) -> Json:
    detection: Json = {"enforcing_success_rate": 0}
    if outliers.consecutive_5xx is not None:
        detection["consecutive_5xx"] = outliers.consecutive_5xx
        detection["enforcing_consecutive_5xx"] = 100 if outliers.consecutive_5xx else 0
    if outliers.consecutive_gateway_errors is not None:
        number = outliers.consecutive_gateway_errors
        detection["consecutive_gateway_failure"] = number
        detection["enforcing_consecutive_gateway_failure"] = 100 if number else 0
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
    by_host: dict[str, list[Json]] = {}
    for table in context.mesh.gateway:
        for host in table.hosts:
            routes = by_host.setdefault(host, [])
            routes.extend(_routes(context, table, context.mesh.gateway_labels))
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
            routes = _service_routes(context, service, port, pod.labels)
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


def _service_routes(context: _Context, service: Service, port: int, caller: Pairs) -> list[Json]:
    for table in context.mesh.calls:
        if service.host in table.hosts:
            return list(_routes(context, table, caller))
    cluster = _cluster_name(service.host, port, None)
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


def _routes(context: _Context, table: RouteTable, caller: Pairs) -> Iterator[Json]:
    """Yield Envoy's routes for one table: one for each match that the caller's labels satisfy."""
    for route in table.routes:
        for match in route.matches or (Match(),):
            if selects(match.source_labels, caller):
                yield _route(context, route, match)


def _route(context: _Context, route: Route, match: Match) -> Json:
    action: Json = {
        "weighted_clusters": {
            "clusters": [
                {
                    "name": _destination_cluster(context, destination),
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
    translated = {"match": _match(match), "route": action, **_header_changes(route.headers)}
    if route.fault is not None:
        translated["typed_per_filter_config"] = {"fault": _fault(route.fault)}
    return translated


def _destination_cluster(context: _Context, destination: Destination) -> str:
    service = context.mesh.service(destination.host)
    if service is None:
        # The checks of the manifests rule this out.
        raise ValueError(f"no Service {destination.host}")
    subset = destination.subset
    if destination.fallback is not None and not context.ready_pods(service, subset):
        subset = destination.fallback
    return _cluster_name(service.host, destination.port or service.ports[0], subset)


def _match(match: Match) -> Json:
    translated = _path(match.uri)
    headers = [_header(name, text) for name, text in match.headers]
    if match.method is not None:
        headers.append(_header(":method", match.method))
    headers += [
        {**_header(name, text, missing_is_empty=True), "invert_match": True}
        for name, text in match.without_headers
    ]
    if headers:
        translated["headers"] = headers
    return translated


def _path(uri: Text | None) -> Json:
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
    value = {"regex": text.value} if text.kind == "regex" else text.value
    header: Json = {
        "name": name,
        "string_match": {"safe_regex" if text.kind == "regex" else text.kind: value},
    }
    if missing_is_empty:
        header["treat_missing_header_as_empty"] = True
    return header


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
