"""What is there: the documents by kind, and the names, pods and subsets that they speak of."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from mockservice.manifests import asm
from mockservice.manifests.hosts import full_host, host_of
from mockservice.manifests.kinds import DEPLOYMENT, DESTINATION_RULE, SERVICE
from mockservice.manifests.problems import one_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mockservice.manifests.documents import Document

Labels = dict[str, str]


def kind_of(document: Document) -> str:
    """Group and kind, such as `apps/Deployment`; a core kind has no group."""
    group, slash, _ = document.api_version.rpartition("/")
    return f"{group}{slash}{document.kind}"


class Inventory:
    """Manifests whose documents have the shapes of their kinds."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._by_kind: dict[str, list[Document]] = defaultdict(list)
        for document in documents:
            self._by_kind[kind_of(document)].append(document)
        self.services: dict[str, Document] = {
            host_of(service.name, service.namespace): service for service in self.of(SERVICE)
        }
        """By their full names."""
        self.subsets: dict[str, set[str]] = defaultdict(set)
        """The names that there are, by the full name of the Service."""
        for rule in self.of(DESTINATION_RULE):
            host = full_host(rule.body["spec"]["host"], rule.namespace)
            self.subsets[host] |= {
                subset["name"] for subset in rule.body["spec"].get("subsets") or []
            }
        for lane in self.of(asm.LANE):
            for host in self.hosts_of_lane(lane):
                self.subsets[host].add(lane.name)

    def of(self, kind: str) -> list[Document]:
        """The documents of a kind, such as `apps/Deployment`."""
        return self._by_kind.get(kind, [])

    def named(self, kind: str, name: str, namespace: str = "") -> Document | None:
        """The document of that kind and name."""
        for document in self.of(kind):
            if (document.name, document.namespace) == (name, namespace):
                return document
        return None

    def pods(self, namespace: str | None = None) -> list[Labels]:
        """The labels of the pods of each Deployment, of all namespaces or of one."""
        return [
            pod_labels(deployment)
            for deployment in self.of(DEPLOYMENT)
            if namespace in (None, deployment.namespace)
        ]

    def pods_of(self, host: str) -> list[Labels]:
        """The labels of the pods behind a Service, one for each of its Deployments."""
        service = self.services[host]
        selector = service.body["spec"].get("selector") or {}
        return [labels for labels in self.pods(service.namespace) if selects(selector, labels)]

    def no_port(self, host: str, number: int | None) -> str | None:
        """Why a port is none of a Service's; None if it is one."""
        service = self.services[host]
        ports = [port["port"] for port in service.body["spec"].get("ports") or []]
        if number in ports:
            return None
        shown = (
            "must be set" if number is None else f"{number} is no port of Service {service.name}"
        )
        return f"{shown}; {one_of('', map(str, ports))}"

    def lanes_of(self, group: Document) -> list[Document]:
        """The lanes of a lane group."""
        return [lane for lane in self.of(asm.LANE) if group_of(lane) == group.name]

    def hosts_of_lane(self, lane: Document) -> list[str]:
        """The Services that a lane holds: all of its group where it names none."""
        group = self.named(asm.LANE_GROUP, group_of(lane))
        if lane.body["spec"].get("services"):
            return hosts_of(lane)
        return hosts_of(group) if group else []


def pod_labels(deployment: Document) -> Labels:
    """The labels of a Deployment's pods."""
    return deployment.body["spec"]["template"]["metadata"].get("labels") or {}


def group_of(lane: Document) -> str:
    """The name of a lane's group; empty where it names none."""
    labels: Labels = lane.body["metadata"].get("labels") or {}
    return labels.get(asm.GROUP_LABEL, "")


def hosts_of(document: Document) -> list[str]:
    """The Services that a lane group or a lane names."""
    services = document.body["spec"].get("services") or []
    return [host_of(service["name"], service["namespace"]) for service in services]


def selects(selector: Labels, labels: Labels) -> bool:
    """Whether a selector asks for pods with these labels. An empty one asks for none."""
    return bool(selector) and selector.items() <= labels.items()


def miss(selector: Labels, pods: list[Labels], of: str = "") -> str | None:
    """Why a selector finds none of these pods; None if it finds one.

    Args:
        of: whose pods they are, for the user.
    """
    if any(selects(selector, labels) for labels in pods):
        return None
    whose = f" of {of}" if of else ""
    if not selector:
        return "must name at least one label"
    for name, value in selector.items():
        known = {labels[name] for labels in pods if name in labels}
        if value not in known:
            return f"{name}={value} is on no pod{whose}; {one_of(value, known)}"
    shown = ", ".join(f"{name}={value}" for name, value in selector.items())
    return f"no pod{whose} has all of {shown}"
