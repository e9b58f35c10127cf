"""The shapes of Kubernetes', Istio's and Gateway API's kinds: open, the fields that checks look at.

Their own schemas are the cluster's business; these make the checks' reading of them safe.
"""

from __future__ import annotations

from typing import Final

from mockservice.manifests import asm
from mockservice.manifests.shapes import List, Map, Object, Shape, Text, Whole

SERVICE: Final = "Service"
DEPLOYMENT: Final = "apps/Deployment"
GATEWAY: Final = "networking.istio.io/Gateway"
DESTINATION_RULE: Final = "networking.istio.io/DestinationRule"
VIRTUAL_SERVICE: Final = "networking.istio.io/VirtualService"
API_GATEWAY: Final = "gateway.networking.k8s.io/Gateway"
HTTP_ROUTE: Final = "gateway.networking.k8s.io/HTTPRoute"

_PORT: Final = Whole(1, 65535)


def _open(fields: dict[str, Shape], *required: str) -> Object:
    return Object(fields, required=required, open=True)


def _kind(spec: Object) -> Object:
    return _open({"metadata": _open({"labels": Map()}), "spec": spec}, "spec")


_CONTAINER: Final = _open(
    {
        "ports": List(_open({"name": Text(), "containerPort": _PORT}, "containerPort")),
        "env": List(_open({"name": Text(), "value": Text()}, "name")),
    }
)
_DEPLOYMENT: Final = _open(
    {
        "replicas": Whole(),
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
        "type": Text(),
        "selector": Map(),
        "ports": List(_open({"name": Text(), "port": _PORT}, "port")),
    }
)
_DESTINATION_RULE: Final = _open(
    {
        "host": Text(),
        "subsets": List(_open({"name": Text(), "labels": Map()}, "name")),
    },
    "host",
)
_ROUTE_DESTINATION: Final = _open(
    {
        "destination": _open(
            {"host": Text(), "subset": Text(), "port": _open({"number": _PORT})}, "host"
        ),
        "weight": Whole(),
        # ASM's own addition: what stands in while the destination has no pod that is ready.
        "fallback": _open({"target": _open({"host": Text(), "subset": Text()})}),
    },
    "destination",
)
_VIRTUAL_SERVICE: Final = _open(
    {
        "hosts": List(Text()),
        "gateways": List(Text()),
        "http": List(
            _open(
                {
                    "match": List(_open({"sourceLabels": Map()})),
                    "route": List(_ROUTE_DESTINATION),
                }
            )
        ),
    }
)
_REFERENCE: Final = _open({"kind": Text(), "name": Text(), "namespace": Text()}, "name")
_BACKEND: Final = _open(
    {"kind": Text(), "name": Text(), "namespace": Text(), "port": _PORT, "weight": Whole()}, "name"
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
