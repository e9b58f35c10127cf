"""Open shapes of the Kubernetes, Istio and Gateway API kinds, with the fields that checks read.

The cluster validates the full schemas. These shapes only make it safe to read the fields.
"""

from __future__ import annotations

from typing import Final

from mockservice.manifests import asm
from mockservice.manifests.shapes import Integer, List, Map, Object, Shape, String

SERVICE: Final = "Service"
POD: Final = "Pod"
DEPLOYMENT: Final = "apps/Deployment"
REPLICA_SET: Final = "apps/ReplicaSet"
STATEFUL_SET: Final = "apps/StatefulSet"
DAEMON_SET: Final = "apps/DaemonSet"
ROLLOUT: Final = "argoproj.io/Rollout"
GATEWAY: Final = "networking.istio.io/Gateway"
DESTINATION_RULE: Final = "networking.istio.io/DestinationRule"
VIRTUAL_SERVICE: Final = "networking.istio.io/VirtualService"
API_GATEWAY: Final = "gateway.networking.k8s.io/Gateway"
HTTP_ROUTE: Final = "gateway.networking.k8s.io/HTTPRoute"

WORKLOADS: Final = (DEPLOYMENT, REPLICA_SET, STATEFUL_SET, DAEMON_SET, ROLLOUT, POD)
"""The kinds that make pods which go on running, and a pod itself."""

_PORT: Final = Integer(1, 65535)
_METADATA: Final = Object({"labels": Map(), "annotations": Map()}, open=True)


def _open(fields: dict[str, Shape], *required: str) -> Object:
    return Object(fields, required=required, open=True)


def _kind(spec: Object) -> Object:
    return _open({"metadata": _METADATA, "spec": spec}, "spec")


_OBJECT: Final = _open({"name": String()})
_VALUE_FROM: Final = _open({"configMapKeyRef": _OBJECT})
_CONTAINER: Final = _open(
    {
        "ports": List(_open({"name": String(), "containerPort": _PORT}, "containerPort")),
        "env": List(_open({"name": String(), "value": String(), "valueFrom": _VALUE_FROM}, "name")),
        "envFrom": List(_open({"configMapRef": _OBJECT})),
    }
)
_POD: Final = _open({"containers": List(_CONTAINER, empty=False)}, "containers")
_TEMPLATE: Final = _open({"metadata": _METADATA, "spec": _POD}, "metadata", "spec")


def _workload(*required: str) -> Object:
    fields: dict[str, Shape] = {
        "replicas": Integer(),
        "selector": _open({"matchLabels": Map()}),
        "template": _TEMPLATE,
    }
    return _open(fields, *required)


_SERVICE: Final = _open(
    {
        "type": String(),
        "selector": Map(),
        "ports": List(_open({"name": String(), "port": _PORT}, "port")),
    }
)
_DESTINATION_RULE: Final = _open(
    {
        "host": String(),
        "subsets": List(_open({"name": String(), "labels": Map()}, "name")),
    },
    "host",
)
_DESTINATION: Final = _open(
    {"host": String(), "subset": String(), "port": _open({"number": _PORT})}, "host"
)
_ROUTE_DESTINATION: Final = _open(
    {
        "destination": _DESTINATION,
        "weight": Integer(),
        # An ASM extension: takes over while the destination has no ready pod.
        "fallback": _open({"target": _open({"host": String(), "subset": String()})}),
    },
    "destination",
)
_VIRTUAL_SERVICE: Final = _open(
    {
        "hosts": List(String()),
        "gateways": List(String()),
        "http": List(
            _open(
                {
                    "match": List(_open({"sourceLabels": Map()})),
                    "route": List(_ROUTE_DESTINATION),
                    "mirror": _DESTINATION,
                    "mirrors": List(_open({"destination": _DESTINATION}, "destination")),
                }
            )
        ),
    }
)
_REFERENCE: Final = _open({"kind": String(), "name": String(), "namespace": String()}, "name")
_BACKEND: Final = _open(
    {"kind": String(), "name": String(), "namespace": String(), "port": _PORT, "weight": Integer()},
    "name",
)
_HTTP_ROUTE: Final = _open(
    {
        "parentRefs": List(_REFERENCE),
        "rules": List(_open({"backendRefs": List(_BACKEND)})),
    }
)

SHAPES: Final[dict[str, Shape]] = {
    SERVICE: _kind(_SERVICE),
    **{
        kind: _kind(_workload("selector", "template"))
        for kind in (DEPLOYMENT, REPLICA_SET, STATEFUL_SET, DAEMON_SET)
    },
    # It may take both from a Deployment.
    ROLLOUT: _kind(_workload()),
    POD: _kind(_POD),
    GATEWAY: _kind(_open({})),
    DESTINATION_RULE: _kind(_DESTINATION_RULE),
    VIRTUAL_SERVICE: _kind(_VIRTUAL_SERVICE),
    API_GATEWAY: _kind(_open({})),
    HTTP_ROUTE: _kind(_HTTP_ROUTE),
    **asm.SHAPES,
}
