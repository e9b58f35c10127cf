"""Closed shapes of ASM's two lane kinds.

Source: Alibaba Cloud Service Mesh, "ASMSwimLaneGroup and ASMSwimLane field reference".
"""

from __future__ import annotations

from typing import Final

from mockservice.manifests.shapes import (
    Anything,
    Boolean,
    Integer,
    List,
    Map,
    Object,
    Shape,
    String,
)

LANE_GROUP: Final = "istio.alibabacloud.com/ASMSwimLaneGroup"
LANE: Final = "istio.alibabacloud.com/ASMSwimLane"
GROUP_LABEL: Final = "swimlane-group"
"""The label of a lane that names its lane group."""
RULES: Final = "rule_based"
"""The default: a lane's ingress rules decide which requests enter it."""
WEIGHTS: Final = "weighted"
"""Requests are split between the lanes of a group by weight."""

_METADATA: Final = Object(
    {
        "name": String(),
        "labels": Map(),
        "annotations": Map(),
        "finalizers": List(String()),
        # Fields that the cluster adds, as in the output of `kubectl get -o yaml`.
        "creationTimestamp": Anything(),
        "generation": Anything(),
        "managedFields": Anything(),
        "resourceVersion": Anything(),
        "uid": Anything(),
    },
    required=("name",),
)
_SERVICES: Final = List(
    Object(
        {"name": String(), "namespace": String(), "cluster": Anything()},
        required=("name", "namespace"),
    )
)
_STRING_MATCH: Final = Object(
    {"exact": String(), "prefix": String(), "regex": String()}, single=True
)
_MATCH: Final = Object({"uri": _STRING_MATCH, "headers": Map(_STRING_MATCH)})
_DESTINATION: Final = Object({"host": String()}, required=("host",))


def _kind(name: str, spec: Object, metadata: Object = _METADATA) -> Object:
    return Object(
        {
            "apiVersion": String(("istio.alibabacloud.com/v1",)),
            "kind": String((name,)),
            "metadata": metadata,
            "spec": spec,
            "status": Anything(),
        },
        required=("apiVersion", "kind", "metadata", "spec"),
    )


_GROUP_SPEC: Final = Object(
    {
        "services": List(_SERVICES.of, empty=False),
        "ingress": Object(
            {
                "gateway": Object(
                    {"name": String(), "namespace": String(), "type": String(("ASM",))},
                    required=("name", "namespace", "type"),
                ),
                "ingressRouting": Object(
                    {
                        "ingressRoutingStrategy": String((RULES, WEIGHTS)),
                        "weightedRoutingRule": Object(
                            {"hosts": List(String()), "requestMatches": List(_MATCH)}
                        ),
                    }
                ),
            },
            required=("gateway",),
        ),
        "isPermissive": Boolean(),
        "autoUpdate": Boolean(),
        "permissiveModeConfiguration": Object(
            {
                "fallbackTarget": String(),
                "serviceLevelFallbackTarget": Map(),
                "traceHeader": String(),
                "routeHeader": String(),
            }
        ),
    },
    required=("services", "ingress"),
)
_LANE_SPEC: Final = Object(
    {
        "labelSelector": Map(),
        "services": _SERVICES,
        "ingressRules": List(
            Object(
                {
                    "name": String(),
                    "online": Boolean(),
                    "hosts": List(String()),
                    "match": _MATCH,
                    "route": Object({"destination": _DESTINATION}, required=("destination",)),
                },
                required=("name", "route"),
            )
        ),
        "ingressWeight": Object(
            {"destination": _DESTINATION, "weight": Integer(0, 100)},
            required=("destination", "weight"),
        ),
    },
    required=("labelSelector",),
)

SHAPES: Final[dict[str, Shape]] = {
    LANE_GROUP: _kind("ASMSwimLaneGroup", _GROUP_SPEC),
    LANE: _kind("ASMSwimLane", _LANE_SPEC),
}
