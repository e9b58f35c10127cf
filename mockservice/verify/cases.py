"""Cases: what a team wants to hold for good, as requests and the chains or shares they must get.

cases:
- name: testers reach the blue price service
request: {path: /shop, headers: {x-lane: blue}}
chain: front(base) -> cart(base) -> price(blue) -> stock(base)
- request: {path: /shop}
shares: {base: 85, blue: 15}

Several upstreams of a hop are in brackets: `web(v1) -> [orders(v1) -> stock(v1); users(v2)]`.
"""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mockservice.manifests.documents import ManifestError, Source, line_of, read_nodes
from mockservice.manifests.problems import Problem, problem
from mockservice.manifests.shapes import Integer, List, Map, Object, String, violations
from mockservice.mesh.errors import RefusedError
from mockservice.mesh.lane_map import Entrance
from mockservice.mesh.matching import Request, gateway_route
from mockservice.probe.arguments import header

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import yaml

    from mockservice.mesh.lane_map import LaneMap
    from mockservice.mesh.model import Pairs

MAX_CASES: Final = 200
OK: Final = 200
"""The status that a chain comes with where a case names no other."""
NO_ANSWER: Final = "(no answer)"
"""The chain of requests that got none; it has no status."""

_REQUEST: Final = Object(
    {"path": String(), "method": String(), "host": String(), "headers": Map()}, required=("path",)
)
_CASE: Final = Object(
    {
        "name": String(),
        "request": _REQUEST,
        "chain": String(),
        "status": Integer(100, 599),
        "shares": Map(Integer()),
    },
    required=("request",),
)
_SHAPE: Final = Object({"cases": List(_CASE, empty=False)}, required=("cases",))

_PATH: Final = re.compile(r"/[!-\"$-~]*")
_METHOD: Final = re.compile(r"(?!CONNECT$)[A-Z]+")
_HOST: Final = re.compile(r"[A-Za-z0-9_.-]+(:[0-9]{1,5})?")
_HOP: Final = re.compile(r"[^()]*\(.+\)")
# A tree is made of hops, in whose names a `\` is before each bracket, semicolon and `\`, and of
# signs, here with the spaces that they are drawn with.
_SIGNS: Final = {"->": " -> ", "[": "[", ";": "; ", "]": "]"}
# What may follow what; a chain begins as if it were in brackets.
_FOLLOWING: Final = {
    "[": ("hop",),
    ";": ("hop",),
    "hop": ("->", ";", "]"),
    "->": ("hop", "["),
    "]": (";", "]"),
}
_BRANCHES: Final = re.compile(r"->\s*\[")
_TOKEN: Final = re.compile(r"->|[\[\];]|(?:\\.|(?!->)[^\[\];\\])+")


@dataclass(frozen=True, slots=True)
class Case:
    """A request, and what it must get."""

    name: str
    path: str
    method: str
    host: str | None
    headers: Pairs
    source: Source
    chain: str | None = None
    """The chain that all requests must get; None: `shares` are given."""
    status: int | None = OK
    """The status that comes with it; None: no answer is to come."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """How often the lanes must come up, relative to each other."""

    def entrance(self, lane_map: LaneMap) -> Entrance:
        """The entrance that the request takes: the map's own, or else a new one."""
        for one in lane_map.entrances:
            same = (one.path, one.method, one.host) == (self.path, self.method, self.host)
            if same and sorted(one.headers) == sorted(self.headers):
                return one
        asked = dict(self.headers)
        host = None if self.host is None else self.host.partition(":")[0]
        route = gateway_route(lane_map.mesh, Request(self.path, self.method, asked, host=host))
        shares = () if route is None else lane_map.shares(route, asked)
        source = None if route is None else route.source
        return Entrance(self.host, self.path, self.method, self.headers, shares, source)


@dataclass(frozen=True, slots=True)
class _File:
    """The file of the cases, for messages that refer to it."""

    path: Path
    node: yaml.Node

    def where(self, place: str = "") -> str:
        """Where a field is, as a message to the user starts."""
        named = f"{self.path}:{line_of(self.node, place)}"
        return f"{named}: {place}" if place else named


def read_cases(path: Path) -> list[Case]:
    """Read the cases of a file.

    Raises:
        RefusedError: it cannot be read, or is not of this form.
    """
    try:
        documents = list(read_nodes(path))
    except ManifestError as error:
        raise RefusedError(str(error).splitlines()) from None
    if len(documents) != 1:
        raise RefusedError([f"{path}: must hold one YAML document, not {len(documents)}"])
    ((node, body),) = documents
    file = _File(path, node)
    problems = list(violations(file, _SHAPE, body)) or list(_problems(file, body["cases"]))
    if problems:
        raise RefusedError([str(one) for one in problems])
    return [_case(file, number, case) for number, case in enumerate(body["cases"])]


