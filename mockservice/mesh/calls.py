"""The calls between pods: which of the rules that name a Service count, and for whose calls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mockservice.manifests.hosts import most_specific
from mockservice.manifests.inventory import kind_of
from mockservice.manifests.kinds import VIRTUAL_SERVICE
from mockservice.mesh.model import Destination, Match, Note, Route, RouteTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mockservice.manifests.documents import Document
    from mockservice.mesh.model import Pod, Service


@dataclass(frozen=True, slots=True)
class Calls:
    """A route table, where it stands, and the namespaces whose pods use it."""

    document: Document
    table: RouteTable
    """Its hosts may start with a wildcard."""
    seen_from: frozenset[str] | None = None
    """None: all of them."""


def call_tables(
    calls: Sequence[Calls],
    services: Mapping[str, Service],
    pods: Iterable[Pod],
    problems: list[str],
    notes: list[Note],
) -> list[RouteTable]:
    """The route tables of Services; those without one spread over all their pods.

    Args:
        calls: all that routes calls, in the order of the manifests.
        services: by full host name.
        pods: the callers.
        problems: what is wrong is added here.
        notes: what has no effect is added here.
    """
    namespaces = frozenset(pod.namespace for pod in pods)
    whole: dict[int, list[str]] = {}
    tables: list[RouteTable] = []
    for host, service in services.items():
        patterns = [pattern for one in calls for pattern in one.table.hosts]
        chosen = most_specific(host, patterns)
        rules = [one for one in calls if chosen in one.table.hosts]
        if not rules:
            continue
        if not set(service.ports) - set(service.tcp_ports):
            notes += [_note(one, f"no effect on calls of {_not_http(service)}") for one in rules]
            continue
        by_namespace = _by_namespace(rules, namespaces, host, problems, notes)
        used = list(dict.fromkeys(id(one) for one in by_namespace.values()))
        is_everybodys = len(used) == 1 and len(by_namespace) == len(namespaces)
        if not used:
            continue
        if is_everybodys and not service.tcp_ports:
            whole.setdefault(used[0], []).append(host)
            continue
        if service.tcp_ports:
            notes += [_note(one, f"no effect on calls of {_not_http(service)}") for one in rules]
        routes = tuple(_routes(service, by_namespace, namespaces, is_everybodys))
        tables.append(RouteTable((host,), routes, rules[0].table.source))
    known = [replace(one.table, hosts=tuple(whole[id(one)])) for one in calls if id(one) in whole]
    return known + tables


def _by_namespace(
    rules: list[Calls],
    namespaces: frozenset[str],
    host: str,
    problems: list[str],
    notes: list[Note],
) -> dict[str, Calls]:
    """What routes the calls of each namespace: the first that can be seen from there."""
    found: dict[str, Calls] = {}
    conflicts: dict[tuple[int, int], tuple[Calls, Calls]] = {}
    for namespace in sorted(namespaces):
        seen = [one for one in rules if one.seen_from is None or namespace in one.seen_from]
        if seen:
            found[namespace] = seen[0]
        for other in seen[1:]:
            conflicts[id(seen[0]), id(other)] = (seen[0], other)
    for first, other in conflicts.values():
        named = f"{first.document.kind} {first.document.name}"
        if {kind_of(first.document), kind_of(other.document)} == {VIRTUAL_SERVICE}:
            reason = f"a cluster uses only the older of it and {named}, local lanes the first"
            notes.append(_note(other, f"no effect on calls of {host}: {reason}"))
        else:
            reason = f"conflicts with {named}, which already routes {host}"
            problems.append(f"{other.document.where('spec')}: {reason}")
    return found


def _routes(
    service: Service,
    by_namespace: Mapping[str, Calls],
    namespaces: frozenset[str],
    is_everybodys: bool,
) -> Iterator[Route]:
    """The routes of a Service whose rules do not count for all calls."""
    rest = (Destination(service.host),)
    if service.tcp_ports:
        yield Route(rest, tuple(Match(port=port) for port in service.tcp_ports))
    if is_everybodys:
        yield from next(iter(by_namespace.values())).table.routes
        return
    for rules in dict.fromkeys(map(id, by_namespace.values())):
        own = [name for name, one in by_namespace.items() if id(one) == rules]
        for route in by_namespace[own[0]].table.routes:
            matches = tuple(
                replace(match, source_namespace=name)
                for name in own
                for match in route.matches or (Match(),)
                if match.source_namespace in (None, name)
            )
            if matches:
                yield replace(route, matches=matches)
    others = tuple(
        Match(source_namespace=name) for name in sorted(namespaces - by_namespace.keys())
    )
    if others:
        yield Route(rest, others)


def _not_http(service: Service) -> str:
    ports = ", ".join(map(str, service.tcp_ports))
    return (
        f"{service.name}: port {ports} of the Service is declared not to carry HTTP, so calls are"
        " balanced over all pods"
    )


def _note(calls: Calls, text: str) -> Note:
    document = calls.document
    return Note(f"{document.kind} {document.name}: {text}", calls.table.source)
