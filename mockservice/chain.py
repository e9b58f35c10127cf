"""The chain: the hops that answered, in call order, as text and as JSON.

Text: ``-> APP(version: VERSION, ip: IP)`` per hop, without separators and line end. A hop with an
injected delay is ``-> APP(version: VERSION, ip: IP, fault: delay 0.3 s)``.
JSON: ``{"hops": [...]}`` with one object per hop, ``error`` if a hop failed, and ``upstream_body``
if the last hop's upstream is not a hop.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any, Final

JSON_TYPE: Final = "application/json"
TEXT_TYPE: Final = "text/plain; charset=utf-8"

FAILURE_KINDS: Final = ("unreachable", "timeout", "invalid", "loop", "rejected", "injected")
"""Why a hop fails: no connection or answer, no answer in time, an answer that is not valid HTTP, a
loop in the chain, a request that the hop refuses, an injected abort."""

# Unambiguous, as settings allow no `(` in an app and no `, ip:` in a version.
_HOP = re.compile(r"-> ([^(]+)\(version: (.+?), ip: ([^\s(),]+)(?:, fault: ([^()]+))?\)")
_FAILURE = re.compile(r"-> ([^(]+)\((" + "|".join(FAILURE_KINDS) + r"): (.*)\)\Z")


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

    def __str__(self) -> str:
        fault = "" if self.fault is None else f", fault: {self.fault}"
        return f"-> {self.app}(version: {self.version}, ip: {self.ip}{fault})"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a chain ends early: the hop that failed, one of `FAILURE_KINDS`, and a reason."""

    hop: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"-> {self.hop}({self.kind}: {self.reason})"


@dataclass(frozen=True, slots=True)
class Chain:
    """The hops in call order, and the failure or foreign answer that ended the chain, if any."""

    hops: tuple[Hop, ...] = ()
    error: Failure | None = None
    upstream_body: str | None = None
    """The answer of an upstream that is not a hop."""

    def __str__(self) -> str:
        return "".join(map(str, self.hops)) + str(self.error or self.upstream_body or "")

    def to_json(self) -> bytes:
        """The JSON form, in UTF-8."""
        document: dict[str, Any] = {"hops": [asdict(hop) for hop in self.hops]}
        if self.error is not None:
            document["error"] = asdict(self.error)
        if self.upstream_body is not None:
            document["upstream_body"] = self.upstream_body
        return json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")

    @classmethod
    def from_text(cls, text: str) -> Chain:
        """Read the text form. Text that is not from a hop becomes `upstream_body`."""
        hops: list[Hop] = []
        end = 0
        while match := _HOP.match(text, end):
            app, version, ip, fault = match.groups()
            hops.append(Hop(app, version, ip, fault=fault))
            end = match.end()
        if match := _FAILURE.match(text, end):
            return cls(tuple(hops), Failure(*match.groups()))
        return cls(tuple(hops), upstream_body=text[end:] or None)

    @classmethod
    def from_json(cls, body: bytes) -> Chain:
        """Read the JSON form.

        Raises:
            ValueError: the body is not JSON, or not the JSON of a chain.
        """
        try:
            document = json.loads(body, parse_constant=_refuse_constant)
            error = document.get("error")
            return cls(
                tuple(_hop(hop) for hop in _optional(document["hops"], list)),
                None if error is None else Failure(*_texts(error, "hop", "kind", "reason")),
                _optional(document.get("upstream_body"), str),
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError("not a chain") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _hop(document: dict[str, Any]) -> Hop:
    app, version, ip = _texts(document, "app", "version", "ip")
    headers = document.get("lane_headers", {})
    return Hop(
        app,
        version,
        ip,
        status=_optional(document.get("status"), int),
        duration_ms=_optional(document.get("duration_ms"), int, float),
        lane_headers=dict(zip(headers, _texts(headers, *headers), strict=True)),
        trace_id=_optional(document.get("trace_id"), str),
        fault=_optional(document.get("fault"), str),
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
