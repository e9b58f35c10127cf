"""What a cluster makes of manifests: pods with addresses, endpoints, and defaults of fields.

It knows nothing of how mockservice reads manifests: what it makes is for Istio's pilot.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from tests.truth.hops import Pod

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.truth.cases import Json
    from tests.truth.hops import Address

GATEWAY_API: Final = "gateway.networking.k8s.io"
ISTIO: Final = "networking.istio.io"

_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_INGRESS: Final[dict[str, Any]] = {"app": "istio-ingressgateway", "istio": "ingressgateway"}
_NAMED_LIKE: Final = "gateway.networking.k8s.io/gateway-name"


@dataclass
class Cluster:
    """A cluster, as pilot and its proxies see it."""

    objects: list[Json] = field(default_factory=list)
    """Of Kubernetes and of the Gateway API, as an API server returns them."""
    configs: list[Json] = field(default_factory=list)
    """Istio's."""
    proxies: list[Json] = field(default_factory=list)
    pods: dict[Address, Pod] = field(default_factory=dict)
    """The hops, by where they listen."""
    addresses: dict[tuple[str, str], str] = field(default_factory=dict)
    """Those of Services, by namespace and name."""
    headless: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """The addresses of the pods of headless Services, which DNS tells."""
    gateway: str | None = None
    """The name of the gateway's proxy; None where there is no gateway."""
    gateway_target: int = 0
    """The port that the gateway's pod listens at."""


def make_cluster(objects: tuple[Json, ...], new_ip: Callable[[], str]) -> Cluster:
    """Make a cluster of manifests.

    Args:
        objects: with namespaces.
        new_ip: gives addresses for pods.
    """
    cluster = Cluster()
    pods: list[Json] = []
    for item in objects:
        if item["kind"] == "Deployment":
            pods += _pods(item, new_ip, cluster)
    services = [item for item in objects if item["kind"] == "Service"]
    services += _gateways(objects, new_ip, pods, cluster)
    for number, item in enumerate(services):
        namespace, name = _key(item)
        cluster.addresses[namespace, name] = f"10.96.0.{number + 1}"
        cluster.objects += [_service(item, cluster.addresses[namespace, name])]
        slice_ = _endpoints(item, pods)
        cluster.objects += [slice_]
        if item["spec"].get("clusterIP") == "None":
            addresses = [one["addresses"][0] for one in slice_["endpoints"]]
            cluster.headless[namespace, name] = addresses
    cluster.objects += pods
    namespaces = {item["metadata"]["namespace"] for item in (*objects, *services)}
    cluster.objects += [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        }
        for name in sorted(namespaces)
    ]
    for number, item in enumerate(objects):
        group = item["apiVersion"].rpartition("/")[0]
        # Of Istio's objects, the first is the oldest.
        age = number if group == ISTIO else 0
        created = (_BEGIN + timedelta(minutes=age)).strftime("%Y-%m-%dT%H:%M:%SZ")
        aged = item | {"metadata": {"creationTimestamp": created, **item["metadata"]}}
        if group == ISTIO:
            cluster.configs.append(aged)
        elif group == GATEWAY_API:
            cluster.objects.append(_with_defaults(aged))
    return cluster


def _key(item: Json) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _pods(deployment: Json, new_ip: Callable[[], str], cluster: Cluster) -> list[Json]:
    namespace, name = _key(deployment)
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    (container,) = template["spec"]["containers"]
    env = {one["name"]: one.get("value", "") for one in container.get("env", ())}
    urls = [url.strip() for url in env.get("upstream_url", "").split(",") if url.strip()]
    found = []
    for number in range(deployment["spec"].get("replicas", 1)):
        ip = new_ip()
        own = f"{name}-{number}"
        pod = Pod(namespace, own, env["app"], env["version"], tuple(urls))
        for port in container["ports"]:
            cluster.pods[ip, port["containerPort"]] = pod
        found.append(_pod(namespace, own, labels, ip, container["ports"]))
        cluster.proxies.append(_proxy(own, namespace, labels, ip))
    return found


