"""Delegates: VirtualServices whose routes take the place of a route of another one.

Source: Istio, `HTTPRoute.delegate`, and how its pilot merges both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mockservice.mesh.http_rules import Condition, Rule
from mockservice.mesh.model import Headers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mockservice.mesh.model import Route, Text
    from mockservice.mesh.virtual_services import VirtualService


def with_delegates(
    service: VirtualService, delegates: Mapping[tuple[str, str], VirtualService]
) -> VirtualService:
    """Put the routes of the VirtualServices that a service delegates to in their places.

    Args:
        service: it delegates to others, or not.
        delegates: those without hosts, by namespace and name.
    """
    return replace(service, rules=tuple(_delegated(service, delegates)))


def _delegated(
    service: VirtualService, delegates: Mapping[tuple[str, str], VirtualService]
) -> Iterator[Rule]:
    for number, rule in enumerate(service.rules):
        if rule.delegate is None:
            yield rule
            continue
        namespace, name = rule.delegate
        place = f"http[{number}].delegate"
        delegate = delegates.get(rule.delegate)
        if delegate is None:
            reason = f"there is no VirtualService {namespace}/{name} without hosts"
            service.spec.refuse(place, reason)
            continue
        for own in delegate.rules:
            if own.delegate is not None:
                service.spec.refuse(place, f"{namespace}/{name} must not delegate itself")
                continue
            conditions = _merged_conditions(rule.conditions, own.conditions)
            if conditions is None:
                source = own.route.source
                where = f"a route of {source}" if source else f"a route of {namespace}/{name}"
                service.spec.note(place, f"{where} is left out: it matches more than this one")
                continue
            yield Rule(_merged_route(rule.route, own.route), conditions)


def _merged_route(root: Route, own: Route) -> Route:
    """A delegate's route; what it leaves open is as at the root."""
    return replace(
        own,
        headers=root.headers if own.headers == Headers() else own.headers,
        rewrite_uri=own.rewrite_uri or root.rewrite_uri,
        rewrite_authority=own.rewrite_authority or root.rewrite_authority,
        rewrite_regex=own.rewrite_regex or root.rewrite_regex,
        timeout=root.timeout if own.timeout is None else own.timeout,
        retries=own.retries or root.retries,
        fault=own.fault or root.fault,
        mirrors=own.mirrors or root.mirrors,
        cors=own.cors or root.cors,
    )


def _merged_conditions(
    root: tuple[Condition, ...], own: tuple[Condition, ...]
) -> tuple[Condition, ...] | None:
    """What a request must be for both; None where the delegate asks for what the root excludes."""
    if not root or not own:
        return root or own
    found: list[Condition] = []
    for leaf in own:
        fitting = [_merged(one, leaf) for one in root if not _conflict(one, leaf)]
        if not fitting:
            return None
        found += fitting
    return tuple(found)


def _merged(root: Condition, leaf: Condition) -> Condition:
    one, other = root.match, leaf.match
    match = replace(
        other,
        uri=other.uri or one.uri,
        method=other.method or one.method,
        scheme=other.scheme or one.scheme,
        authority=other.authority or one.authority,
        headers=tuple((dict(one.headers) | dict(other.headers)).items()),
        without_headers=tuple((dict(one.without_headers) | dict(other.without_headers)).items()),
        query=tuple((dict(one.query) | dict(other.query)).items()),
        port=one.port if other.port is None else other.port,
        source_labels=tuple(sorted((dict(one.source_labels) | dict(other.source_labels)).items())),
        source_namespace=other.source_namespace or one.source_namespace,
    )
    return Condition(match, leaf.gateways or root.gateways)


def _conflict(root: Condition, leaf: Condition) -> bool:
    """Whether a delegate's condition is no part of the root's."""
    one, other = root.match, leaf.match
    texts = [
        (one.uri, other.uri),
        (one.scheme, other.scheme),
        (one.method, other.method),
        (one.authority, other.authority),
    ]
    for ours, theirs in (
        (one.headers, other.headers),
        (one.without_headers, other.without_headers),
        (one.query, other.query),
    ):
        texts += [(dict(ours).get(name), text) for name, text in theirs]
    labels = dict(one.source_labels)
    return (
        any(_excludes(wide, narrow) for wide, narrow in texts)
        or (one.port is not None and other.port not in (None, one.port))
        or (one.source_namespace is not None and other.source_namespace != one.source_namespace)
        or any(labels.get(name, value) != value for name, value in other.source_labels)
        or (bool(root.gateways) and not set(leaf.gateways) <= set(root.gateways))
    )


def _excludes(wide: Text | None, narrow: Text | None) -> bool:
    if wide is None or narrow is None or "present" in (wide.kind, narrow.kind):
        return False
    if wide.ignores_case != narrow.ignores_case or "regex" in (wide.kind, narrow.kind):
        return True
    if wide.kind == "exact":
        return narrow != wide
    return not narrow.value.startswith(wide.value)
