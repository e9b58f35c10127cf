"""Documents by kind, and the Services, pods and subsets that they define."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from mockservice.manifests import asm
from mockservice.manifests.hosts import completed, full_host, host_of, most_specific
from mockservice.manifests.kinds import DESTINATION_RULE, GATEWAY, POD, SERVICE, WORKLOADS
from mockservice.manifests.problems import one_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mockservice.manifests.documents import Document

Labels = dict[str, str]


def kind_of(document: Document) -> str:
    """Return group and kind, such as `apps/Deployment`; core kinds have no group."""
    group, slash, _ = document.api_version.rpartition("/")
    return f"{group}{slash}{document.kind}"


class Inventory:
    """Documents that fit the shapes of their kinds."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._by_kind: dict[str, list[Document]] = defaultdict(list)
        for document in documents:
            self._by_kind[kind_of(document)].append(document)
        self.services: dict[str, Document] = {
            host_of(service.name, service.namespace): service for service in self.of(SERVICE)
        }
        """By full host name."""
        self.subsets: dict[str, set[str]] = defaultdict(set)
        """Names of subsets, by the full host name of their Service."""
        rules = [
            (full_host(rule.body["spec"]["host"], rule.namespace), rule)
            for rule in self.of(DESTINATION_RULE)
        ]
        for host in self.services:
            chosen = most_specific(host, (pattern for pattern, _ in rules))
            for pattern, rule in rules:
                if pattern == chosen:
                    subsets = rule.body["spec"].get("subsets") or []
                    self.subsets[host] |= {subset["name"] for subset in subsets}
        for lane in self.of(asm.LANE):
            for host in self.hosts_of_lane(lane):
                self.subsets[host].add(lane.name)

    def of(self, kind: str) -> list[Document]:
        """Return the documents of a kind, such as `apps/Deployment`."""
        return self._by_kind.get(kind, [])

    def named(self, kind: str, name: str, namespace: str = "") -> Document | None:
        """Return the document with that kind, name and namespace."""
        for document in self.of(kind):
            if (document.name, document.namespace) == (name, namespace):
                return document
        return None

    @property
    def workloads(self) -> list[Document]:
        """All that makes pods."""
        return [document for kind in WORKLOADS for document in self.of(kind)]

    def pods(self, namespace: str | None = None) -> list[Labels]:
        """Return the pod labels of each workload, in one namespace or in all."""
        return [
            pod_labels(workload)
            for workload in self.workloads
            if namespace in (None, workload.namespace)
        ]

    def pods_of(self, host: str) -> list[Labels]:
        """Return the pod labels of each workload behind a Service."""
        service = self.services[host]
        selector = service.body["spec"].get("selector") or {}
        return [labels for labels in self.pods(service.namespace) if selects(selector, labels)]

    def no_port(self, host: str, number: int | None) -> str | None:
        """Say why a Service does not have a port; None if it does."""
        service = self.services[host]
        ports = [port["port"] for port in service.body["spec"].get("ports") or []]
        if number in ports:
            return None
        allowed = one_of("", map(str, ports))
        if number is None:
            return f"must be set; {allowed}"
        return f"Service {service.name} has no port {number}; {allowed}"

    def is_known(self, host: str, namespace: str) -> bool:
        """Whether a host that a rule names is a Service, or would be one if it was completed."""
        full = full_host(host, namespace)
        return full in self.services or completed(full, self.services) is not None

    def no_service(self, host: str, namespace: str) -> str:
        """Say that a host, written in a namespace, names no Service."""
        where = "" if "." in host else f" in namespace {namespace}"
        return (
            f"there is no Service {host!r}{where}; {one_of_hosts(host, namespace, self.services)}"
        )

    def no_gateway(self, gateway: str, namespace: str) -> str:
        """Say that an entry of a VirtualService's `gateways` names no Gateway.

        Args:
            gateway: `NAME` or `NAMESPACE/NAME`.
            namespace: that of the VirtualService.
        """
        known: list[str] = []
        aliases: dict[str, str] = {}
        for document in self.of(GATEWAY):
            full = f"{document.namespace}/{document.name}"
            name = document.name if document.namespace == namespace else full
            known.append(name)
            aliases.setdefault(document.name, name)
        where = "" if "/" in gateway else f" in namespace {namespace}"
        return f"there is no Gateway {gateway!r}{where}; {one_of(gateway, known, aliases)}"

    def not_in_namespace(self, kind: str, name: str, namespace: str) -> str:
        """Say that a namespace has no object of that kind and name."""
        documents = self.of(kind)
        others = sorted(one.namespace for one in documents if one.name == name)
        if others:
            allowed = f"there is one in namespace {' and in '.join(others)}"
        else:
            allowed = one_of(name, (one.name for one in documents if one.namespace == namespace))
        return f"there is no {kind.rpartition('/')[2]} {name!r} in namespace {namespace}; {allowed}"

    def lanes_of(self, group: Document) -> list[Document]:
        """Return the lanes of a lane group."""
        return [lane for lane in self.of(asm.LANE) if group_of(lane) == group.name]

    def hosts_of_lane(self, lane: Document) -> list[str]:
        """Return the Services of a lane: those that it lists, or else all of its group."""
        group = self.named(asm.LANE_GROUP, group_of(lane))
        if lane.body["spec"].get("services"):
            return hosts_of(lane)
        return hosts_of(group) if group else []