def _pod(namespace: str, name: str, labels: Json, ip: str, ports: list[Json]) -> Json:
    containers = [{"name": "default", "image": "hop", "ports": ports}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"serviceAccountName": "default", "containers": containers},
        "status": {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def _proxy(name: str, namespace: str, labels: Json, ip: str, gateway: bool = False) -> Json:
    return {
        "name": f"{namespace}/{name}",
        "is_gateway": gateway,
        "namespace": namespace,
        "service_account": name if gateway else "default",
        "labels": labels,
        "ip": ip,
    }


def _gateways(
    objects: tuple[Json, ...], new_ip: Callable[[], str], pods: list[Json], cluster: Cluster
) -> list[Json]:
    """The Services of gateways: the one that Istio installs, or those of the Gateway API."""
    found: list[Json] = []
    for item in objects:
        if item["kind"] != "Gateway":
            continue
        if item["apiVersion"].startswith(ISTIO):
            servers = item["spec"].get("servers", ())
            wanted = [server["port"]["number"] for server in servers] or [80]
            name, namespace, labels = "istio-ingressgateway", "istio-system", _INGRESS
        else:
            wanted = [listener["port"] for listener in item["spec"]["listeners"]]
            namespace, name = _key(item)
            name = f"{name}-istio"
            labels = {_NAMED_LIKE: item["metadata"]["name"]}
        known = next((one for one in found if _key(one) == (namespace, name)), None)
        if known is not None:
            wanted = [*(port["port"] for port in known["spec"]["ports"]), *wanted]
            found.remove(known)
        # A process without privileges listens at none below 1024.
        ports = [
            {"name": f"http-{port}", "port": port, "targetPort": port + 8000}
            for port in dict.fromkeys(wanted)
        ]
        found.append(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": namespace, "labels": labels},
                "spec": {"selector": labels, "ports": ports},
            }
        )
        if known is not None:
            continue
        ip = new_ip()
        pods.append(_pod(namespace, name, labels, ip, []))
        cluster.proxies.append(_proxy(name, namespace, labels, ip, gateway=True))
        cluster.gateway = f"{namespace}/{name}"
        cluster.gateway_target = ports[0]["targetPort"]
    return found


def _service(item: Json, ip: str) -> Json:
    ip = item["spec"].get("clusterIP", ip)
    spec = {"type": "ClusterIP", **item["spec"], "clusterIP": ip, "clusterIPs": [ip]}
    ports = [{"protocol": "TCP", "targetPort": one["port"], **one} for one in spec["ports"]]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": item["metadata"],
        "spec": spec | {"ports": ports},
    }


def _endpoints(service: Json, pods: list[Json]) -> Json:
    namespace, name = _key(service)
    behind = [
        pod
        for pod in pods
        if pod["metadata"]["namespace"] == namespace
        and (service["spec"].get("selector") or {"": ""}).items()
        <= pod["metadata"]["labels"].items()
    ]
    known: dict[Any, int] = {}
    for pod in behind:
        (container,) = pod["spec"]["containers"]
        known |= {port.get("name"): port["containerPort"] for port in container["ports"]}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-1",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": [pod["status"]["podIP"]],
                "conditions": {"ready": True, "serving": True},
                "targetRef": {"kind": "Pod", "namespace": namespace, "name": _key(pod)[1]},
            }
            for pod in behind
        ],
        "ports": [
            {
                "name": port.get("name", ""),
                "protocol": "TCP",
                "port": known.get(target, target) if isinstance(target, str) else target,
            }
            for port in service["spec"]["ports"]
            if isinstance(target := port.get("targetPort", port["port"]), int) or target in known
        ],
    }


# The API server's defaults, as the CRDs of the Gateway API declare them.


def _with_defaults(item: Json) -> Json:
    spec = dict(item["spec"])
    if item["kind"] == "Gateway":
        spec["listeners"] = [
            {
                **one,
                "allowedRoutes": {"namespaces": {"from": "Same"}, **one.get("allowedRoutes", {})},
            }
            for one in spec["listeners"]
        ]
    elif item["kind"] == "HTTPRoute":
        own = {"group": GATEWAY_API, "kind": "Gateway"}
        spec["parentRefs"] = [own | one for one in spec.get("parentRefs", ())]
        spec["rules"] = [_rule(one) for one in spec.get("rules", [{}])]
    return item | {"spec": spec}


def _rule(rule: Json) -> Json:
    found = dict(rule)
    found["matches"] = [_match(one) for one in rule.get("matches") or [{}]]
    if "backendRefs" in rule:
        backends = [_reference(one, weight=1) for one in rule["backendRefs"]]
        found["backendRefs"] = [_with_filters(one) for one in backends]
    return _with_filters(found)


def _with_filters(owner: Json) -> Json:
    return owner | {"filters": [_filter(one) for one in owner.get("filters", ())]}


def _match(match: Json) -> Json:
    found = dict(match)
    found["path"] = {"type": "PathPrefix", "value": "/", **match.get("path", {})}
    for name in ("headers", "queryParams"):
        if name in match:
            found[name] = [{"type": "Exact", **one} for one in match[name]]
    return found


def _reference(reference: Json, **more: Any) -> Json:
    return {"group": "", "kind": "Service", **more, **reference}


def _filter(item: Json) -> Json:
    if "requestMirror" in item:
        mirror = item["requestMirror"]
        reference = _reference(mirror["backendRef"])
        return item | {"requestMirror": mirror | {"backendRef": reference}}
    if "requestRedirect" in item:
        return item | {"requestRedirect": {"statusCode": 302, **item["requestRedirect"]}}
    return item