def answer(chain: str | None, status: int | None) -> str:
    """A chain in words, with its status where that is not 200."""
    return f"{chain}" if status in (None, OK) else f"{chain}: {status}"


def _problems(file: _File, cases: list[dict[str, Any]]) -> Iterator[Problem]:
    """What no shape tells."""
    if len(cases) > MAX_CASES:
        yield problem(file, "cases", f"{len(cases)} cases: must be at most {MAX_CASES}")
        return
    for number, case in enumerate(cases):
        place = f"cases[{number}]"
        yield from _request_problems(file, f"{place}.request", case["request"])
        yield from _owed_problems(file, place, case)


def _request_problems(file: _File, place: str, request: dict[str, Any]) -> Iterator[Problem]:
    for name, pattern, allowed in (
        ("path", _PATH, "a path such as /shop, in ASCII, without spaces and #"),
        ("method", _METHOD, "a method such as GET or POST"),
        ("host", _HOST, "a host name such as shop.example.com"),
    ):
        value = request.get(name)
        if value is not None and not pattern.fullmatch(value):
            yield problem(file, f"{place}.{name}", f"{value!r}: must be {allowed}")
    for name, value in (request.get("headers") or {}).items():
        at = f"{place}.headers.{name}"
        if name.lower() == "host":
            yield problem(file, at, "must be given as host of the request")
            continue
        try:
            header(f"{name}: {value}")
        except ArgumentTypeError as error:
            yield problem(file, at, str(error))


def _owed_problems(file: _File, place: str, case: dict[str, Any]) -> Iterator[Problem]:
    chain, shares, status = case.get("chain"), case.get("shares"), case.get("status")
    if (chain is None) == (shares is None):
        yield problem(file, place, "must have exactly one of chain, shares")
    elif shares is not None:
        if not sum(shares.values()):
            reason = "must be lanes of which one at least has a share of more than 0"
            yield problem(file, f"{place}.shares", reason)
        if status is not None:
            yield problem(file, f"{place}.status", "must be beside a chain")
    elif chain is not None and _drawn(chain) is None:
        reason = "must be hops such as front(base) -> cart(base)"
        if "[" in chain:
            reason += ", or a tree such as front(base) -> [cart(base); users(base)]"
        yield problem(file, f"{place}.chain", f"{chain!r}: {reason}")


def _case(file: _File, number: int, case: dict[str, Any]) -> Case:
    request = case["request"]
    chain = case.get("chain")
    drawn = None if chain is None else _drawn(chain)
    headers = (header(f"{name}: {value}") for name, value in (request.get("headers") or {}).items())
    asked = Entrance(
        request.get("host"),
        request["path"],
        request.get("method") or "GET",
        tuple(headers),
        (),
    )
    name = case.get("name") or str(asked)
    line = line_of(file.node, f"cases[{number}]")
    return Case(
        name,
        asked.path,
        asked.method,
        asked.host,
        asked.headers,
        Source("case", name, str(file.path), line),
        drawn,
        None if drawn == NO_ANSWER else case.get("status") or OK,
        case.get("shares") or {},
    )


def _drawn(chain: str) -> str | None:
    """A chain as the probe draws it, whatever spaces it is written with; None if it is not one."""
    if ";" in chain and _BRANCHES.search(chain):
        return _drawn_tree(chain)
    parts = [part.strip() for part in chain.split("->")]
    return " -> ".join(parts) if all(map(_HOP.fullmatch, parts)) else None


def _drawn_tree(chain: str) -> str | None:
    tokens = _TOKEN.findall(chain)
    if "".join(tokens) != chain:
        return None
    drawn = ""
    last = "["
    # Of each bracket that is open, how many.
    branches: list[int] = []
    for token in filter(None, map(str.strip, tokens)):
        sign = token if token in _SIGNS else "hop"
        if sign not in _FOLLOWING[last] or (sign == "hop" and not _HOP.fullmatch(token)):
            return None
        if sign == "[":
            branches.append(1)
        elif sign == ";" and branches:
            branches[-1] += 1
        elif sign in (";", "]") and (not branches or branches.pop() < 2):
            return None
        drawn += _SIGNS.get(sign, token)
        last = sign
    return drawn if last in ("hop", "]") and not branches else None
