"""Checks of Services and workloads: a Service has pods, and each hop's upstream exists."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mockservice.manifests.hosts import host_of
from mockservice.manifests.inventory import (
    Inventory,
    containers,
    kind_of,
    pod_labels,
    selects,
    unmatched,
)
from mockservice.manifests.kinds import POD, SERVICE
from mockservice.manifests.problems import Problem, one_of, problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mockservice.manifests.documents import Document


def check(inventory: Inventory) -> Iterator[Problem]:
    """Check all Services and workloads."""
    for workload in inventory.workloads:
        yield from _check_labels(workload)
        yield from _check_upstream(inventory, workload)
    for service in inventory.of(SERVICE):
        yield from _check_selector(inventory, service)


def _check_labels(workload: Document) -> Iterator[Problem]:
    if "template" not in workload.body["spec"]:
        if workload.kind == "Rollout" and "workloadRef" not in workload.body["spec"]:
            yield problem(workload, "spec", "must have template or workloadRef")
        return
    labels = pod_labels(workload)
    selector = workload.body["spec"].get("selector") or {}
    expected: dict[str, str] = selector.get("matchLabels") or {}
    for name, value in expected.items():
        if labels.get(name) != value:
            place = f"spec.template.metadata.labels.{name}"
            shown = f", not {labels[name]!r}" if name in labels else ""
            reason = f"must be {value!r} as in spec.selector{shown}"
            yield problem(workload, place, reason)


def _check_selector(inventory: Inventory, service: Document) -> Iterator[Problem]:
    spec = service.body["spec"]
    selector = spec.get("selector")
    if selector is None:
        # The user manages the endpoints of such a Service.
        return
    whose = f"in namespace {service.namespace}"
    pods = inventory.pods(service.namespace)
    if reason := unmatched(selector, pods, whose):
        # Pods may be made by others, such as the operator of a database.
        if not selector or _is_mistaken(selector, pods, inventory.pods()):
            yield problem(service, "spec.selector", reason)
        return
    names = {
        port["name"]
        for workload in inventory.workloads
        if workload.namespace == service.namespace and selects(selector, pod_labels(workload))
        for container in containers(workload)
        for port in container.get("ports") or []
        if port.get("name")
    }
    for index, port in enumerate(spec.get("ports") or []):
        target = port.get("targetPort")
        if isinstance(target, str) and target not in names:
            place = f"spec.ports[{index}].targetPort"
            reason = f"no container has a port named {target!r}; {one_of(target, names)}"
            yield problem(service, place, reason)


def _is_mistaken(
    selector: dict[str, str], pods: list[dict[str, str]], everywhere: list[dict[str, str]]
) -> bool:
    """Whether a selector of no pod resembles one of pods that there are.

    It is so if each label is that of some pod, if a value is nearly that of a pod, or if it fits
    pods of another namespace.
    """
    if any(selects(selector, labels) for labels in everywhere):
        return True
    for name, value in selector.items():
        known = {labels[name] for labels in pods if name in labels}
        if value not in known:
            return one_of(value, known).startswith("did you mean")
    return True


def _check_upstream(inventory: Inventory, workload: Document) -> Iterator[Problem]:
    at = "spec" if kind_of(workload) == POD else "spec.template.spec"
    for number, container in enumerate(containers(workload)):
        for index, variable in enumerate(container.get("env") or []):
            if variable["name"] != "upstream_url":
                continue
            place = f"{at}.containers[{number}].env[{index}].value"
            for url in (variable.get("value") or "").split(","):
                reason = url and _upstream_reason(inventory, url.strip(), workload.namespace)
                if reason:
                    yield problem(workload, place, f"{url.strip()}: {reason}")


def _upstream_reason(inventory: Inventory, url: str, namespace: str) -> str | None:
    """Say what is wrong with an `upstream_url`; None if nothing is."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https"):
        return "must be an http or https URL with a host"
    host = host.rstrip(".")
    service = _service_of(inventory, host, namespace)
    if service is None:
        return None
    if service not in inventory.services:
        return inventory.no_service(host, namespace)
    return inventory.no_port(service, port or (443 if parts.scheme == "https" else 80))


def _service_of(inventory: Inventory, host: str, namespace: str) -> str | None:
    """Return the full name of the Service that a host means in a pod; None for other hosts.

    Source: Kubernetes, "DNS for Services and Pods".
    """
    try:
        ip_address(host)
    except ValueError:
        pass
    else:
        return None
    name, _, rest = host.partition(".")
    owner, _, suffix = rest.partition(".")
    namespaces = {document.namespace for document in inventory.workloads}
    namespaces |= {document.namespace for document in inventory.of(SERVICE)}
    if suffix in ("svc", "svc.cluster.local") or (not suffix and owner in namespaces):
        return host_of(name, owner)
    return None if rest else host_of(name, namespace)
