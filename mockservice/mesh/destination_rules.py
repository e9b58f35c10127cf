"""Reads Istio's DestinationRule (networking.istio.io): subsets, and how their pods are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from mockservice.manifests.hosts import full_host
from mockservice.mesh.model import (
    ConnectionPool,
    HashOn,
    LoadBalancer,
    OutlierDetection,
    Subset,
    TrafficPolicy,
)

if TYPE_CHECKING:
    from mockservice.mesh.fields import Fields

_Simple = Literal["LEAST_REQUEST", "RANDOM", "ROUND_ROBIN"]
_SIMPLE: Final[dict[str, _Simple]] = {
    "": "LEAST_REQUEST",
    "UNSPECIFIED": "LEAST_REQUEST",
    "LEAST_CONN": "LEAST_REQUEST",
    "LEAST_REQUEST": "LEAST_REQUEST",
    "RANDOM": "RANDOM",
    "ROUND_ROBIN": "ROUND_ROBIN",
}


@dataclass(frozen=True, slots=True)
class DestinationRule:
    """A DestinationRule as its manifest has it."""

    spec: Fields
    host: str
    """A full name, or a wildcard."""
    subsets: tuple[Subset, ...]
    """Of that host."""
    policy: TrafficPolicy | None
    export_to: tuple[str, ...]


def read_destination_rule(spec: Fields, namespace: str) -> DestinationRule:
    """Read a DestinationRule's `spec`."""
    with spec:
        host = full_host(spec.text("host"), namespace)
        return DestinationRule(
            spec,
            host,
            spec.each("subsets", lambda subset: _read_subset(subset, host)),
            spec.optional("trafficPolicy", _read_policy),
            spec.texts("exportTo"),
        )


def _read_subset(subset: Fields, host: str) -> Subset:
    with subset:
        return Subset(
            host,
            subset.text("name"),
            subset.pairs("labels"),
            subset.optional("trafficPolicy", _read_policy),
            subset.source,
        )


def _read_policy(policy: Fields) -> TrafficPolicy:
    with policy:
        ports = []
        for one in policy.objects("portLevelSettings"):
            with one:
                with one.object("port") as port:
                    number: int = port.number("number", 0)
                ports.append((number, _read_parts(one)))
        parts = _read_parts(policy)
        return TrafficPolicy(parts.load_balancer, parts.pool, parts.outliers, tuple(ports))


def _read_parts(policy: Fields) -> TrafficPolicy:
    # Between pods of one mesh both are the sidecars' business.
    with policy.object("tls") as tls:
        tls.text("mode", allowed=("ISTIO_MUTUAL", "DISABLE"))
    return TrafficPolicy(
        policy.optional("loadBalancer", _read_load_balancer),
        policy.optional("connectionPool", _read_pool),
        policy.optional("outlierDetection", _read_outliers),
    )


def _read_load_balancer(balancer: Fields) -> LoadBalancer:
    with balancer:
        for name in ("localityLbSetting", "warmupDurationSecs", "warmup"):
            if name in balancer:
                balancer.note(name, "no effect here: all pods are in one place, and never warm up")
            balancer.ignore(name)
        if "consistentHash" in balancer:
            return _read_consistent_hash(balancer.object("consistentHash"))
        return LoadBalancer(_SIMPLE.get(balancer.text("simple", allowed=tuple(_SIMPLE)), "RANDOM"))


def _read_consistent_hash(consistent: Fields) -> LoadBalancer:
    with consistent:
        hash_on = None
        if "httpHeaderName" in consistent:
            hash_on = HashOn("header", consistent.text("httpHeaderName"))
        elif "httpCookie" in consistent:
            with consistent.object("httpCookie") as cookie:
                cookie.ignore("attributes")
                path, ttl = cookie.text("path") or None, cookie.seconds("ttl")
                hash_on = HashOn("cookie", cookie.text("name"), path, ttl)
        elif "httpQueryParameterName" in consistent:
            hash_on = HashOn("query", consistent.text("httpQueryParameterName"))
        elif consistent.flag("useSourceIp"):
            hash_on = HashOn("source_ip")
        consistent.ignore("useSourceIp")
        size = consistent.number("minimumRingSize")
        if "maglev" in consistent:
            with consistent.object("maglev") as maglev:
                return LoadBalancer("MAGLEV", hash_on, maglev.number("tableSize"))
        with consistent.object("ringHash") as ring:
            return LoadBalancer("RING_HASH", hash_on, ring.number("minimumRingSize", size))


def _read_pool(pool: Fields) -> ConnectionPool:
    with pool, pool.object("tcp") as tcp, pool.object("http") as http:
        # Which protocol sidecars speak with each other, and whether they look after idle sockets,
        # changes nothing on one machine.
        tcp.ignore("tcpKeepalive")
        http.ignore("h2UpgradePolicy", "useClientProtocol", "maxConcurrentStreams")
        return ConnectionPool(
            max_connections=tcp.number("maxConnections"),
            max_pending_requests=http.number("http1MaxPendingRequests"),
            max_requests=http.number("http2MaxRequests"),
            max_retries=http.number("maxRetries"),
            max_requests_per_connection=http.number("maxRequestsPerConnection"),
            connect_timeout=tcp.duration("connectTimeout"),
            idle_timeout=_first(http.seconds("idleTimeout"), tcp.seconds("idleTimeout")),
            max_connection_duration=tcp.duration("maxConnectionDuration"),
        )


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _read_outliers(outliers: Fields) -> OutlierDetection:
    with outliers:
        return OutlierDetection(
            consecutive_5xx=outliers.number("consecutive5xxErrors"),
            consecutive_gateway_errors=outliers.number("consecutiveGatewayErrors"),
            interval=outliers.duration("interval"),
            base_ejection_time=outliers.duration("baseEjectionTime"),
            max_ejection_percent=outliers.number("maxEjectionPercent"),
            min_health_percent=outliers.number("minHealthPercent"),
            splits_local_errors=outliers.flag("splitExternalLocalOriginErrors"),
            consecutive_local_errors=outliers.number("consecutiveLocalOriginFailures"),
        )
