"""Reads Istio's VirtualService (networking.istio.io): its routes at gateways and between pods."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mockservice.manifests.hosts import ALL_SIDECARS, full_host
from mockservice.mesh.http_rules import full_gateway, read_rule
from mockservice.mesh.istio import GATEWAY_LABELS, GATEWAY_NAMESPACE
from mockservice.mesh.model import RouteTable, selects

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mockservice.mesh.fields import Fields
    from mockservice.mesh.http_rules import Condition, Rule
    from mockservice.mesh.istio import Ingress
    from mockservice.mesh.model import Match, Route

_ANYWHERE: Final = "*"


@dataclass(frozen=True, slots=True)
class VirtualService:
    """A VirtualService as its manifest has it."""

    name: str
    namespace: str
    spec: Fields
    hosts: tuple[str, ...]
    gateways: tuple[str, ...]
    """Full names, or all sidecars."""
    rules: tuple[Rule, ...]
    export_to: tuple[str, ...]

    def is_seen_from(self, namespace: str) -> bool:
        """Whether callers in a namespace use it. Source: Istio, `VirtualService.exportTo`."""
        own = namespace == self.namespace and "." in self.export_to
        return not self.export_to or own or not {_ANYWHERE, namespace}.isdisjoint(self.export_to)


def read_virtual_service(spec: Fields, name: str, namespace: str) -> VirtualService:
    """Read a VirtualService's `spec`."""
    with spec:
        hosts = spec.texts("hosts")
        if len(set(hosts)) < len(hosts):
            spec.refuse("hosts", "must name each host once")
        if not hosts and spec.texts("gateways"):
            spec.refuse("gateways", "must not be set without hosts")
        gateways = spec.texts("gateways") or (ALL_SIDECARS,)
        rules = spec.each("http", lambda route: read_rule(route, namespace))
        if not (rules or "tcp" in spec or "tls" in spec):
            spec.refuse("http", "must have at least one route")
        return VirtualService(
            name,
            namespace,
            spec,
            hosts,
            tuple(full_gateway(gateway, namespace) for gateway in gateways),
            rules,
            spec.texts("exportTo"),
        )


def route_tables(
    service: VirtualService, ingress: Ingress
) -> tuple[list[RouteTable], list[RouteTable]]:
    """The route tables for the gateway and for the calls between pods."""
    at_gateway, between_pods = [], []
    source = service.spec.document
    hosts = tuple(full_host(host, service.namespace) for host in service.hosts)
    named = {name for rule in service.rules for one in rule.conditions for name in one.gateways}
    for gateway in dict.fromkeys((*service.gateways, *sorted(named))):
        if gateway == ALL_SIDECARS:
            continue
        owner, _, name = gateway.rpartition("/")
        if ingress.hosts(name, owner, ()) is None:
            service.spec.refuse("gateways", f"there is no Gateway {gateway!r}")
    for gateway in service.gateways:
        if gateway == ALL_SIDECARS:
            if _ANYWHERE in hosts:
                service.spec.refuse("hosts", "'*': must not be any host for calls between pods")
            routes = tuple(_routes(service.rules, _between_pods))
            between_pods.append(RouteTable(hosts, routes, source))
            continue
        owner, _, name = gateway.rpartition("/")
        served = ingress.hosts(name, owner, hosts, service.namespace)
        if served == ():
            service.spec.refuse("hosts", f"Gateway {gateway!r} serves none of these hosts")
        elif served is not None:
            at = _Place(gateway, ingress.port)
            at_gateway.append(RouteTable(served, tuple(_routes(service.rules, at)), source))
    return at_gateway, between_pods


@dataclass(frozen=True, slots=True)
class _Place:
    """Where routes are used, and what of their conditions is left to be decided there.

    Where a condition names gateways, Istio does not look at its callers.
    Source: Istio, `HTTPMatchRequest.gateways`.
    """

    gateway: str
    port: int | None = None

    def __call__(self, condition: Condition) -> Match | None:
        """The match there; None: no request there can be so."""
        match = condition.match
        if condition.gateways:
            if self.gateway not in condition.gateways:
                return None
            match = replace(match, source_labels=(), source_namespace=None)
        if self.gateway == ALL_SIDECARS:
            return match
        if (
            selects(match.source_labels, GATEWAY_LABELS)
            and match.source_namespace in (None, GATEWAY_NAMESPACE)
            and match.port in (None, self.port)
        ):
            return replace(match, source_labels=(), source_namespace=None, port=None)
        return None


_between_pods: Final = _Place(ALL_SIDECARS)


def _routes(rules: Iterable[Rule], place: _Place) -> Iterator[Route]:
    for rule in rules:
        matches = tuple(match for one in rule.conditions if (match := place(one)) is not None)
        if matches or not rule.conditions:
            yield replace(rule.route, matches=matches)
