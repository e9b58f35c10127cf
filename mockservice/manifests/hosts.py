"""The host names of Services in a mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

ALL_SIDECARS: Final = "mesh"
"""The entry in a VirtualService's `gateways` that stands for all sidecars."""


if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


def host_of(name: str, namespace: str) -> str:
    """Return the full host name of a Service."""
    return f"{name}.{namespace}.svc.cluster.local"


def host_called(name: str, namespace: str, hosts: Collection[str]) -> str | None:
    """Return the Service that a caller in a namespace means by a name, or else None.

    Source: Kubernetes, "DNS for Services and Pods".

    Args:
        name: as the caller has it, in lower case.
        namespace: the caller's.
        hosts: the full names of Services.
    """
    endings = (f".{namespace}.svc.cluster.local", ".svc.cluster.local", ".cluster.local", "")
    return next((name + ending for ending in endings if name + ending in hosts), None)


def full_host(host: str, namespace: str) -> str:
    """Return the full form of a host that a rule names.

    A name without a dot is a Service in the rule's own namespace; `*` is any host.
    Source: Istio, "VirtualService", `HTTPRouteDestination`.
    """
    return host if "." in host or host == "*" else host_of(host, namespace)


def completed(host: str, hosts: Collection[str]) -> str | None:
    """Return the Service that a host would name if its end was not missing, or else None.

    Kubernetes completes `mocka.default` in a pod; Istio does not do it in a rule.
    Source: Istio's pilot, `ResolveShortnameToFQDN`.

    Args:
        host: as a rule has it, with a dot.
        hosts: the full names of Services.
    """
    if host in hosts:
        return None
    names = (f"{host}{ending}" for ending in (".svc.cluster.local", ".cluster.local", ".local"))
    return next((name for name in names if name in hosts), None)


def most_specific(host: str, patterns: Iterable[str]) -> str | None:
    """Return the pattern that counts for a host: its name, or else the longest wildcard.

    Source: Istio, "DestinationRule", `host`.
    """
    fitting = (
        pattern
        for pattern in patterns
        if pattern == host or (pattern.startswith("*") and host.endswith(pattern[1:]))
    )
    return max(fitting, key=lambda pattern: (pattern == host, len(pattern)), default=None)
