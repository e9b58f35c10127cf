"""One request through this hop: lane headers in -> upstream call -> own hop + upstream's chain."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol

from mockservice import chain
from mockservice.chain import JSON_TYPE, MAX_HOPS, MAX_TREE, TEXT_TYPE, Chain, Failure
from mockservice.propagation import (
    HOPS_HEADER,
    REMAINING_HEADER,
    FieldLines,
    Headers,
    field_lines,
    trace_id_of,
    values_by_name,
)
from mockservice.serve import upstream

if TYPE_CHECKING:
    from collections.abc import Callable

    from mockservice.serve.settings import Settings
    from mockservice.serve.upstream import Outcome, Outcomes

    # What follows this hop at an upstream.
    Rest = upstream.Answer | Failure


TREE_TOO_LARGE: Final = f"more than {MAX_TREE} hops in the tree"
"""Why a hop is refused, or not called, that would be one too many."""
REMAINING_FIELD: Final = REMAINING_HEADER + b": "
_HOPS_FIELD: Final = HOPS_HEADER + b": "


# Neither tuples nor frozen, as both take longer to make, and named tuples longer to read. mypyc
# compiles an `__init__` that is written down, and not one that `dataclass` writes.


@dataclass(slots=True, init=False)
class Request:
    """A request to a hop."""

    method: str
    target: str
    """Path and query as received."""
    headers: Headers
    """All headers as received."""
    lane_headers: Headers
    """The headers that go on to the upstream."""
    passed: tuple[bytes, ...]
    """The ids of the hops that the chain has passed: `x-mock-hops`."""
    wants_json: bool
    client_ip: str | None
    remaining: int | None
    """How many hops the tree may have from this hop on: `x-mock-hops-remaining`. None: not told."""
    connection: str
    """The `Connection` header of the response, empty for none."""

    def __init__(
        self,
        method: str,
        target: str,
        headers: Headers,
        lane_headers: Headers,
        passed: tuple[bytes, ...],
        wants_json: bool,
        client_ip: str | None,
        remaining: int | None,
        connection: str,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.lane_headers = lane_headers
        self.passed = passed
        self.wants_json = wants_json
        self.client_ip = client_ip
        self.remaining = remaining
        self.connection = connection


@dataclass(slots=True, init=False)
class Answer:
    """A hop's answer."""

    status: int
    content_type: str
    body: bytes
    failure: Failure | None
    """The failure, if this hop found it. None if another hop did."""
    failed_upstreams: tuple[tuple[str, str], ...]
    """Of several upstreams those that failed: the name, and what to log about it."""

    def __init__(
        self,
        status: int,
        content_type: str,
        body: bytes,
        failure: Failure | None = None,
        failed_upstreams: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.status = status
        self.content_type = content_type
        self.body = body
        self.failure = failure
        self.failed_upstreams = failed_upstreams


# From here to the upstream and back there are callbacks instead of coroutines: a task per request
# would take a third of the request's CPU time.


class Answers(Protocol):
    """Answers requests: a hop, or a wrapper around one."""

    def answer(self, request: Request, reply: Callable[[Answer], None]) -> Cancelable | None:
        """Call `reply` once, now or later. No request and no upstream makes it raise.

        Returns:
            The work in progress, for a client that leaves before the reply.
        """


class Cancelable(Protocol):
    """Work in progress. Once it is canceled, its callback is called soon, with a failure."""

    def cancel(self) -> None:
        """Stop the work. Not for work that has ended."""


class Done(Protocol):
    """Takes the outcome of an upstream call and the injected delay.

    The outcome is None without an upstream, and a list with several.
    """

    def __call__(self, outcome: Outcome | Outcomes | None, fault: str | None = None, /) -> None: ...


class Calls(Protocol):
    """Calls the upstream (see `mockservice.serve.upstream.Upstream.get`), or several."""

    def get(self, lines: FieldLines, timeout: float, done: Done) -> Cancelable | None:
        """GET the upstream with these headers within `timeout` seconds, and call `done` once.

        If there are several upstreams, `x-mock-hops-remaining` is the last of the headers.
        """


class Render(Protocol):
    """Makes the answer from what follows this hop: nothing, or something at each upstream."""

    def __call__(
        self, status: int, rest: Rest | list[Rest] | None, fault: str | None = None, /
    ) -> Answer: ...


def new_hop_id() -> str:
    """A random id. The address is not enough: another cluster may have the same one."""
    return os.urandom(4).hex()


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
        self._names = [url.hop for url in settings.upstream_urls]
        self._trace_id = trace_id
        self._text = self._line(None)
        self._alone = Answer(200, TEXT_TYPE, self._text)
        self._id = hop_id.encode("ascii")

    def answer(self, request: Request, reply: Callable[[Answer], None]) -> Cancelable | None:
        """Reply with the chain that starts at this hop."""
        if self._id in request.passed:
            reply(self._refuse(508, "loop", "already in this chain", request.wants_json))
        elif len(request.passed) >= MAX_HOPS:
            reply(self._refuse(508, "loop", f"more than {MAX_HOPS} hops", request.wants_json))
        elif request.remaining == 0:
            reply(self._refuse(508, "loop", TREE_TOO_LARGE, request.wants_json))
        else:
            render: Render = self._json(request) if request.wants_json else self._plain
            if self._upstream is None:
                reply(render(200, None))
            else:
                return self._call(self._upstream, request, render, reply)
        return None

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

    def _plain(
        self, status: int, rest: Rest | list[Rest] | None, fault: str | None = None
    ) -> Answer:
        if rest is None and fault is None:
            return self._alone
        line = self._text if fault is None else self._line(fault)
        if rest is None:
            return Answer(status, TEXT_TYPE, line)
        if isinstance(rest, Failure):
            return Answer(status, TEXT_TYPE, line + str(rest).encode(), rest)
        if isinstance(rest, list):
            branches = b"; ".join(map(_text_of_branch, rest))
            return Answer(status, TEXT_TYPE, b"%b[%b]" % (line, branches))
        return Answer(status, TEXT_TYPE, line + rest.body)

    def _json(self, request: Request) -> Render:
        start = perf_counter()
        trace_id = self._trace_id(request.lane_headers)

        def render(status: int, rest: Rest | list[Rest] | None, fault: str | None = None) -> Answer:
            hop = chain.Hop(
                self._app,
                self._version,
                self._ip,
                status,
                round((perf_counter() - start) * 1000, 3),
                _combined(request.lane_headers),
                trace_id,
                fault,
                tuple(map(_chain, rest)) if isinstance(rest, list) else (),
            )
            following = Chain() if rest is None or isinstance(rest, list) else _chain(rest)
            whole = Chain((hop, *following.hops), following.error, following.upstream_body)
            failure = rest if isinstance(rest, Failure) else None
            return Answer(status, JSON_TYPE, whole.to_json(), failure)

        return render

    def _call(
        self,
        calls: Calls,
        request: Request,
        render: Render,
        reply: Callable[[Answer], None],
    ) -> Cancelable | None:
        """Call the upstream, and reply with what `render` makes of its outcome."""
        passed = (*request.passed, self._id)
        lines = [
            b"Accept: application/json" if request.wants_json else b"Accept: text/plain",
            _HOPS_FIELD + b",".join(passed),
            *field_lines(request.lane_headers),
        ]
        if request.remaining is not None or len(self._names) > 1:
            # A chain is bounded by `passed` alone.
            remaining = MAX_TREE if request.remaining is None else request.remaining
            lines.append(REMAINING_FIELD + b"%d" % (remaining - 1))

        def end(outcome: Outcome | Outcomes | None, fault: str | None = None) -> None:
            if isinstance(outcome, upstream.Answer):
                reply(render(_status(outcome), outcome, fault))
            elif outcome is None:
                reply(render(200, None, fault))
            elif isinstance(outcome, upstream.UpstreamError):
                reply(render(outcome.status, outcome.failure, fault))
            else:
                reply(self._join(outcome, render, fault))

        return calls.get(lines, self._timeouts[len(request.passed)], end)

    def _join(self, outcomes: Outcomes, render: Render, fault: str | None) -> Answer:
        """The answer from the outcomes at several upstreams: the first that failed decides."""
        status = 200
        failure = None
        failed: list[tuple[str, str]] = []
        rest: list[Rest] = []
        for name, outcome in zip(self._names, outcomes, strict=True):
            if isinstance(outcome, upstream.Answer):
                rest.append(outcome)
                own, found = _status(outcome), None
                if own == 200:
                    continue
                reason = f"answered {outcome.status}"
            else:
                found = outcome.failure
                rest.append(found)
                own, reason = outcome.status, f"{found.kind}: {found.reason}"
            if not failed:
                status, failure = own, found
            failed.append((name, reason))
        answer = render(status, rest, fault)
        return (
            replace(answer, failure=failure, failed_upstreams=tuple(failed)) if failed else answer
        )


def _status(answer: upstream.Answer) -> int:
    """The status of a hop whose upstream gave this answer."""
    # A 304 has no body (RFC 9110 section 15.4.5), and the chain is the body.
    passed_on = answer.status >= 300 and answer.status != 304
    return answer.status if passed_on else 200


def _text_of_branch(rest: Rest) -> bytes:
    """What follows this hop at one of several upstreams, for the text form."""
    if isinstance(rest, Failure):
        return Chain(error=rest).as_branch().encode()
    return chain.as_branch(rest.body)


def _chain(rest: Rest) -> Chain:
    """What follows this hop at an upstream, for the JSON form."""
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
