r"""The chain: the hops that answered, in call order, as text and as JSON.

Text: ``-> APP(version: VERSION, ip: IP)`` per hop, without separators and line end. A hop with an
injected delay is ``-> APP(version: VERSION, ip: IP, fault: delay 0.3 s)``. A hop with several
upstreams starts a tree, and shows the chain of each in brackets, in the order of its setting::

    chain     = *hop [ upstreams / failure / foreign ]
    upstreams = "[" chain 1*( "; " chain ) "]"      after at least one hop
    failure   = "-> " NAME "(" KIND ": " REASON ")"
    foreign   = the answer of an upstream that is not a hop

Inside brackets, a reason and a foreign answer have a ``\`` before each ``[``, ``]``, ``;`` and
``\``. One that starts with ``-> `` starts with ``\-> `` there.

JSON: ``{"hops": [...]}`` with one object per hop, ``error`` if a hop failed, and ``upstream_body``
if the last hop's upstream is not a hop. A hop with several upstreams is the last one in ``hops``,
and has ``upstreams``: the chain of each in the same form.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, NamedTuple

JSON_TYPE: Final = "application/json"
TEXT_TYPE: Final = "text/plain; charset=utf-8"

MAX_HOPS: Final = 32
"""Cap on the hops from the first one to the end of a branch."""
MAX_TREE: Final = 256
"""Cap on the hops of a tree."""

FAILURE_KINDS: Final = (
    "unreachable",
    "timeout",
    "invalid",
    "loop",
    "rejected",
    "injected",
    "canceled",
)
"""Why a hop fails: no connection or answer, no answer in time, an answer that is not valid HTTP, a
loop or too many hops, a request that the hop refuses, an injected abort, a client that has left."""

_KINDS: Final = "|".join(FAILURE_KINDS)
# Patterns are compiled when they are used, and kept by `re`: most hops never use them.
# Unambiguous, as settings allow no `(` in an app and no `, ip:` in a version. Names are bounded, so
# that reading hostile text takes time in proportion to its length.
_HOP: Final = r"-> ([^(]{1,253})\(version: (.{1,253}?), ip: ([^\s(),]+)(?:, fault: ([^()]+))?\)"
_FAILURE: Final = rf"-> ([^(]+)\(({_KINDS}): (.*)\)\Z"
# Inside brackets.
_BRANCH_FAILURE: Final = rf"-> ([^(]{{1,260}})\(({_KINDS}): ((?:[^\[\];\\\n]|\\.)*)\)(?=; |\])"
_BRANCH_BODY: Final = r"(?s:(?:[^\[\];\\]|\\.)*+)"
_SPECIAL: Final = r"[\[\];\\]|\A(?=-> )"
_ESCAPED: Final = r"(?s:\\(.))"
# Hops and nothing else, in UTF-8: a name may have four bytes a character.
_ONLY_HOPS: Final = (
    rb"(?>-> [^(]{1,1012}\(version: .{1,1012}?, ip: [^\s(),]+(?:, fault: [^()]+)?\))++"
)
_MAX_CACHED_BRANCH: Final = 1024
"""Cap on the text of a cached branch, in bytes."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop of a chain. Read from text, fields that only JSON has are None or empty."""

    app: str
    version: str
    ip: str
    status: int | None = None
    """The HTTP status of this hop's answer."""
    duration_ms: float | None = None
    """Milliseconds from this hop's request to its answer, the upstream call included."""
    lane_headers: dict[str, str] = field(default_factory=dict)
    """The headers that this hop received and carries on, by lower-case name. Values of a repeated
    header are joined by a comma (RFC 9110 section 5.3)."""
    trace_id: str | None = None
    fault: str | None = None
    """The injected delay, such as `delay 0.3 s`."""
    upstreams: tuple[Chain, ...] = ()
    """What follows at each upstream, if there are several. Then this is the last hop of its chain,
    which ends without error and foreign answer."""

    def __str__(self) -> str:
        fault = "" if self.fault is None else f", fault: {self.fault}"
        line = f"-> {self.app}(version: {self.version}, ip: {self.ip}{fault})"
        if not self.upstreams:
            return line
        return f"{line}[{'; '.join(chain.as_branch() for chain in self.upstreams)}]"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a chain ends early: the hop that failed, one of `FAILURE_KINDS`, and a reason."""

    hop: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"-> {self.hop}({self.kind}: {self.reason})"


class End(NamedTuple):
    """Where a branch ends: its last hop, and the failure or foreign answer after it, if any."""

    last: int | None
    """The place of the last hop in `Tree.hops`. None: no hop answered."""
    error: Failure | None
    upstream_body: str | None


class Tree(NamedTuple):
    """All hops of a chain and its branches, in call order."""

    hops: list[Hop]
    callers: list[int | None]
    """For each hop the place of the hop that called it. None for the first hop."""
    ends: list[End]
    """The end of each branch. A chain without branches has one."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The hops in call order, and the failure or foreign answer that ended the chain, if any."""

    hops: tuple[Hop, ...] = ()
    error: Failure | None = None
    upstream_body: str | None = None
    """The answer of an upstream that is not a hop."""

    def __str__(self) -> str:
        return "".join(map(str, self.hops)) + str(self.error or self.upstream_body or "")

    def as_branch(self) -> str:
        """The text form inside brackets."""
        line = "".join(map(str, self.hops))
        if self.error is not None:
            hop, kind, reason = self.error.hop, self.error.kind, self.error.reason
            return f"{line}-> {hop}({kind}: {_escaped(reason)})"
        return line + _escaped(self.upstream_body or "")

    def tree(self) -> Tree:
        """The hops of all branches."""
        tree = Tree([], [], [])
        self._grow(tree, None)
        return tree

    def _grow(self, tree: Tree, caller: int | None) -> None:
        for hop in self.hops:
            tree.hops.append(hop)
            tree.callers.append(caller)
            caller = len(tree.hops) - 1
        upstreams = self.hops[-1].upstreams if self.hops else ()
        for chain in upstreams:
            chain._grow(tree, caller)
        if not upstreams:
            tree.ends.append(End(caller, self.error, self.upstream_body))

    def to_json(self) -> bytes:
        """The JSON form, in UTF-8."""
        document = json.dumps(_document(self), ensure_ascii=False)
        return document.encode("utf-8", "backslashreplace")

    @classmethod
    def from_text(cls, text: str) -> Chain:
        """Read the text form. Text that is not from a hop becomes `upstream_body`."""
        hops, end = _read_hops(text, 0)
        if hops and text.startswith("[", end):
            try:
                upstreams, end_of_tree = _read_upstreams(text, end, len(hops))
            except _NotATreeError:
                pass
            else:
                if end_of_tree == len(text):
                    return cls(_with_upstreams(hops, upstreams))
        if match := re.compile(_FAILURE).match(text, end):
            return cls(tuple(hops), Failure(*match.groups()))
        return cls(tuple(hops), upstream_body=text[end:] or None)

    @classmethod
    def from_json(cls, body: bytes) -> Chain:
        """Read the JSON form.

        Raises:
            ValueError: the body is not JSON, or not the JSON of a chain.
        """
        try:
            return _read_document(json.loads(body, parse_constant=_refuse_constant))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError("not a chain") from error


