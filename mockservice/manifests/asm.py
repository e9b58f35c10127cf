"""The shapes of ASM's two lane kinds, closed.

Source: Alibaba Cloud Service Mesh, "ASMSwimLaneGroup and ASMSwimLane field reference".
"""

from __future__ import annotations

from typing import Final

from mockservice.manifests.shapes import Anything, Flag, List, Map, Object, Shape, Text, Whole

LANE_GROUP: Final = "istio.alibabacloud.com/ASMSwimLaneGroup"
LANE: Final = "istio.alibabacloud.com/ASMSwimLane"
GROUP_LABEL: Final = "swimlane-group"
"""The label by which a lane names its group."""
RULES: Final = "rule_based"
"""Requests enter a lane by its own ingress rules; what a group does that says nothing else."""
WEIGHTS: Final = "weighted"
"""Requests enter the lanes of a group by weight."""

_METADATA: Final = Object(
    {
        "name": Text(),
        "labels": Map(),
        "annotations": Map(),
        "finalizers": List(Text()),
        # What a cluster adds to an object that is read back from it.
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
        {"name": Text(), "namespace": Text(), "cluster": Anything()}, required=("name", "namespace")
    )
)
_STRING_MATCH: Final = Object({"exact": Text(), "prefix": Text(), "regex": Text()}, single=True)
_MATCH: Final = Object({"uri": _STRING_MATCH, "headers": Map(_STRING_MATCH)})
_DESTINATION: Final = Object({"host": Text()}, required=("host",))


def _kind(name: str, spec: Object, metadata: Object = _METADATA) -> Object:
    return Object(
        {
            "apiVersion": Text(("istio.alibabacloud.com/v1",)),
            "kind": Text((name,)),
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
                    {"name": Text(), "namespace": Text(), "type": Text(("ASM",))},
                    required=("name", "namespace", "type"),
                ),
                "ingressRouting": Object(
                    {
                        "ingressRoutingStrategy": Text((RULES, WEIGHTS)),
                        "weightedRoutingRule": Object(
                            {"hosts": List(Text()), "requestMatches": List(_MATCH)}
                        ),
                    }
                ),
            },
            required=("gateway",),
        ),
        "isPermissive": Flag(),
        "autoUpdate": Flag(),
        "permissiveModeConfiguration": Object(
            {
                "fallbackTarget": Text(),
                "serviceLevelFallbackTarget": Map(),
                "traceHeader": Text(),
                "routeHeader": Text(),
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
                    "name": Text(),
                    "online": Flag(),
                    "hosts": List(Text()),
                    "match": _MATCH,
                    "route": Object({"destination": _DESTINATION}, required=("destination",)),
                },
                required=("name", "route"),
            )
        ),
        "ingressWeight": Object(
            {"destination": _DESTINATION, "weight": Whole(0, 100)},
            required=("destination", "weight"),
        ),
    },
    required=("labelSelector",),
)

SHAPES: Final[dict[str, Shape]] = {
    LANE_GROUP: _kind("ASMSwimLaneGroup", _GROUP_SPEC),
    LANE: _kind("ASMSwimLane", _LANE_SPEC),
}
