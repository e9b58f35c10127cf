"""Closed shapes for the kinds whose schemas PyPI does not carry, of the fields that `k8s/` uses.

Sources: Gateway API v1, "Gateway" and "HTTPRoute"; Argo CD, "Application" and "AppProject".
"""

from __future__ import annotations

from mockservice.manifests.shapes import Flag, List, Map, Object, Shape, Text, Whole

_PORT = Whole(1, 65535)


def _kind(api_version: str, kind: str, spec: Object) -> Object:
    metadata = Object(
        {
            "name": Text(),
            "namespace": Text(),
            "labels": Map(),
            "annotations": Map(),
            "finalizers": List(Text()),
        },
        required=("name",),
    )
    return Object(
        {
            "apiVersion": Text((api_version,)),
            "kind": Text((kind,)),
            "metadata": metadata,
            "spec": spec,
        },
        required=("apiVersion", "kind", "metadata", "spec"),
    )


_GATEWAY = Object(
    {
        "gatewayClassName": Text(),
        "listeners": List(
            Object(
                {"name": Text(), "port": _PORT, "protocol": Text(("HTTP", "HTTPS"))},
                required=("name", "port", "protocol"),
            ),
            empty=False,
        ),
    },
    required=("gatewayClassName", "listeners"),
)
_HEADER = Object({"name": Text(), "value": Text()}, required=("name", "value"))
_FILTER = Object(
    {
        "type": Text(("RequestHeaderModifier",)),
        "requestHeaderModifier": Object({"set": List(_HEADER, empty=False)}, required=("set",)),
    },
    required=("type", "requestHeaderModifier"),
)
_HTTP_ROUTE = Object(
    {
        "parentRefs": List(
            Object(
                {
                    "group": Text(),
                    "kind": Text(("Gateway", "Service")),
                    "name": Text(),
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
                                        "type": Text(("Exact", "PathPrefix", "RegularExpression")),
                                        "value": Text(),
                                    }
                                ),
                                "headers": List(_HEADER),
                            }
                        )
                    ),
                    "backendRefs": List(
                        Object(
                            {
                                "name": Text(),
                                "port": _PORT,
                                "weight": Whole(0, 1_000_000),
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
_GROUP_KIND = Object({"group": Text(), "kind": Text()}, required=("group", "kind"))
_DESTINATION = Object({"server": Text(), "namespace": Text()})
_PROJECT = Object(
    {
        "description": Text(),
        "sourceRepos": List(Text()),
        "destinations": List(_DESTINATION),
        "clusterResourceWhitelist": List(_GROUP_KIND),
        "namespaceResourceWhitelist": List(_GROUP_KIND),
    }
)
_APPLICATION = Object(
    {
        "project": Text(),
        "destination": _DESTINATION,
        "sources": List(
            Object(
                {"repoURL": Text(), "targetRevision": Text(), "path": Text()},
                required=("repoURL",),
            ),
            empty=False,
        ),
        "syncPolicy": Object(
            {
                "automated": Object({"prune": Flag(), "selfHeal": Flag()}),
                "syncOptions": List(Text()),
                "retry": Object(
                    {
                        "limit": Whole(),
                        "backoff": Object(
                            {"duration": Text(), "factor": Whole(), "maxDuration": Text()}
                        ),
                    }
                ),
            }
        ),
    },
    required=("project", "destination", "sources"),
)

SHAPES: dict[str, Shape] = {
    "gateway.networking.k8s.io/Gateway": _kind("gateway.networking.k8s.io/v1", "Gateway", _GATEWAY),
    "gateway.networking.k8s.io/HTTPRoute": _kind(
        "gateway.networking.k8s.io/v1", "HTTPRoute", _HTTP_ROUTE
    ),
    "argoproj.io/Application": _kind("argoproj.io/v1alpha1", "Application", _APPLICATION),
    "argoproj.io/AppProject": _kind("argoproj.io/v1alpha1", "AppProject", _PROJECT),
}
