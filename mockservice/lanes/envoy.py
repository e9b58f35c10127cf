"""Translates the mesh into Envoy's configuration (v3 API, as JSON), as Istio would.

One Envoy does everything: the gateway is a listener, and so is the sidecar of each pod. A sidecar's
listener has two addresses, one for the pod's outbound calls and one for its inbound calls. Both
belong to one listener because the Lua filter must remember inbound requests for outbound calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from mockservice.lanes.envoy_clusters import cluster_of, clusters_in, clusters_of
from mockservice.lanes.envoy_parts import Caller, Context, address_of, named_filter
from mockservice.lanes.envoy_routes import RETRY_ATTEMPTS, balanced_route, routes_of
from mockservice.mesh.istio import GATEWAY_NAMESPACE
from mockservice.mesh.matching import merged_routes

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mockservice.lanes.addresses import Place
    from mockservice.lanes.envoy_parts import Json
    from mockservice.mesh.model import LaneCarrier, Mesh, Pod, RouteTable, Service

GATEWAY_IP: Final = "127.0.0.1"

# Istio's default: pilot/pkg/networking/core/route/retry.
_RETRY_INBOUND_ON: Final = "reset-before-request"


@dataclass(frozen=True, slots=True)
class Configuration:
    """Envoy's clusters, listeners and route tables, by name.

    Each listener uses the route table of the same name.
    """

    clusters: dict[str, Json]
    listeners: dict[str, Json]
    routes: dict[str, Json]


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
    context = Context(mesh, places, ready)
    clusters = dict(clusters_of(context))
    listeners = {"gateway": _listener("gateway", [(GATEWAY_IP, gateway_port)], "INBOUND")}
    routes = {"gateway": _route_configuration("gateway", _gateway_hosts(context, gateway_port))}
    for pod, place in places.items():
        name = sidecar_name(pod, place)
        addresses = [(place.ip, place.outbound), (place.ip, place.inbound)]
        script = _sidecar_script(addresses[1], _carriers(mesh, pod))
        listeners[name] = _listener(name, addresses, "OUTBOUND", script)
        routes[name] = _route_configuration(name, _sidecar_hosts(context, pod, place))
        clusters[name] = cluster_of(name, [(place.ip, place.port)])
    # Of a host or a port that no Service has: what is led there gets 503.
    for name in clusters_in(list(routes.values())):
        clusters.setdefault(name, cluster_of(name, []))
    return Configuration(clusters, listeners, routes)


def sidecar_name(pod: Pod, place: Place) -> str:
    """Return the name of a pod's listener, of its route table and of its service's cluster."""
    return f"{pod.namespace}.{pod.name}.{place.number}"


def _listener(
    name: str, addresses: list[tuple[str, int]], direction: str, script: str | None = None
) -> Json:
    filters = []
    if script is not None:
        source = {"default_source_code": {"inline_string": script}}
        filters.append(named_filter("lua", "extensions.filters.http.lua.v3.Lua", **source))
    filters.append(named_filter("cors", "extensions.filters.http.cors.v3.Cors"))
    filters.append(named_filter("fault", "extensions.filters.http.fault.v3.HTTPFault"))
    filters.append(named_filter("router", "extensions.filters.http.router.v3.Router"))
    manager = named_filter(
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
        "address": address_of(*addresses[0]),
        "additional_addresses": [{"address": address_of(*more)} for more in addresses[1:]],
        "traffic_direction": direction,
        # With SO_REUSEPORT a second Envoy could share the port without an error.
        "enable_reuse_port": False,
        "filter_chains": [{"filters": [manager]}],
    }


def _sidecar_script(inbound: tuple[str, int], carriers: list[LaneCarrier]) -> str:
    listed = "".join(
        f'{{trace = "{carrier.trace_header}", route = "{carrier.route_header}"}}, '
        for carrier in carriers
    )
    constants = f'local INBOUND = "{inbound[0]}:{inbound[1]}"\nlocal CARRIERS = {{{listed}}}\n'
    return constants + _script()


@cache
def _script() -> str:
    return files(__package__).joinpath("sidecar.lua").read_text("utf-8")


def _carriers(mesh: Mesh, pod: Pod) -> list[LaneCarrier]:
    hosts = {service.host for service in mesh.services_of(pod)}
    return [carrier for carrier in mesh.carriers if hosts.intersection(carrier.hosts)]


def _route_configuration(name: str, hosts: list[Json]) -> Json:
    return {
        "name": name,
        "virtual_hosts": hosts,
        "ignore_port_in_host_matching": name == "gateway",
    }


def _gateway_hosts(context: Context, port: int) -> list[Json]:
    mesh = context.mesh
    caller = Caller(mesh.gateway_labels, GATEWAY_NAMESPACE, mesh.gateway_port, port)
    by_host: dict[str, list[RouteTable]] = {}
    for table in mesh.gateway:
        for host in table.hosts:
            by_host.setdefault(host, []).append(table)
    return [
        {
            "name": host,
            "domains": [host],
            "routes": list(routes_of(context, merged_routes(tables), caller)),
        }
        for host, tables in by_host.items()
    ]


def _sidecar_hosts(context: Context, pod: Pod, place: Place) -> list[Json]:
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
            "retry_policy": {"retry_on": _RETRY_INBOUND_ON, "num_retries": RETRY_ATTEMPTS},
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
            caller = Caller(pod.labels, pod.namespace, port, port)
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


def _service_routes(context: Context, service: Service, caller: Caller) -> list[Json]:
    table = next((one for one in context.mesh.calls if service.host in one.hosts), None)
    routes = [] if table is None else list(routes_of(context, table.routes, caller))
    # As in Istio, rules count only for callers that one of them is for at all.
    return routes or [balanced_route(context, service, caller)]
