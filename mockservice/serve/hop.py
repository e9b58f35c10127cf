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

    # What follows this hop in the chain.
    Rest = upstream.Answer | Failure | None

MAX_HOPS: Final = 32
"""Cap on the hops of a chain."""


class Request(NamedTuple):
    """A request to a hop."""

    method: str
    target: str
    """Path and query as received."""
    headers: Headers
    """All headers as received."""
    lane_headers: Headers
    """The headers that go on to the upstream."""
    passed: tuple[bytes, ...] = ()
    """The ids of the hops that the chain has passed: `x-mock-hops`."""
    wants_json: bool = False
    client_ip: str | None = None


class Answer(NamedTuple):
    """A hop's answer."""

    status: int
    content_type: str
    body: bytes
    failure: Failure | None = None
    """The failure, if this hop found it. None if another hop did."""


# From here to the upstream and back there are callbacks instead of coroutines: a task per request
# would take a third of the request's CPU time.


class Answers(Protocol):
    """Answers requests: a hop, or a wrapper around one."""

    def answer(self, request: Request, reply: Callable[[Answer], None]) -> None:
        """Call `reply` once, now or later. No request and no upstream makes it raise."""


class Done(Protocol):
    """Takes the outcome of an upstream call, None without an upstream, and the injected delay."""

    def __call__(self, outcome: Outcome | None, fault: str | None = None, /) -> None: ...


class Calls(Protocol):
    """Calls the upstream (see `mockservice.serve.upstream.Upstream.get`)."""

    def get(self, headers: Headers, timeout: float, done: Done) -> None:
        """GET the upstream with `headers` within `timeout` seconds, and call `done` once."""


class Render(Protocol):
    """Makes the answer from what follows this hop in the chain."""

    def __call__(self, status: int, rest: Rest, fault: str | None = None, /) -> Answer: ...


def new_hop_id() -> str:
    """A random id. The address is not enough: another cluster may have the same one."""
    return secrets.token_hex(4)


class Hop:
    """The hop that `settings` describe, at address `ip`.

    All worker processes of a hop share one `hop_id`, so that each of them detects a loop.
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
        # Hops further down the chain have shorter timeouts: if an upstream hangs, the hop that
        # calls it answers first, and its answer names the upstream.
        self._timeouts = [
            settings.upstream_timeout * (1 - passed / (MAX_HOPS + 1)) for passed in range(MAX_HOPS)
        ]
        self._upstream = upstream
        self._trace_id = trace_id
        self._text = self._line(None)
        self._alone = Answer(200, TEXT_TYPE, self._text)
        self._id = hop_id.encode("ascii")

    def answer(self, request: Request, reply: Callable[[Answer], None]) -> None:
        """Reply with the chain that starts at this hop."""
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
        """The answer to a bad request."""
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
        """Call the upstream, and reply with what `render` makes of its outcome."""
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
                # A 304 has no body (RFC 9110 section 15.4.5), and the chain is the body.
                passed_on = outcome.status >= 300 and outcome.status != 304
                reply(render(outcome.status if passed_on else 200, outcome, fault))

        upstream.get(headers, self._timeouts[len(request.passed)], end)


def _chain(rest: Rest) -> Chain:
    """What follows this hop, for the JSON form."""
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
    """Headers by lower-case name; repeated headers are joined (RFC 9110 section 5.3)."""
    return {name: ", ".join(values) for name, values in values_by_name(headers).items()}
