"""The breakages: each changes one thing that lane rules say, as a slip of the hand does."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mockservice.probe.result import GATEWAY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Json = dict[str, Any]
Path = tuple[str | int, ...]

HEADER = "x-asm-prefer-tag"
WEIGHT_POINTS = 20


@dataclass(frozen=True)
class Mutant:
    """One breakage of a list of documents."""

    name: str
    documents: list[Json]
    hops: frozenset[str] = frozenset()
    """What the broken rule is about: a verdict has to name one of these."""
    is_weight: bool = False
    """Whether only a weight differs, which cases saved from the sound folder tell."""


def mutants(documents: list[Json]) -> Iterator[Mutant]:
    """All single breakages of lane rules in some documents."""
    for place, document in enumerate(documents):
        kind = document["kind"]
        named = f"{kind} {document['metadata']['name']}"
        hops = _hops(document)
        if kind in _ROUTES:
            rest = [*documents[:place], *documents[place + 1 :]]
            yield Mutant(f"{named}: dropped", rest, hops)
        for change, is_weight in _changes(document, documents):
            broken = deepcopy(documents)
            said = change(broken[place])
            yield Mutant(f"{named}: {said}", broken, hops, is_weight)


def _hops(document: Json) -> frozenset[str]:
    """The apps that a document is about: those whose name begins the name of a host in it."""
    kind, name, spec = document["kind"], document["metadata"]["name"], document["spec"]
    if kind in ("DestinationRule", "Service"):
        return frozenset({name.partition("-")[0]})
    if kind in ("VirtualService", "HTTPRoute"):
        hosts = [value for _, value in _found(spec, "host")]
        backends = [one["name"] for _, refs in _found(spec, "backendRefs") for one in refs]
        apps = {one.partition(".")[0].partition("-")[0] for one in hosts + backends}
        at_gateway = "gateways" in spec or any(
            one.get("kind") != "Service" for one in spec.get("parentRefs", [])
        )
        return frozenset({*apps, GATEWAY} if at_gateway else apps)
    return frozenset(one["name"] for one in spec.get("services", []))


_ROUTES = ("VirtualService", "DestinationRule", "HTTPRoute", "ASMSwimLane")


def _changes(document: Json, documents: list[Json]) -> Iterator[tuple[Any, bool]]:
    if document["kind"] in _KINDS:
        for change in _KINDS[document["kind"]](document["spec"], documents):
            yield change, False
    for path, weight in _found(document["spec"], "weight"):
        yield _weight(path, weight), True


def _virtual_service(spec: Json, documents: list[Json]) -> Iterator[Any]:
    subsets = _all(documents, "DestinationRule", "subsets", "name")
    values = _header_values(documents)
    for number, route in enumerate(spec["http"]):
        yield _drop("http", number)
        for place, match in enumerate(route.get("match", [])):
            yield _drop("http", number, "match", place)
            for name, text in match.get("headers", {}).items():
                yield _drop("http", number, "match", place, "headers", name)
                for value in values - {text["exact"]}:
                    yield _set(value, "http", number, "match", place, "headers", name, "exact")
            for name, value in match.get("sourceLabels", {}).items():
                yield _drop("http", number, "match", place, "sourceLabels", name)
                for other in _versions(documents) - {value}:
                    yield _set(other, "http", number, "match", place, "sourceLabels", name)
        for place, one in enumerate(route["route"]):
            at = ("http", number, "route", place, "destination", "subset")
            if "subset" in one["destination"]:
                yield _drop(*at)
                for other in subsets - {one["destination"]["subset"]}:
                    yield _set(other, *at)
            for name, value in one.get("headers", {}).get("request", {}).get("set", {}).items():
                set_at = ("http", number, "route", place, "headers", "request", "set", name)
                yield _drop(*set_at)
                for other in values - {value}:
                    yield _set(other, *set_at)


def _destination_rule(spec: Json, documents: list[Json]) -> Iterator[Any]:
    for number, subset in enumerate(spec["subsets"]):
        yield _drop("subsets", number)
        for name, value in subset["labels"].items():
            yield _drop("subsets", number, "labels", name)
            for other in _versions(documents) - {value}:
                yield _set(other, "subsets", number, "labels", name)


def _http_route(spec: Json, documents: list[Json]) -> Iterator[Any]:
    services = {one["metadata"]["name"] for one in documents if one["kind"] == "Service"}
    values = _header_values(documents)
    for number, rule in enumerate(spec["rules"]):
        yield _drop("rules", number)
        for place, match in enumerate(rule.get("matches", [])):
            yield _drop("rules", number, "matches", place)
            for header, field in enumerate(match.get("headers", [])):
                yield _drop("rules", number, "matches", place, "headers", header)
                for value in values - {field["value"]}:
                    at = ("rules", number, "matches", place, "headers", header, "value")
                    yield _set(value, *at)
        for place, backend in enumerate(rule["backendRefs"]):
            app = backend["name"].split("-")[0]
            for other in services - {backend["name"]}:
                if other.split("-")[0] == app:
                    yield _set(other, "rules", number, "backendRefs", place, "name")
            for which, one in enumerate(backend.get("filters", [])):
                yield _drop("rules", number, "backendRefs", place, "filters", which)
                for index, field in enumerate(one["requestHeaderModifier"]["set"]):
                    set_at = ("filters", which, "requestHeaderModifier", "set", index, "value")
                    for value in values - {field["value"]}:
                        yield _set(value, "rules", number, "backendRefs", place, *set_at)


def _service(spec: Json, documents: list[Json]) -> Iterator[Any]:
    if "version" in spec["selector"]:
        yield _drop("selector", "version")
        for other in _versions(documents) - {spec["selector"]["version"]}:
            yield _set(other, "selector", "version")


def _lane(spec: Json, documents: list[Json]) -> Iterator[Any]:
    names = {one["metadata"]["name"] for one in documents if one["kind"] == "ASMSwimLane"}
    for number, _ in enumerate(spec.get("services", [])):
        yield _drop("services", number)
    for name, value in spec["labelSelector"].items():
        for other in _versions(documents) - {value}:
            yield _set(other, "labelSelector", name)
    for number, rule in enumerate(spec.get("ingressRules", [])):
        yield _drop("ingressRules", number)
        for name, text in rule["match"].get("headers", {}).items():
            at = ("ingressRules", number, "match", "headers", name)
            yield _drop(*at)
            for other in names - {text["exact"]}:
                yield _set(other, *at, "exact")


def _lane_group(spec: Json, documents: list[Json]) -> Iterator[Any]:
    names = {one["metadata"]["name"] for one in documents if one["kind"] == "ASMSwimLane"}
    for number, _ in enumerate(spec["services"]):
        yield _drop("services", number)
    for key, value in spec.get("permissiveModeConfiguration", {}).items():
        others = names if key == "fallbackTarget" else {"x-other"}
        for other in others - {value}:
            yield _set(other, "permissiveModeConfiguration", key)


_KINDS: dict[str, Callable[[Json, list[Json]], Iterator[Any]]] = {
    "VirtualService": _virtual_service,
    "DestinationRule": _destination_rule,
    "HTTPRoute": _http_route,
    "Service": _service,
    "ASMSwimLane": _lane,
    "ASMSwimLaneGroup": _lane_group,
}


def _versions(documents: list[Json]) -> set[str]:
    return {
        one["spec"]["template"]["metadata"]["labels"]["version"]
        for one in documents
        if one["kind"] == "Deployment"
    }


def _header_values(documents: list[Json]) -> set[str]:
    """All values that rules ask of the lane header, or set in it."""
    found = set()
    for document in documents:
        if document["kind"] not in ("VirtualService", "HTTPRoute"):
            continue
        for _, value in _found(document["spec"], HEADER):
            found.add(value if isinstance(value, str) else value["exact"])
        for path, name in _found(document["spec"], "name"):
            if name == HEADER:
                found.add(_at(document["spec"], path[:-1])["value"])
    return found


def _all(documents: list[Json], kind: str, list_of: str, key: str) -> set[str]:
    return {
        one[key]
        for document in documents
        if document["kind"] == kind
        for one in document["spec"][list_of]
    }


def _found(tree: Any, key: str, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value that stands under a key."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == key:
                yield (*path, name), value
            yield from _found(value, key, (*path, name))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from _found(value, key, (*path, number))


def _at(tree: Any, path: Path) -> Any:
    for step in path:
        tree = tree[step]
    return tree


def _shown(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]


def _drop(*path: str | int) -> Callable[[Json], str]:
    def change(document: Json) -> str:
        parent = _at(document["spec"], path[:-1])
        del parent[path[-1]]
        # What has become empty goes, too: an empty list of matches is none.
        for length in range(len(path) - 1, 0, -1):
            if path[length - 1] in ("http", "rules", "services", "subsets", "ingressRules"):
                break
            if not _at(document["spec"], path[:length]):
                del _at(document["spec"], path[: length - 1])[path[length - 1]]
        return f"{_shown(path)} dropped"

    return change


def _set(value: Any, *path: str | int) -> Callable[[Json], str]:
    def change(document: Json) -> str:
        _at(document["spec"], path[:-1])[path[-1]] = value
        return f"{_shown(path)} turned to {value}"

    return change


def _weight(path: Path, weight: int) -> Callable[[Json], str]:
    """Move a weight, and another one of the same list the other way."""

    def change(document: Json) -> str:
        spec = document["spec"]
        points = WEIGHT_POINTS if weight + WEIGHT_POINTS <= 100 else -WEIGHT_POINTS
        siblings = [one for one, _ in _found(spec, "weight") if one[:-2] == path[:-2]]
        weights = [one for one in siblings if one != path]
        giver = max(weights, key=lambda one: _at(spec, one), default=None)
        _at(spec, path[:-1])["weight"] = weight + points
        if giver is not None:
            _at(spec, giver[:-1])["weight"] -= points
        return f"{_shown(path)} {weight} turned to {weight + points}"

    return change
