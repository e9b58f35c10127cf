"""Open shapes of the Kubernetes, Istio and Gateway API kinds, with the fields that checks read.

The cluster validates the full schemas. These shapes only make it safe to read the fields.
"""

from __future__ import annotations

from typing import Final

from mockservice.manifests import asm
from mockservice.manifests.shapes import Integer, List, Map, Object, Shape, String

SERVICE: Final = "Service"
DEPLOYMENT: Final = "apps/Deployment"
GATEWAY: Final = "networking.istio.io/Gateway"
DESTINATION_RULE: Final = "networking.istio.io/DestinationRule"
VIRTUAL_SERVICE: Final = "networking.istio.io/VirtualService"
API_GATEWAY: Final = "gateway.networking.k8s.io/Gateway"
HTTP_ROUTE: Final = "gateway.networking.k8s.io/HTTPRoute"

_PORT: Final = Integer(1, 65535)


def _open(fields: dict[str, Shape], *required: str) -> Object:
    return Object(fields, required=required, open=True)


def _kind(spec: Object) -> Object:
    return _open({"metadata": _open({"labels": Map()}), "spec": spec}, "spec")


_CONTAINER: Final = _open(
    {
        "ports": List(_open({"name": String(), "containerPort": _PORT}, "containerPort")),
        "env": List(_open({"name": String(), "value": String()}, "name")),
    }
)
_DEPLOYMENT: Final = _open(
    {
        "replicas": Integer(),
        "selector": _open({"matchLabels": Map()}),
        "template": _open(
            {
                "metadata": _open({"labels": Map()}),
                "spec": _open({"containers": List(_CONTAINER, empty=False)}, "containers"),
            },
            "metadata",
            "spec",
        ),
    },
    "selector",
    "template",
)
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
    DEPLOYMENT: _kind(_DEPLOYMENT),
    GATEWAY: _kind(_open({})),
    DESTINATION_RULE: _kind(_DESTINATION_RULE),
    VIRTUAL_SERVICE: _kind(_VIRTUAL_SERVICE),
    API_GATEWAY: _kind(_open({})),
    HTTP_ROUTE: _kind(_HTTP_ROUTE),
    **asm.SHAPES,
}
