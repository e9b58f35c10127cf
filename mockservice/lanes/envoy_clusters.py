"""Envoy's clusters: the pods of Services and subsets, and how they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mockservice.lanes.envoy_parts import TYPE, address_of, cluster_name, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mockservice.lanes.envoy_parts import Context, Json
    from mockservice.mesh.model import (
        ConnectionPool,
        LoadBalancer,
        OutlierDetection,
        TrafficPolicy,
    )

_UNLIMITED: Final = 2**32 - 1
# Istio's defaults: connectTimeout, and the ring of a consistent hash.
_CONNECT_TIMEOUT: Final = "10s"
_RING_SIZE: Final = 1024
# Envoy's: `RingHashLbConfig.maximum_ring_size`.
_MAX_RING_SIZE: Final = 8 * 1024 * 1024


def clusters_of(context: Context) -> Iterator[tuple[str, Json]]:
    """Yield a cluster for each port of each Service, and of each of its subsets, by name."""
    for service in context.mesh.services:
        names = [one.name for one in context.mesh.subsets if one.host == service.host]
        for subset in dict.fromkeys([None, *names]):
            places = [
                context.places[pod]
                for pod in context.ready_pods(service, subset)
                if pod in context.places
            ]
            for port in service.ports:
                name = cluster_name(service.host, port, subset)
                is_served = port not in service.unserved_ports
                addresses = [(place.ip, place.inbound) for place in places if is_served]
                policy = context.mesh.policy(service.host, subset, port)
                yield name, cluster_of(name, addresses, policy)


def clusters_in(routes: Any) -> Iterator[str]:
    """Yield the names of all clusters that routes lead to."""
    if isinstance(routes, list):
        for one in routes:
            yield from clusters_in(one)
    elif isinstance(routes, dict):
        if isinstance(name := routes.get("cluster"), str):
            yield name
        for cluster in routes.get("weighted_clusters", {}).get("clusters", ()):
            yield cluster["name"]
        for name in ("virtual_hosts", "routes", "route", "request_mirror_policies"):
            yield from clusters_in(routes.get(name))


def cluster_of(
    name: str, addresses: list[tuple[str, int]], policy: TrafficPolicy | None = None
) -> Json:
    """A cluster of pods at these addresses."""
    endpoints = [{"endpoint": {"address": address_of(*address)}} for address in addresses]
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
        cluster["connect_timeout"] = seconds(pool.connect_timeout)
    options: Json = {}
    if pool.idle_timeout is not None:
        options["idle_timeout"] = seconds(pool.idle_timeout)
    if pool.max_connection_duration is not None:
        options["max_connection_duration"] = seconds(pool.max_connection_duration)
    if pool.max_requests_per_connection:
        options["max_requests_per_connection"] = pool.max_requests_per_connection
    if options:
        type_name = "extensions.upstreams.http.v3.HttpProtocolOptions"
        cluster["typed_extension_protocol_options"] = {
            f"envoy.{type_name}": {
                "@type": TYPE + type_name,
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
        detection["interval"] = seconds(outliers.interval)
    if outliers.base_ejection_time is not None:
        detection["base_ejection_time"] = seconds(outliers.base_ejection_time)
    if outliers.max_ejection_percent is not None:
        detection["max_ejection_percent"] = outliers.max_ejection_percent
    return detection