def pod_template(workload: Document) -> dict[str, Any]:
    """Return what a workload makes its pods of; empty where it takes that from another one."""
    if kind_of(workload) == POD:
        return workload.body
    return workload.body["spec"].get("template") or {}


def pod_labels(workload: Document) -> Labels:
    """Return the labels of a workload's pods."""
    labels: Labels = (pod_template(workload).get("metadata") or {}).get("labels") or {}
    return labels


def containers(workload: Document) -> list[dict[str, Any]]:
    """Return the containers of a workload's pods."""
    found: list[dict[str, Any]] = (pod_template(workload).get("spec") or {}).get("containers") or []
    return found


def group_of(lane: Document) -> str:
    """Return the name of a lane's group; empty if the lane has no such label."""
    labels: Labels = lane.body["metadata"].get("labels") or {}
    return labels.get(asm.GROUP_LABEL, "")


def hosts_of(document: Document) -> list[str]:
    """Return the Services that a lane group or a lane lists."""
    services = document.body["spec"].get("services") or []
    return [host_of(service["name"], service["namespace"]) for service in services]


def one_of_hosts(written: str, namespace: str, hosts: Iterable[str]) -> str:
    """Say which hosts are allowed, as `one_of` does.

    A short name stays short if the Service is in the same namespace. Every other host is given by
    its full name.

    Args:
        written: the host in the manifest.
        namespace: where a host without a dot is looked up.
        hosts: the full names of the allowed Services.
    """
    known: list[str] = []
    aliases: dict[str, str] = {}
    for host in hosts:
        name, owner, *_ = host.split(".")
        shown = name if "." not in written and owner == namespace else host
        known.append(shown)
        aliases[f"{name}.{owner}"] = shown
        aliases.setdefault(name, shown)
    return one_of(written, known, aliases)


def selects(selector: Labels, labels: Labels) -> bool:
    """Whether a selector matches these labels. An empty selector matches nothing."""
    return bool(selector) and selector.items() <= labels.items()


def unmatched(selector: Labels, pods: list[Labels], whose: str = "") -> str | None:
    """Say why a selector matches none of these pods; None if it matches one.

    Args:
        selector: labels, all of which a pod must have.
        pods: the labels of each pod.
        whose: which pods these are, such as "of mocka" or "in namespace default".
    """
    if any(selects(selector, labels) for labels in pods):
        return None
    if not selector:
        return "must name at least one label"
    pod = f"pod {whose}" if whose else "pod"
    for name, value in selector.items():
        known = {labels[name] for labels in pods if name in labels}
        if not known:
            return f"no {pod} has the label {name}"
        if value not in known:
            return f"no {pod} has the label {name}={value}; {one_of(value, known)}"
    shown = ", ".join(f"{name}={value}" for name, value in selector.items())
    return f"no {pod} has all of the labels {shown}"
