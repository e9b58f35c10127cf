"""One request through this hop: lane headers in -> upstream call -> own hop + upstream's chain."""

from __future__ import annotations

import secrets
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from mockservice import chain
from mockservice.chain import JSON_TYPE, TEXT_TYPE, Chain, Failure
from mockservice.propagation import HOPS_HEADER, Headers, trace_id_of, values_by_name
from mockservice.serve.upstream import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mockservice.serve import upstream
    from mockservice.serve.settings import Settings
    from mockservice.serve.upstream import Outcome

    # What follows the own hop in the chain.
    Rest = upstream.Answer | Failure | None

MAX_HOPS: Final = 32
"""Hops that a chain may have."""


class Request(NamedTuple):
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


class Answer(NamedTuple):
    """What a hop answers."""

    status: int
    content_type: str
    body: bytes
    failure: Failure | None = None
    """What this hop itself found to be wrong."""


# From here to the upstream and back there are calls and callbacks, no coroutines: a task for each
# request would cost a third of its time.


class Answers(Protocol):
    """What answers requests: a hop, or one with something around it."""

    def answer(self, request: Request, reply: Callable[[Answer], None]) -> None:
        """Call `reply` once, now or later. Never raises for what a client or an upstream does."""


class Done(Protocol):
    """Takes what a call came to: None behind the last hop. `fault`: what was done to it first."""

    def __call__(self, outcome: Outcome | None, fault: str | None = None, /) -> None: ...


class Calls(Protocol):
    """What calls the upstream: see `mockservice.serve.upstream.Upstream.get`."""

    def get(self, headers: Headers, timeout: float, done: Done) -> None:
        """GET the upstream with `headers` within `timeout` seconds, then call `done` once."""


class Render(Protocol):
    """Makes the answer of what follows the own hop."""

    def __call__(self, status: int, rest: Rest, fault: str | None = None, /) -> Answer: ...


def new_hop_id() -> str:
    """An id that tells this hop from all others: addresses may meet again in another cluster."""
    return secrets.token_hex(4)


class Hop:
    """The hop that `settings` describe, reached at `ip`.

    All processes of a hop have the same `hop_id`, so that a request which comes round meets it
    in any of them.
    """

    def __init__(
        self,
        settings: Settings,
        ip: str,
        upstream: Calls | None,
        *,
        hop_id: str,
        trace_id: Callable[[Headers], str | None] = trace_id_of,
    ) -> None:
        self._app = settings.app
        self._version = settings.version
        self._ip = ip
        # The further down the chain, the sooner a hop gives up, so that of all the hops that
        # wait for one that hangs the last answers first, and names it.
        self._timeouts = [
            settings.upstream_timeout * (1 - passed / (MAX_HOPS + 1)) for passed in range(MAX_HOPS)
        ]
        self._upstream = upstream
        self._trace_id = trace_id
        self._text = self._line(None)
        self._alone = Answer(200, TEXT_TYPE, self._text)
        self._id = hop_id.encode("ascii")

    def answer(self, request: Request, reply: Callable[[Answer], None]) -> None:
        """Reply with the chain from this hop on."""
        if self._id in request.passed:
            reply(self._refuse(508, "loop", "already in this chain", request.wants_json))
        elif len(request.passed) >= MAX_HOPS:
            reply(self._refuse(508, "loop", f"more than {MAX_HOPS} hops", request.wants_json))
        else:
            render: Render = self._json(request) if request.wants_json else self._plain
            if self._upstream is None:
                reply(render(200, None))
            else:
                self._call(self._upstream, request, render, reply)

    def refuse_request(self, status: int, reason: str, wants_json: bool) -> Answer:
        """The answer to something that is no request to this hop, or none that it takes."""
        return self._refuse(status, "rejected", reason, wants_json)

    def _refuse(self, status: int, kind: str, reason: str, wants_json: bool) -> Answer:
        failure = Failure(self._app, kind, reason)
        chain = Chain(error=failure)
        if wants_json:
            return Answer(status, JSON_TYPE, chain.to_json(), failure)
        return Answer(status, TEXT_TYPE, str(chain).encode(), failure)

    def _line(self, fault: str | None) -> bytes:
        return str(chain.Hop(self._app, self._version, self._ip, fault=fault)).encode()

    def _plain(self, status: int, rest: Rest, fault: str | None = None) -> Answer:
        if rest is None and fault is None:
            return self._alone
        line = self._text if fault is None else self._line(fault)
        if rest is None:
            return Answer(status, TEXT_TYPE, line)
        if isinstance(rest, Failure):
            return Answer(status, TEXT_TYPE, line + str(rest).encode(), rest)
        return Answer(status, TEXT_TYPE, line + rest.body)

    def _json(self, request: Request) -> Render:
        start = perf_counter()
        trace_id = self._trace_id(request.lane_headers)

        def render(status: int, rest: Rest, fault: str | None = None) -> Answer:
            hop = chain.Hop(
                self._app,
                self._version,
                self._ip,
                status,
                round((perf_counter() - start) * 1000, 3),
                _combined(request.lane_headers),
                trace_id,
                fault,
            )
            following = _chain(rest)
            whole = Chain((hop, *following.hops), following.error, following.upstream_body)
            failure = rest if isinstance(rest, Failure) else None
            return Answer(status, JSON_TYPE, whole.to_json(), failure)

        return render

    def _call(
        self,
        upstream: Calls,
        request: Request,
        render: Render,
        reply: Callable[[Answer], None],
    ) -> None:
        """Reply with what `render` makes of the status and of what the upstream's call came to."""
        passed = (*request.passed, self._id)
        headers = [
            (b"Accept", b"application/json" if request.wants_json else b"text/plain"),
            (HOPS_HEADER, b",".join(passed)),
            *request.lane_headers,
        ]

        def end(outcome: Outcome | None, fault: str | None = None) -> None:
            if outcome is None:
                reply(render(200, None, fault))
            elif isinstance(outcome, UpstreamError):
                reply(render(outcome.status, outcome.failure, fault))
            else:
                # 304 has no body (RFC 9110 section 15.4.5), and a chain is one.
                passed_on = outcome.status >= 300 and outcome.status != 304
                reply(render(outcome.status if passed_on else 200, outcome, fault))

        upstream.get(headers, self._timeouts[len(request.passed)], end)


def _chain(rest: Rest) -> Chain:
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
