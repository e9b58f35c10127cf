"""The names that a mesh knows Services by."""

from __future__ import annotations


def host_of(name: str, namespace: str) -> str:
    """The full name of a Service."""
    return f"{name}.{namespace}.svc.cluster.local"


def full_host(host: str, namespace: str) -> str:
    """A host as Istio reads it: a name without a dot is a Service of the rule's own namespace."""
    return host if "." in host else host_of(host, namespace)