def as_branch(text: bytes) -> bytes:
    """The text form that an upstream answered, as it stands inside brackets."""
    # Hops answer the same text again and again.
    return _known_branch(text) if len(text) <= _MAX_CACHED_BRANCH else _read_as_branch(text)


def _read_as_branch(text: bytes) -> bytes:
    if re.fullmatch(_ONLY_HOPS, text):
        return text
    chain = Chain.from_text(text.decode("utf-8", "surrogateescape"))
    return chain.as_branch().encode("utf-8", "surrogateescape")


_known_branch = lru_cache(maxsize=128)(_read_as_branch)


class _NotATreeError(Exception):
    """The text is not that of a tree."""


def _read_hops(text: str, start: int) -> tuple[list[Hop], int]:
    """The hops from `start` on, and where they end."""
    hops: list[Hop] = []
    pattern = re.compile(_HOP)
    while match := pattern.match(text, start):
        app, version, ip, fault = match.groups()
        hops.append(Hop(app, version, ip, fault=fault))
        start = match.end()
    return hops, start


def _read_upstreams(text: str, start: int, depth: int) -> tuple[list[Chain], int]:
    """The chains in the brackets at `start`, behind `depth` hops, and where the brackets end.

    Raises:
        _NotATreeError: the text does not fit the grammar, or has too many hops in a row.
    """
    chains: list[Chain] = []
    separator = "["
    while text.startswith(separator, start):
        chain, start = _read_branch(text, start + len(separator), depth)
        chains.append(chain)
        separator = "; "
    if len(chains) < 2 or not text.startswith("]", start):
        raise _NotATreeError
    return chains, start + 1


