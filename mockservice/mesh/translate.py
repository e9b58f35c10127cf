"""Manifests -> mesh: each kind goes to its reader, and what they found becomes one mesh."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mockservice.manifests.asm import LANE, LANE_GROUP
from mockservice.manifests.hosts import ALL_SIDECARS, completed, most_specific
from mockservice.manifests.inventory import kind_of
from mockservice.manifests.kinds import (
    API_GATEWAY,
    DEPLOYMENT,
    DESTINATION_RULE,
    GATEWAY,
    HTTP_ROUTE,
    ROLLOUT,
    SERVICE,
    VIRTUAL_SERVICE,
    WORKLOADS,
)
from mockservice.mesh import asm, gateway_api, istio
from mockservice.mesh.calls import Calls, call_tables
from mockservice.mesh.delegation import with_delegates
from mockservice.mesh.destination_rules import read_destination_rule
from mockservice.mesh.elsewhere import CONFIG_MAP, REFERENCE_GRANT, is_hook, look_at_kinds
from mockservice.mesh.errors import RefusedError
from mockservice.mesh.fields import Fields
from mockservice.mesh.gaps import look_at_routes, services_without_pods, without_pods
from mockservice.mesh.headless import headless_calls
from mockservice.mesh.hops import Casting, look_at_headers, matched_headers
from mockservice.mesh.model import Mesh, Pod
from mockservice.mesh.overrides import Overrides
from mockservice.mesh.services import read_service
from mockservice.mesh.shadowed import look_at_order
from mockservice.mesh.virtual_services import read_virtual_service, route_tables
from mockservice.mesh.workloads import read_workload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mockservice.manifests.documents import Document
    from mockservice.mesh.destination_rules import DestinationRule
    from mockservice.mesh.model import (
        LaneCarrier,
        LaneGroup,
        RouteTable,
        Service,
        Subset,
        TrafficPolicy,
    )
    from mockservice.mesh.services import Target
    from mockservice.mesh.virtual_services import VirtualService
    from mockservice.mesh.workloads import Workload

_READ: Final = (
    CONFIG_MAP,
    SERVICE,
    *WORKLOADS,
    GATEWAY,
    VIRTUAL_SERVICE,
    DESTINATION_RULE,
    API_GATEWAY,
    HTTP_ROUTE,
    REFERENCE_GRANT,
    LANE_GROUP,
    LANE,
)


def translate(documents: Sequence[Document], overrides: Overrides | None = None) -> Mesh:
    """Make a mesh of manifests that have passed their checks.

    Args:
        documents: the manifests.
        overrides: what the command line says beside them.

    Raises:
        RefusedError: they ask for something that local lanes do not carry out.
    """
    translation = _Translation(documents, overrides or Overrides())
    translation.read_workloads()
    translation.read_gateways()
    translation.read_destination_rules()
    translation.read_virtual_services()
    translation.read_http_routes()
    translation.read_lanes()
    return translation.mesh()


class _Translation:
    """What has been read so far, and every problem on the way."""

    def __init__(self, documents: Sequence[Document], overrides: Overrides) -> None:
        self._documents = documents
        self._overrides = overrides
        self._problems, self._notes = look_at_kinds(documents, _READ)
        self._pods: list[Pod] = []
        self._services: dict[str, Service] = {}
        self._ingress = istio.Ingress()
        self._subsets: list[Subset] = []
        self._policies: dict[str, TrafficPolicy] = {}
        self._gateway: list[RouteTable] = []
        self._calls: list[Calls] = []
        self._carriers: list[LaneCarrier] = []
        self._lane_groups: list[LaneGroup] = []
        self._http_routes: list[tuple[Document, str]] = []
        """HTTPRoutes, and the hosts whose calls they are the first to route."""

    def read_workloads(self) -> None:
        workloads = self._read_pods()
        targets: list[Target] = []
        for document, spec in self._specs(SERVICE):
            service, led = read_service(spec, document.name, document.namespace, workloads)
            self._services[service.host] = service
            targets += led
        self._casting = Casting(workloads, self._services, targets, self._overrides, self._problems)
        self._pods = self._casting.bare_pods()

    def _read_pods(self) -> list[Workload]:
        config_maps = {}
        for document, body in self._bodies(CONFIG_MAP):
            body.ignore("binaryData", "immutable")
            config_maps[document.namespace, document.name] = body.pairs("data")
        templates = self._templates()
        used = {id(template) for template in templates.values() if template is not None}
        workloads = []
        for kind in WORKLOADS:
            for document, body in self._bodies(kind):
                if id(document) in used:
                    # The Rollout that takes its pods from it makes them in its place.
                    body.ignore("spec")
                    continue
                template = self._template(templates.get(id(document)))
                workloads.append(read_workload(document, body, config_maps, template))
        return workloads

    def _templates(self) -> dict[int, Document | None]:
        """The Deployments that Rollouts take their pods from, by the id of the Rollout."""
        found: dict[int, Document | None] = {}
        for document, spec in self._specs(ROLLOUT):
            if "workloadRef" not in spec:
                continue
            with spec.object("workloadRef") as reference:
                reference.ignore("apiVersion")
                reference.text("kind", allowed=("Deployment",))
                name = reference.text("name")
            found[id(document)] = next(
                (
                    one
                    for one in self._documents
                    if kind_of(one) == DEPLOYMENT
                    and (one.name, one.namespace) == (name, document.namespace)
                ),
                None,
            )
            if found[id(document)] is None:
                spec.refuse("workloadRef", f"there is no Deployment {name!r}")
        return found

    def _template(self, document: Document | None) -> Fields | None:
        if document is None:
            return None
        template = document.body["spec"]["template"]
        return Fields(document, self._problems, self._notes, template, "spec.template")

    def read_gateways(self) -> None:
        for document, spec in self._specs(GATEWAY):
            istio.read_gateway(spec, document.name, document.namespace, self._ingress)
        for document, spec in self._specs(API_GATEWAY):
            gateway_api.read_gateway(spec, document.name, document.namespace, self._ingress)

    def read_destination_rules(self) -> None:
        rules = [
            (document, read_destination_rule(spec, document.namespace))
            for document, spec in self._specs(DESTINATION_RULE)
        ]
        for document, rule in rules:
            own = {document.namespace} if "." in rule.export_to else set()
            seen_from = own | set(rule.export_to)
            if rule.export_to and "*" not in seen_from and self._namespaces() - seen_from:
                reason = f"local lanes need a rule that {', '.join(self._namespaces())} see"
                rule.spec.refuse("exportTo", f"{list(rule.export_to)}: {reason}")
            if whole := completed(rule.host, self._services):
                text = f"{rule.host!r}: no effect, as Istio does not complete it to {whole}"
                rule.spec.note("host", text)
        for service in self._services.values():
            for document, rule in _rules_of(service, rules):
                self._use(document, rule, service)

    def _use(self, document: Document, rule: DestinationRule, service: Service) -> None:
        """Use a DestinationRule for a Service."""
        # Of two rules for one subset a cluster keeps one, and its lane leaks into the other.
        known = {one.name for one in self._subsets if one.host == service.host}
        self._problems.extend(
            f"{document.where('spec')}: duplicate subset {one.name!r} of {service.host}"
            for one in rule.subsets
            if one.name in known
        )
        self._subsets += [replace(one, host=service.host) for one in rule.subsets]
        if rule.policy is not None:
            self._policies.setdefault(service.host, rule.policy)

    def _namespaces(self) -> set[str]:
        """The namespaces that calls come from, that of the gateway included."""
        found = {pod.namespace for pod in self._pods}
        return found | ({istio.GATEWAY_NAMESPACE} if self._ingress.gateways else set())

    def read_virtual_services(self) -> None:
        read = [
            (document, read_virtual_service(spec, *_key(document)))
            for document, spec in self._specs(VIRTUAL_SERVICE)
        ]
        delegates = {(one.namespace, one.name): one for _, one in read if not one.hosts}
        used = {rule.delegate for _, one in read for rule in one.rules}
        for document, service in read:
            if service.hosts:
                self._use_routes(document, with_delegates(service, delegates))
            elif (service.namespace, service.name) not in used:
                service.spec.note("", "no effect: it has no hosts, and nothing delegates to it")

    def _use_routes(self, document: Document, service: VirtualService) -> None:
        at_gateway, calls = route_tables(service, self._ingress)
        if at_gateway and not service.is_seen_from(istio.GATEWAY_NAMESPACE):
            text = f"not seen from {istio.GATEWAY_NAMESPACE}, where the gateway is: no route there"
            service.spec.note("exportTo", text)
            at_gateway = []
        namespaces = {pod.namespace for pod in self._pods}
        seen_from = frozenset(one for one in namespaces if service.is_seen_from(one))
        self._gateway.extend(at_gateway)
        for table in calls:
            hosts = [host for host in table.hosts if self._is_called(service, host)]
            self._calls.append(Calls(document, replace(table, hosts=tuple(hosts)), seen_from))

    def _is_called(self, service: VirtualService, host: str) -> bool:
        """Whether calls between pods name a host of a VirtualService so."""
        if host in self._services or "*" in host:
            return True
        if whole := completed(host, self._services):
            text = f"{host!r}: no effect on calls, as Istio does not complete it to {whole}"
            service.spec.note("hosts", text)
        elif set(service.gateways) == {ALL_SIDECARS}:
            service.spec.refuse("hosts", f"there is no Service {host}")
        return False

    def read_http_routes(self) -> None:
        everything = gateway_api.HttpRoutes()
        grants = [
            grant
            for document, spec in self._specs(REFERENCE_GRANT)
            for grant in gateway_api.read_reference_grant(spec, document.namespace)
        ]
        for document, spec in sorted(self._specs(HTTP_ROUTE), key=lambda one: _age(one[0])):
            namespace = document.namespace
            found = gateway_api.read_http_route(spec, namespace, self._ingress, grants)
            # Of one Service, there may be several: they are put in order together.
            known = everything.between_pods
            new = [table for table in found.call_tables() if table.hosts[0] not in known]
            self._http_routes.extend((document, table.hosts[0]) for table in new)
            everything.add(found)
        self._gateway.extend(everything.gateway_tables())
        by_host = {host: document for document, host in reversed(self._http_routes)}
        for table in everything.call_tables():
            self._calls.append(Calls(by_host[table.hosts[0]], table))

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
            self._calls.extend(Calls(document, table) for table in calls)
            self._carriers.extend(asm.carriers(group))
            self._lane_groups.append(asm.declared(group, members))

    def mesh(self) -> Mesh:
        """All of it.

        Raises:
            RefusedError: there were problems.
        """
        calls = call_tables(self._calls, self._services, self._pods, self._problems, self._notes)
        gateways, port = self._ingress.gateways, self._ingress.port or 80
        for tables, called in ((self._gateway, port), (calls, None)):
            found = look_at_routes(tables, self._services, self._subsets, called)
            self._problems += found[0]
            self._notes += found[1]
            self._notes += look_at_order(tables)
        self._notes += look_at_headers(calls)
        calls, told = headless_calls(calls, self._services)
        self._notes += told
        pods = self._casting.pods(
            self._subsets,
            self._lane_groups,
            matched_headers(calls, self._carriers),
            self._gateway,
            calls,
        )
        if self._problems:
            raise RefusedError(list(dict.fromkeys(self._problems)))
        self._notes += services_without_pods(self._services, self._pods)
        self._notes += without_pods(self._subsets, self._services, self._pods)
        return Mesh(
            pods=tuple(pods),
            services=tuple(self._services.values()),
            subsets=tuple(self._subsets),
            policies=tuple(self._policies.items()),
            gateway=tuple(self._gateway),
            gateway_labels=gateways[0].labels if gateways else (),
            gateway_port=port,
            calls=tuple(calls),
            carriers=tuple(self._carriers),
            lane_groups=tuple(self._lane_groups),
            notes=tuple(dict.fromkeys([*self._casting.notes, *self._notes])),
        )

    def _bodies(self, kind: str) -> Iterator[tuple[Document, Fields]]:
        for document in self._documents:
            if kind_of(document) == kind and not is_hook(document):
                with Fields(document, self._problems, self._notes, document.body) as body:
                    body.ignore("apiVersion", "kind", "metadata", "status")
                    yield document, body

    def _specs(self, kind: str) -> Iterator[tuple[Document, Fields]]:
        return ((document, body.object("spec")) for document, body in self._bodies(kind))


def _key(document: Document) -> tuple[str, str]:
    return document.name, document.namespace


def _age(document: Document) -> tuple[bool, str, str, str]:
    """The order of HTTPRoutes that match the same: the oldest first, then by namespace and name.

    Source: Gateway API, `HTTPRouteRule.matches`.
    """
    created = str(document.body.get("metadata", {}).get("creationTimestamp") or "")
    # What is only to be created is the youngest.
    return not created, created, document.namespace, document.name


def _rules_of(
    service: Service, rules: list[tuple[Document, DestinationRule]]
) -> list[tuple[Document, DestinationRule]]:
    """The DestinationRules that count for a Service: those of its namespace before the root's.

    Those of a caller's namespace go before both, but for its calls only: they are refused.
    Source: Istio, "DestinationRule", "Destination Rule resolution".
    """
    fitting = [one for one in rules if most_specific(service.host, (one[1].host,))]
    places = (service.namespace, istio.GATEWAY_NAMESPACE)
    for document, rule in fitting:
        if document.namespace not in places and rule.host.startswith("*"):
            text = f"not used for {service.host} here, as that is in another namespace"
            rule.spec.note("host", f"{rule.host!r}: {text}")
        elif document.namespace not in places:
            where = " or ".join(dict.fromkeys(places))
            reason = f"local lanes need a rule that all callers use, in namespace {where}"
            rule.spec.refuse("host", f"{rule.host!r}: {reason}")
    for namespace in places:
        own = [one for one in fitting if one[0].namespace == namespace]
        if own:
            chosen = most_specific(service.host, (rule.host for _, rule in own))
            return [one for one in own if one[1].host == chosen]
    return []


def _labels(document: Document) -> dict[str, str]:
    labels: dict[str, str] = document.body.get("metadata", {}).get("labels") or {}
    return labels
