"""Closed shapes, with the fields that `k8s/` uses, for kinds without a schema on PyPI.

Sources: Gateway API v1, "Gateway" and "HTTPRoute"; Argo CD, "Application" and "AppProject"; Argo
Rollouts, "AnalysisTemplate".
"""

from __future__ import annotations

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

_PORT = Integer(1, 65535)


def _kind(api_version: str, kind: str, spec: Object) -> Object:
    metadata = Object(
        {
            "name": String(),
            "namespace": String(),
            "labels": Map(),
            "annotations": Map(),
            "finalizers": List(String()),
        },
        required=("name",),
    )
    return Object(
        {
            "apiVersion": String((api_version,)),
            "kind": String((kind,)),
            "metadata": metadata,
            "spec": spec,
        },
        required=("apiVersion", "kind", "metadata", "spec"),
    )


_GATEWAY = Object(
    {
        "gatewayClassName": String(),
        "listeners": List(
            Object(
                {"name": String(), "port": _PORT, "protocol": String(("HTTP", "HTTPS"))},
                required=("name", "port", "protocol"),
            ),
            empty=False,
        ),
    },
    required=("gatewayClassName", "listeners"),
)
_HEADER = Object({"name": String(), "value": String()}, required=("name", "value"))
_FILTER = Object(
    {
        "type": String(("RequestHeaderModifier",)),
        "requestHeaderModifier": Object({"set": List(_HEADER, empty=False)}, required=("set",)),
    },
    required=("type", "requestHeaderModifier"),
)
_HTTP_ROUTE = Object(
    {
        "parentRefs": List(
            Object(
                {
                    "group": String(),
                    "kind": String(("Gateway", "Service")),
                    "name": String(),
                    "port": _PORT,
                },
                required=("name",),
            ),
            empty=False,
        ),
        "rules": List(
            Object(
                {
                    "matches": List(
                        Object(
                            {
                                "path": Object(
                                    {
                                        "type": String(
                                            ("Exact", "PathPrefix", "RegularExpression")
                                        ),
                                        "value": String(),
                                    }
                                ),
                                "headers": List(_HEADER),
                            }
                        )
                    ),
                    "backendRefs": List(
                        Object(
                            {
                                "name": String(),
                                "port": _PORT,
                                "weight": Integer(0, 1_000_000),
                                "filters": List(_FILTER),
                            },
                            required=("name", "port"),
                        )
                    ),
                }
            ),
            empty=False,
        ),
    }
)
_GROUP_KIND = Object({"group": String(), "kind": String()}, required=("group", "kind"))
_DESTINATION = Object({"server": String(), "namespace": String()})
_PROJECT = Object(
    {
        "description": String(),
        "sourceRepos": List(String()),
        "destinations": List(_DESTINATION),
        "clusterResourceWhitelist": List(_GROUP_KIND),
        "namespaceResourceWhitelist": List(_GROUP_KIND),
    }
)
_APPLICATION = Object(
    {
        "project": String(),
        "destination": _DESTINATION,
        "sources": List(
            Object(
                {"repoURL": String(), "targetRevision": String(), "path": String()},
                required=("repoURL",),
            ),
            empty=False,
        ),
        "syncPolicy": Object(
            {
                "automated": Object({"prune": Boolean(), "selfHeal": Boolean()}),
                "syncOptions": List(String()),
                "retry": Object(
                    {
                        "limit": Integer(),
                        "backoff": Object(
                            {"duration": String(), "factor": Integer(), "maxDuration": String()}
                        ),
                    }
                ),
            }
        ),
    },
    required=("project", "destination", "sources"),
)
# The Job's spec is Kubernetes' own.
_METRIC = Object(
    {
        "name": String(),
        "provider": Object(
            {"job": Object({"spec": Anything()}, required=("spec",))}, required=("job",)
        ),
    },
    required=("name", "provider"),
)
_ANALYSIS_TEMPLATE = Object(
    {
        "args": List(Object({"name": String(), "value": String()}, required=("name",))),
        "metrics": List(_METRIC, empty=False),
    },
    required=("metrics",),
)

SHAPES: dict[str, Shape] = {
    "gateway.networking.k8s.io/Gateway": _kind("gateway.networking.k8s.io/v1", "Gateway", _GATEWAY),
    "gateway.networking.k8s.io/HTTPRoute": _kind(
        "gateway.networking.k8s.io/v1", "HTTPRoute", _HTTP_ROUTE
    ),
    "argoproj.io/Application": _kind("argoproj.io/v1alpha1", "Application", _APPLICATION),
    "argoproj.io/AppProject": _kind("argoproj.io/v1alpha1", "AppProject", _PROJECT),
    "argoproj.io/AnalysisTemplate": _kind(
        "argoproj.io/v1alpha1", "AnalysisTemplate", _ANALYSIS_TEMPLATE
    ),
}
