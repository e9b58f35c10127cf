"""Manifests -> mesh: each kind goes to its reader, and what they found becomes one mesh."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mockservice.manifests.asm import LANE, LANE_GROUP
from mockservice.manifests.inventory import kind_of
from mockservice.manifests.kinds import (
    API_GATEWAY,
    DEPLOYMENT,
    DESTINATION_RULE,
    GATEWAY,
    HTTP_ROUTE,
    SERVICE,
    VIRTUAL_SERVICE,
)
from mockservice.mesh import asm, gateway_api, istio, workloads
from mockservice.mesh.errors import RefusedError
from mockservice.mesh.fields import Fields
from mockservice.mesh.model import Mesh, Note

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mockservice.manifests.documents import Document
    from mockservice.mesh.model import (
        LaneCarrier,
        LaneGroup,
        OutlierDetection,
        Pod,
        Route,
        RouteTable,
        Service,
        Subset,
    )

CONFIG_MAP: Final = "ConfigMap"

_READ: Final = (
    CONFIG_MAP,
    SERVICE,
    DEPLOYMENT,
    GATEWAY,
    VIRTUAL_SERVICE,
    DESTINATION_RULE,
    API_GATEWAY,
    HTTP_ROUTE,
    LANE_GROUP,
    LANE,
)
# What a cluster needs and one machine does not.
_ELSEWHERE: Final = ("Namespace", "ServiceAccount", "policy/PodDisruptionBudget")


def translate(documents: Sequence[Document]) -> Mesh:
    """Make a mesh of manifests that have passed their checks.

    Raises:
        RefusedError: they ask for something that local lanes do not carry out.
    """
    translation = _Translation(documents)
    translation.read_workloads()
    translation.read_gateways()
    translation.read_destination_rules()
    translation.read_virtual_services()
    translation.read_http_routes()
    translation.read_lanes()
    return translation.mesh()


class _Translation:
    """What has been read so far, and every problem on the way."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self._problems = [
            f"{document.where('kind')}: not supported by local lanes"
            for document in documents
            if kind_of(document) not in _READ + _ELSEWHERE
        ]
        self._notes: list[Note] = []
        self._pods: list[Pod] = []
        self._services: dict[str, Service] = {}
        self._ingress = istio.Ingress()
        self._subsets: list[Subset] = []
        self._outliers: dict[str, OutlierDetection] = {}
        self._gateway: list[RouteTable] = []
        self._calls: list[RouteTable] = []
        self._carriers: list[LaneCarrier] = []
        self._lane_groups: list[LaneGroup] = []
        self._routes_of: list[tuple[Document, Route]] = []
        self._callers_table: dict[str, Document] = {}

    def read_workloads(self) -> None:
        config_maps = {}
        for document, body in self._bodies(CONFIG_MAP):
            config_maps[document.namespace, document.name] = body.pairs("data")
        loads = [
            workloads.read_deployment(spec, document.name, document.namespace, config_maps)
            for document, spec in self._specs(DEPLOYMENT)
        ]
        self._pods = [pod for load in loads for pod in load.pods]
        for document, spec in self._specs(SERVICE):
            service = workloads.read_service(spec, document.name, document.namespace, loads)
            self._services[service.host] = service

    def read_gateways(self) -> None:
        for document, spec in self._specs(GATEWAY):
            istio.read_gateway(spec, document.name, document.namespace, self._ingress)
        for document, spec in self._specs(API_GATEWAY):
            gateway_api.read_gateway(spec, document.name, document.namespace, self._ingress)

    def read_destination_rules(self) -> None:
        for document, spec in self._specs(DESTINATION_RULE):
            host, subsets, outliers = istio.read_destination_rule(spec, document.namespace)
            # Of two rules for one subset a cluster keeps one, and its lane leaks into the other.
            known = {(one.host, one.name) for one in self._subsets}
            self._problems.extend(
                f"{document.where('spec')}: duplicate subset {one.name!r} of {one.host}"
                for one in subsets
                if (one.host, one.name) in known
            )
            self._subsets.extend(subsets)
            if outliers is not None:
                self._outliers[host] = outliers

    def read_virtual_services(self) -> None:
        for document, spec in self._specs(VIRTUAL_SERVICE):
            at_gateway, calls = istio.read_virtual_service(spec, document.namespace, self._ingress)
            self._gateway.extend(at_gateway)
            self._calls.extend(calls)
            self._note(document, at_gateway, calls)

    def read_http_routes(self) -> None:
        everything = gateway_api.HttpRoutes()
        for document, spec in self._specs(HTTP_ROUTE):
            found = gateway_api.read_http_route(spec, document.namespace, self._ingress)
            # Of one Service, there may be several: they are put in order together.
            known = everything.between_pods
            new = [table for table in found.call_tables() if table.hosts[0] not in known]
            self._note(document, found.gateway_tables(), new)
            everything.add(found)
        self._gateway.extend(everything.gateway_tables())
        self._calls.extend(everything.call_tables())

    def read_lanes(self) -> None:
        lanes = [
            asm.read_lane(spec, document.name, _labels(document).get(asm.GROUP_LABEL, ""))
            for document, spec in self._specs(LANE)
        ]
        for document, spec in self._specs(LANE_GROUP):
            group = asm.read_lane_group(spec, document.name, self._ingress)
            members = [lane for lane in lanes if lane.group == group.name]
            entrances = asm.entrances(group, members, self._ingress)
            calls = asm.calls(group, members)
            self._subsets.extend(asm.subsets(group, members))
            self._gateway.extend(entrances)
            self._calls.extend(calls)
            self._carriers.extend(asm.carriers(group))
            self._lane_groups.append(asm.declared(group, members))
            self._note(document, entrances, calls)

    def mesh(self) -> Mesh:
        """All of it.

        Raises:
            RefusedError: there were problems.
        """
        missing = [
            f"{document.where('spec')}: there is no {name}"
            for document, route in self._routes_of
            for name in self._missing(route)
        ]
        if problems := self._problems + missing:
            raise RefusedError(list(dict.fromkeys(problems)))
        gateways = self._ingress.gateways
        calls = tuple(self._calls_of_http())
        return Mesh(
            pods=tuple(self._pods),
            services=tuple(self._services.values()),
            subsets=tuple(self._subsets),
            outliers=tuple(self._outliers.items()),
            gateway=tuple(self._gateway),
            gateway_labels=gateways[0].labels if gateways else (),
            calls=calls,
            carriers=tuple(self._carriers),
            lane_groups=tuple(self._lane_groups),
            notes=tuple(self._notes),
        )

    def _calls_of_http(self) -> Iterator[RouteTable]:
        """The tables of calls, without the hosts that have no port for HTTP."""
        for table in self._calls:
            hosts = []
            for host in table.hosts:
                service = self._services[host]
                if set(service.ports) - set(service.tcp_ports):
                    hosts.append(host)
                    continue
                ports = ", ".join(map(str, service.tcp_ports))
                rule = f"{table.source.kind} {table.source.name}" if table.source else "its rules"
                text = (
                    f"{rule}: no effect on calls of {service.name}: port {ports} of the Service is"
                    " declared not to carry HTTP, so calls are balanced over all pods"
                )
                self._notes.append(Note(text, table.source))
            if hosts:
                yield replace(table, hosts=tuple(hosts))

    def _note(
        self, document: Document, at_gateway: list[RouteTable], calls: list[RouteTable]
    ) -> None:
        """Remember where tables are from; each Service may have one for the calls to it."""
        for table in at_gateway + calls:
            self._routes_of.extend((document, route) for route in table.routes)
        for host in (host for table in calls for host in table.hosts):
            first = self._callers_table.setdefault(host, document)
            if host not in self._services:
                self._problems.append(f"{document.where('spec')}: there is no Service {host}")
            elif first is not document:
                reason = f"conflicts with {first.kind} {first.name}, which already routes {host}"
                self._problems.append(f"{document.where('spec')}: {reason}")

    def _missing(self, route: Route) -> Iterator[str]:
        """What the destinations of a route name and does not exist."""
        subsets = {(subset.host, subset.name) for subset in self._subsets}
        for destination in route.destinations:
            service = self._services.get(destination.host)
            if service is None:
                yield f"Service {destination.host}"
                continue
            if destination.port is None and len(service.ports) != 1:
                yield f"only port of Service {service.host}: its number must be given"
            elif destination.port is not None and destination.port not in service.ports:
                yield f"port {destination.port} of Service {service.host}"
            for subset in (destination.subset, destination.fallback):
                if subset is not None and (service.host, subset) not in subsets:
                    yield f"subset {subset} of Service {service.host}"

    def _bodies(self, kind: str) -> Iterator[tuple[Document, Fields]]:
        for document in self._documents:
            if kind_of(document) == kind:
                with Fields(document, self._problems, self._notes, document.body) as body:
                    body.ignore("apiVersion", "kind", "metadata", "status")
                    yield document, body

    def _specs(self, kind: str) -> Iterator[tuple[Document, Fields]]:
        return ((document, body.object("spec")) for document, body in self._bodies(kind))


def _labels(document: Document) -> dict[str, str]:
    labels: dict[str, str] = document.body.get("metadata", {}).get("labels") or {}
    return labels
