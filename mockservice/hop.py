"""One request through this hop: lane headers in -> upstream call -> own hop + upstream's chain."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol

from mockservice import chain
from mockservice.chain import JSON_TYPE, TEXT_TYPE, Chain, Failure
from mockservice.propagation import HOPS_HEADER, Headers, trace_id_of, values_by_name
from mockservice.upstream import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mockservice import upstream
    from mockservice.settings import Settings

MAX_HOPS: Final = 32
"""Hops that a chain may have."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a hop is asked, whatever server took it."""

    method: str
    target: str
    """Path and query as they came."""
    headers: Headers
    """All header fields as they came."""
    lane_headers: Headers
    """Those of them that go on to the upstream."""
    passed: tuple[bytes, ...] = ()
    """The ids of the hops that the chain has passed."""
    wants_json: bool = False
    client_ip: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a hop answers."""

    status: int
    content_type: str
    body: bytes


class Answers(Protocol):
    """What answers requests: a hop, or one with something around it."""

    async def answer(self, request: Request) -> Answer:
        """Answer `request`. Never raises for what a client or an upstream does."""


class Calls(Protocol):
    """What calls the upstream: see `mockservice.upstream.Upstream.get`."""

    async def get(self, headers: Headers, timeout: float) -> upstream.Answer:
        """GET the upstream with `headers` within `timeout` seconds, or raise UpstreamError."""


class Hop:
    """The hop that `settings` describe, reached at `ip`."""

    def __init__(
        self,
        settings: Settings,
        ip: str,
        upstream: Calls | None,
        trace_id: Callable[[Headers], str | None] = trace_id_of,
    ) -> None:
        self._app = settings.app
        self._version = settings.version
        self._ip = ip
        self._timeout = settings.upstream_timeout
        self._upstream = upstream
        self._trace_id = trace_id
        self._text = str(chain.Hop(settings.app, settings.version, ip)).encode()
        self._id = secrets.token_hex(4).encode()

    async def answer(self, request: Request) -> Answer:
        """The chain from this hop on."""
        start = perf_counter()
        if self._id in request.passed:
            return self.refuse(508, "loop", "already in this chain", request.wants_json)
        if len(request.passed) >= MAX_HOPS:
            return self.refuse(508, "loop", f"more than {MAX_HOPS} hops", request.wants_json)
        status, rest = 200, None
        if self._upstream is not None:
            status, rest = await self._call(self._upstream, request)
        if not request.wants_json:
            return Answer(status, TEXT_TYPE, self._text + _text(rest))
        hop = chain.Hop(
            self._app,
            self._version,
            self._ip,
            status,
            round((perf_counter() - start) * 1000, 3),
            _combined(request.lane_headers),
            self._trace_id(request.lane_headers),
        )
        following = _chain(rest)
        whole = Chain((hop, *following.hops), following.error, following.upstream_body)
        return Answer(status, JSON_TYPE, whole.to_json())

    def refuse(self, status: int, kind: str, reason: str, wants_json: bool) -> Answer:
        """The answer of this hop to a request that it turns down."""
        chain = Chain(error=Failure(self._app, kind, reason))
        if wants_json:
            return Answer(status, JSON_TYPE, chain.to_json())
        return Answer(status, TEXT_TYPE, str(chain).encode())

    async def _call(
        self, upstream: Calls, request: Request
    ) -> tuple[int, upstream.Answer | Failure]:
        """The status to answer with, and what the upstream answered or why it did not."""
        passed = (*request.passed, self._id)
        headers = [
            (b"Accept", b"application/json" if request.wants_json else b"text/plain"),
            (HOPS_HEADER, b",".join(passed)),
            *request.lane_headers,
        ]
        # The further down the chain, the sooner a hop gives up, so that of all the hops that
        # wait for one that hangs the last answers first, and names it.
        timeout = self._timeout * (1 - (len(passed) - 1) / (MAX_HOPS + 1))
        try:
            answer = await upstream.get(headers, timeout)
        except UpstreamError as error:
            return error.status, error.failure
        # 304 has no body (RFC 9110 section 15.4.5), and a chain is one.
        passed_on = answer.status >= 300 and answer.status != 304
        return answer.status if passed_on else 200, answer


def _text(rest: upstream.Answer | Failure | None) -> bytes:
    """What follows the own hop in the text form."""
    if rest is None:
        return b""
    return str(rest).encode() if isinstance(rest, Failure) else rest.body


def _chain(rest: upstream.Answer | Failure | None) -> Chain:
    """What follows the own hop in the JSON form."""
    if rest is None:
        return Chain()
    if isinstance(rest, Failure):
        return Chain(error=rest)
    if rest.content_type.lower().startswith(JSON_TYPE.encode()):
        try:
            return Chain.from_json(rest.body)
        except ValueError:
            pass
    return Chain(upstream_body=rest.body.decode("utf-8", "replace"))


def _combined(headers: Headers) -> dict[str, str]:
    """Headers by lower-case name, repeated ones combined (RFC 9110 section 5.3)."""
    return {name: ", ".join(values) for name, values in values_by_name(headers).items()}
