"""Small manifests for the tests of local lanes, as Kubernetes objects."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]

CHAIN = ("mocka", "mockb", "mockc")
MOCKA = "mocka.default.svc.cluster.local"
MOCKB = "mockb.default.svc.cluster.local"


def service(name: str, namespace: str = "default", port: int = 8000, **labels: str) -> Json:
    """A Service of the pods labelled `app: NAME`, or of those with other labels."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": labels or {"app": name},
            "ports": [{"name": "http", "port": port, "targetPort": 8000}],
        },
    }


def deployment(
    app: str,
    version: str,
    namespace: str = "default",
    replicas: int = 1,
    env: dict[str, str] | None = None,
) -> Json:
    """A Deployment of hops."""
    labels = {"app": app, "version": version}
    variables = labels | (env or {})
    container = {
        "name": "default",
        "image": "mockservice",
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "ports": [{"containerPort": 8000}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{app}-{version}", "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def chain(**versions: str) -> list[Json]:
    """Services and Deployments of mocka -> mockb -> mockc, each in some versions: `v1 v2`."""
    objects = []
    for app, upstream in zip(CHAIN, (*CHAIN[1:], None), strict=True):
        env = {} if upstream is None else {"upstream_url": f"http://{upstream}:8000/"}
        objects.append(service(app))
        objects += [deployment(app, version, env=env) for version in versions[app].split()]
    return objects


def set_env(objects: list[Json], app: str, **env: str) -> None:
    """Add variables to the Deployments of one app."""
    for item in objects:
        if item["kind"] == "Deployment" and item["metadata"]["name"].startswith(f"{app}-"):
            (container,) = item["spec"]["template"]["spec"]["containers"]
            container["env"] += [{"name": name, "value": value} for name, value in env.items()]


# Of these the hop itself finds out, at its start, that it cannot run.
UNFIT = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
}


def gateway(*hosts: str) -> Json:
    """The ingress gateway."""
    return {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "Gateway",
        "metadata": {"name": "ingressgateway", "namespace": "istio-system"},
        "spec": {
            "selector": {"istio": "ingressgateway"},
            "servers": [
                {
                    "port": {"number": 80, "name": "http", "protocol": "HTTP"},
                    "hosts": list(hosts or ("*",)),
                }
            ],
        },
    }


def at_gateway(*routes: Json, host: str = "*") -> Json:
    """A VirtualService at the gateway."""
    return {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "VirtualService",
        "metadata": {"name": "mock", "namespace": "istio-system"},
        "spec": {
            "gateways": ["istio-system/ingressgateway"],
            "hosts": [host],
            "http": list(routes),
        },
    }


def between_pods(host: str, *routes: Json, namespace: str = "default") -> Json:
    """A VirtualService of the calls between pods."""
    return {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "VirtualService",
        "metadata": {"name": host.partition(".")[0], "namespace": namespace},
        "spec": {"hosts": [host], "http": list(routes)},
    }


def to(host: Any, subset: str | None = None, weight: int | None = None, **more: Any) -> Json:
    """A destination of a VirtualService's route."""
    destination = {"host": host} | ({} if subset is None else {"subset": subset})
    return {"destination": destination} | ({} if weight is None else {"weight": weight}) | more


def subsets(host: str, *names: str, **more: Any) -> Json:
    """A DestinationRule with a subset for each version, named like it."""
    return {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "DestinationRule",
        "metadata": {"name": host.partition(".")[0], "namespace": "default"},
        "spec": {
            "host": host,
            "subsets": [{"name": name, "labels": {"version": name}} for name in names],
            **more,
        },
    }


def lane_group(**spec: Any) -> Json:
    """The lane group of the chain's Services."""
    return {
        "apiVersion": "istio.alibabacloud.com/v1",
        "kind": "ASMSwimLaneGroup",
        "metadata": {"name": "mock"},
        "spec": {
            "ingress": {
                "gateway": {"name": "ingressgateway", "namespace": "istio-system", "type": "ASM"}
            },
            "services": [{"name": app, "namespace": "default"} for app in CHAIN],
            **spec,
        },
    }


def lane(name: str, version: str, *services: str, **spec: Any) -> Json:
    """A lane of the pods of one version, which holds some of the Services or all."""
    return {
        "apiVersion": "istio.alibabacloud.com/v1",
        "kind": "ASMSwimLane",
        "metadata": {"name": name, "labels": {"swimlane-group": "mock"}},
        "spec": {
            "labelSelector": {"version": version},
            "services": [{"name": app, "namespace": "default"} for app in services or CHAIN],
            **spec,
        },
    }


def entrance(name: str, header: str) -> Json:
    """The ingress rule of requests that name a lane in a header."""
    return {
        "name": name,
        "hosts": ["*"],
        "match": {"uri": {"exact": "/mock"}, "headers": {header: {"exact": name}}},
        "route": {"destination": {"host": MOCKA}},
    }


def write(path: Path, *objects: Json) -> Path:
    """Write objects to a file and return its path."""
    # Each on its own: YAML's aliases would be right, but nobody writes them.
    draft = path.with_suffix(".draft")
    draft.write_text(
        yaml.dump_all(deepcopy(list(objects)), Dumper=yaml.CSafeDumper, sort_keys=False)
    )
    draft.replace(path)
    return path
