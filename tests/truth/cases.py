"""The cases: a base of manifests, a small change of them, and requests."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]

CASES: Final = Path(__file__).parent / "cases"
K8S: Final = Path(__file__).parents[2] / "k8s"
GATEWAY_HOST: Final = "mock.local"

_GROUPS: Final = {
    "Deployment": "apps/v1",
    "Service": "v1",
    "Gateway": "networking.istio.io/v1",
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "ReferenceGrant": "gateway.networking.k8s.io/v1beta1",
}

# Short for the changes that most cases make.
_SHORT: Final[dict[str, tuple[str, Callable[[Any], Json]]]] = {
    # What takes requests at the gateway to v2; all others go to v1.
    "match": ("VirtualService mock", lambda match: {"http": _told_apart("mocka", match)}),
    "http": ("VirtualService mock", lambda http: {"http": http}),
    # The same for the calls of mockb.
    "match-calls": (
        "VirtualService mockb",
        lambda match: {"hosts": ["mockb"], "http": _told_apart("mockb", match)},
    ),
    "calls": ("VirtualService mockb", lambda http: {"hosts": ["mockb"], "http": http}),
    # Of the Gateway API.
    "rules": ("HTTPRoute mock", lambda rules: {"rules": rules}),
    "rules-of-calls": (
        "HTTPRoute mockb",
        lambda rules: {
            "parentRefs": [{"group": "", "kind": "Service", "name": "mockb"}],
            "rules": rules,
        },
    ),
}


def _told_apart(host: str, match: Any) -> list[Json]:
    v1, v2 = ({"destination": {"host": host, "subset": name}} for name in ("v1", "v2"))
    return [{"match": match, "route": [v2]}, {"route": [v1]}]


def _spelt_out(spec: Any) -> Any:
    """Write out destinations: `HOST[/SUBSET] [WEIGHT]` and, as a backend, `NAME [WEIGHT]`."""
    if isinstance(spec, list):
        return [_spelt_out(one) for one in spec]
    if not isinstance(spec, dict):
        return spec
    found = {name: _spelt_out(value) for name, value in spec.items()}
    for name, write in (("route", _destination), ("backendRefs", _backend)):
        if isinstance(found.get(name), list):
            found[name] = [write(one) if isinstance(one, str) else one for one in found[name]]
    return found


def _destination(text: str) -> Json:
    named, *weight = text.split()
    host, _, subset = named.partition("/")
    destination = {"host": host} | ({"subset": subset} if subset else {})
    return {"destination": destination} | ({"weight": int(weight[0])} if weight else {})


def _backend(text: str) -> Json:
    name, *weight = text.split()
    return {"name": name, "port": 8000} | ({"weight": int(weight[0])} if weight else {})


@dataclass(frozen=True)
class Request:
    """A request that a client sends to the gateway, or a pod to a Service.

    As a text: `[POD:] METHOD URL [HEADER=VALUE]... [+OPTION]...`. The URL is a path of the gateway
    or `http://HOST/PATH`; a pod calls `HOST:PORT/PATH`. The options:

    - `+chain`: hops call their upstreams.
    - `+sticky`: it counts only whether all requests get to the same pod.
    - `+alike`: it counts only which pods of one request are the same.
    - `+timed`: it counts whether it is delayed.
    - `+warm`: others come before, one at a time, that do not count.

    The headers `x-fail=APP[/VERSION]:STATUS` and `x-slow=APP[/VERSION]:SECONDS` tell hops what to
    do.
    """

    text: str
    caller: tuple[str, str] | None
    """Namespace and name of a pod; None: the gateway's client."""
    method: str
    host: str
    """With the port, where a pod calls."""
    target: str
    headers: tuple[tuple[str, str], ...]
    options: frozenset[str]

    @property
    def port(self) -> int:
        """The port that a pod calls."""
        return int(self.host.partition(":")[2] or 80)


@dataclass(frozen=True)
class Case:
    """Manifests as Kubernetes objects, and what is asked of them."""

    name: str
    objects: tuple[Json, ...]
    requests: tuple[Request, ...]
    refused: str | None
    """How docs/lanes.md names what local lanes refuse here; None: nothing."""
    noted: str | None = None
    """The same of what they leave out with a note, so that they answer otherwise."""


def read_cases(file: str = "*") -> list[Case]:
    """The cases of a file, or all of them in the order of their files."""
    bases = {path.stem: _objects(path) for path in sorted((CASES / "bases").glob("*.yaml"))}
    return [
        _case(written, bases)
        for path in sorted(CASES.glob(f"{file}.yaml"))
        for written in yaml.load(path.read_text(), yaml.CSafeLoader)
    ]


def _case(written: Json, bases: dict[str, list[Json]]) -> Case:
    known = {"case", "base", "folders", "change", "requests", "refused", "noted", *_SHORT}
    if unknown := written.keys() - known:
        raise ValueError(f"{written['case']}: {unknown}")
    if folders := written.get("folders"):
        files = [file for folder in folders for file in sorted((K8S / folder).glob("*.yaml"))]
        objects = [found for file in files for found in _objects(file)]
    else:
        objects = list(bases[written.get("base", "istio")])
    for short, (name, make) in _SHORT.items():
        if short in written:
            _change(objects, name, make(_spelt_out(written[short])))
    for name, spec in written.get("change", {}).items():
        _change(objects, name, _spelt_out(spec))
    requests = tuple(read_request(text) for text in written["requests"])
    told = written.get("refused"), written.get("noted")
    return Case(written["case"], tuple(objects), requests, *told)


def _objects(path: Path) -> list[Json]:
    found = [one for one in yaml.load_all(path.read_text(), yaml.CSafeLoader) if one]
    for one in found:
        one["metadata"].setdefault("namespace", "default")
    return found


def _change(objects: list[Json], name: str, spec: Json | None) -> None:
    """Change an object, named `KIND [NAMESPACE/]NAME`: some fields of its `spec`, or all of it.

    A field that is null is taken out, and so is an object that is null. `metadata` is not of
    `spec`.
    """
    kind, _, key = name.partition(" ")
    namespace, _, own = key.rpartition("/")
    namespace = namespace or "default"
    place = next(
        (
            number
            for number, one in enumerate(objects)
            if one["kind"] == kind
            and (one["metadata"]["namespace"], one["metadata"]["name"]) == (namespace, own)
        ),
        len(objects),
    )
    if spec is None:
        del objects[place]
        return
    if place == len(objects):
        metadata = {"name": own, "namespace": namespace}
        objects.append({"apiVersion": _GROUPS[kind], "kind": kind, "metadata": metadata})
    before = objects[place]
    changed = {
        name: value
        for name, value in (before.get("spec", {}) | spec).items()
        if value is not None and name != "metadata"
    }
    metadata = before["metadata"] | spec.get("metadata", {})
    objects[place] = before | {"metadata": metadata, "spec": changed}


def read_request(text: str) -> Request:
    """Read the text of a request."""
    caller = None
    first, *words = shlex.split(text)
    if first.endswith(":"):
        namespace, _, name = first[:-1].rpartition("/")
        caller = (namespace or "default", f"{name}-0")
        first, *words = words
    url, *words = words
    host, slash, path = url.removeprefix("http://").partition("/")
    headers = [word.partition("=") for word in words if not word.startswith("+")]
    return Request(
        text,
        caller,
        first,
        host or GATEWAY_HOST,
        f"{slash}{path}",
        tuple((name, value) for name, _, value in headers),
        frozenset(word for word in words if word.startswith("+")),
    )