def _read_branch(text: str, start: int, depth: int) -> tuple[Chain, int]:
    hops, start = _read_hops(text, start)
    if hops and text.startswith("[", start):
        if depth + len(hops) >= MAX_HOPS:
            raise _NotATreeError
        upstreams, start = _read_upstreams(text, start, depth + len(hops))
        return Chain(_with_upstreams(hops, upstreams)), start
    if match := re.compile(_BRANCH_FAILURE).match(text, start):
        hop, kind, reason = match.groups()
        failure = Failure(hop, kind, re.sub(_ESCAPED, r"\1", reason))
        return Chain(tuple(hops), failure), match.end()
    body = re.compile(_BRANCH_BODY).match(text, start)
    if body is None:
        raise _NotATreeError
    foreign = re.sub(_ESCAPED, r"\1", body[0])
    return Chain(tuple(hops), upstream_body=foreign or None), body.end()


def _with_upstreams(hops: list[Hop], upstreams: list[Chain]) -> tuple[Hop, ...]:
    *before, last = hops
    return (*before, replace(last, upstreams=tuple(upstreams)))


def _escaped(text: str) -> str:
    return re.sub(_SPECIAL, r"\\\g<0>", text)


def _document(chain: Chain) -> dict[str, Any]:
    document: dict[str, Any] = {"hops": [_hop_document(hop) for hop in chain.hops]}
    if chain.error is not None:
        document["error"] = asdict(chain.error)
    if chain.upstream_body is not None:
        document["upstream_body"] = chain.upstream_body
    return document


def _hop_document(hop: Hop) -> dict[str, Any]:
    document: dict[str, Any] = {
        "app": hop.app,
        "version": hop.version,
        "ip": hop.ip,
        "status": hop.status,
        "duration_ms": hop.duration_ms,
        "lane_headers": hop.lane_headers,
        "trace_id": hop.trace_id,
        "fault": hop.fault,
    }
    if hop.upstreams:
        document["upstreams"] = [_document(chain) for chain in hop.upstreams]
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _read_document(document: dict[str, Any], depth: int = 0) -> Chain:
    """Read the JSON of a chain that follows `depth` hops."""
    documents = _optional(document["hops"], list)
    depth += len(documents)
    hops = [_read_hop(hop, depth) for hop in documents]
    error = document.get("error")
    chain = Chain(
        tuple(hops),
        None if error is None else Failure(*_texts(error, "hop", "kind", "reason")),
        _optional(document.get("upstream_body"), str),
    )
    branching = [hop for hop in hops if hop.upstreams]
    is_open = chain.error is None and chain.upstream_body is None
    if branching and not (branching == hops[-1:] and is_open):
        raise ValueError("something follows a hop of several upstreams")
    return chain


def _read_hop(document: dict[str, Any], depth: int) -> Hop:
    app, version, ip = _texts(document, "app", "version", "ip")
    headers = document.get("lane_headers", {})
    upstreams = _optional(document.get("upstreams"), list) or []
    if upstreams and (len(upstreams) < 2 or depth >= MAX_HOPS):
        raise ValueError("one upstream, or too many hops in a row")
    return Hop(
        app,
        version,
        ip,
        status=_optional(document.get("status"), int),
        duration_ms=_optional(document.get("duration_ms"), int, float),
        lane_headers=dict(zip(headers, _texts(headers, *headers), strict=True)),
        trace_id=_optional(document.get("trace_id"), str),
        fault=_optional(document.get("fault"), str),
        upstreams=tuple(_read_document(chain, depth) for chain in upstreams),
    )


def _texts(document: dict[str, Any], *names: str) -> list[str]:
    values = [document[name] for name in names]
    if not all(isinstance(value, str) for value in values):
        raise ValueError(f"not all text: {', '.join(names)}")
    return values


def _optional(value: Any, *types: type) -> Any:
    if value is None or type(value) in types:
        return value
    raise ValueError(f"neither null nor {types[0].__name__}")
