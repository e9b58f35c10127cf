"""The host names of Services in a mesh."""

from __future__ import annotations

from typing import Final

ALL_SIDECARS: Final = "mesh"
"""The entry in a VirtualService's `gateways` that stands for all sidecars."""


def host_of(name: str, namespace: str) -> str:
    """Return the full host name of a Service."""
    return f"{name}.{namespace}.svc.cluster.local"


def full_host(host: str, namespace: str) -> str:
    """Return the full form of a host that a rule names.

    A name without a dot is a Service in the rule's own namespace.
    Source: Istio, "VirtualService", `HTTPRouteDestination`.
    """
    return host if "." in host else host_of(host, namespace)
