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


@dataclass(frozen=True, slots=True, eq=False)
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
    whole: dict[Calls, list[str]] = {}
    tables: list[RouteTable] = []
    for host, service in services.items():
        chosen = most_specific(host, (name for one in calls for name in one.table.hosts))
        rules = [one for one in calls if chosen in one.table.hosts]
        if rules and service.tcp_ports:
            notes += [_note(one, f"no effect on calls of {_not_http(service)}") for one in rules]
        if not rules or set(service.ports) == set(service.tcp_ports):
            continue
        used = _by_namespace(rules, namespaces, host, problems, notes)
        first = next(iter(used.values()), None)
        if first is None:
            continue
        is_everybodys = len(used) == len(namespaces) and len(set(used.values())) == 1
        if is_everybodys and not service.tcp_ports:
            whole.setdefault(first, []).append(host)
            continue
        routes = [Route((Destination(host),), (Match(port=port),)) for port in service.tcp_ports]
        routes += first.table.routes if is_everybodys else _routes(host, used, namespaces)
        tables.append(RouteTable((host,), tuple(routes), first.table.source))
    known = [replace(one.table, hosts=tuple(whole[one])) for one in calls if one in whole]
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
    conflicts: dict[tuple[Calls, Calls], None] = {}
    for namespace in sorted(namespaces):
        seen = [one for one in rules if one.seen_from is None or namespace in one.seen_from]
        if seen:
            found[namespace] = seen[0]
        conflicts |= dict.fromkeys((seen[0], other) for other in seen[1:])
    for first, other in conflicts:
        named = f"{first.document.kind} {first.document.name}"
        if {kind_of(first.document), kind_of(other.document)} == {VIRTUAL_SERVICE}:
            reason = f"{named} routes them; a cluster takes the older of the two, which may be this"
            notes.append(_note(other, f"no effect on calls of {host}: {reason}"))
        else:
            reason = f"conflicts with {named}, which already routes {host}"
            problems.append(f"{other.document.where('spec')}: {reason}")
    return found


def _routes(host: str, used: Mapping[str, Calls], namespaces: frozenset[str]) -> Iterator[Route]:
    """The routes of a Service whose rules do not count for the calls of all namespaces."""
    for calls in dict.fromkeys(used.values()):
        own = [name for name, one in used.items() if one is calls]
        for route in calls.table.routes:
            matches = tuple(
                replace(match, source_namespace=name)
                for name in own
                for match in route.matches or (Match(),)
                if match.source_namespace in (None, name)
            )
            if matches:
                yield replace(route, matches=matches)
    others = tuple(Match(source_namespace=name) for name in sorted(namespaces - used.keys()))
    if others:
        yield Route((Destination(host),), others)


def _not_http(service: Service) -> str:
    ports = ", ".join(map(str, service.tcp_ports))
    return (
        f"{service.name}: port {ports} of the Service is declared not to carry HTTP, so calls are"
        " balanced over all pods"
    )


def _note(calls: Calls, text: str) -> Note:
    document = calls.document
    return Note(f"{document.kind} {document.name}: {text}", calls.table.source)
