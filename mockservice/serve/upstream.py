"""The upstream call: a GET over a pool of kept-alive connections.

The interface is `Upstream.get` and its outcome, an `Answer` or an `UpstreamError`. A call can be
canceled.
"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final, cast

import httptools

from mockservice.chain import Failure
from mockservice.serve import tls
from mockservice.serve.telemetry.metrics import CLIENT_CLOSED, Pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from mockservice.propagation import FieldLines
    from mockservice.serve.settings import UpstreamUrl
    from mockservice.serve.telemetry.metrics import Durations

MAX_BODY: Final = 1024 * 1024
"""Cap on the upstream's body, in bytes. A longer body is a failure."""
MAX_HEAD: Final = 64 * 1024
"""Cap on status line and headers, interim answers included, in bytes."""

# Cap on the bytes of an answer: with chunks of one byte, each byte of the body takes six.
_MAX_RECEIVED: Final = MAX_HEAD + 6 * MAX_BODY

# Caps on the answers' heads that are known, and on their size in bytes.
_MAX_HEADS: Final = 64
_MAX_KNOWN_HEAD: Final = 1024
_HEAD_END: Final = b"\r\n\r\n"

# Seconds until a connection is not used again: new pods of the upstream get their share of calls.
_MAX_AGE: Final = 60.0
# The event loop's clock counts milliseconds.
_CLOCK: Final = 0.001
# Cap on the idle connections in the pool.
_MAX_IDLE: Final = 256


# Not frozen, as that takes longer to make. mypyc compiles an `__init__` that is written down.
@dataclass(slots=True, init=False)
class Answer:
    """The upstream's answer: status, the value of `Content-Type`, and the body."""

    status: int
    content_type: bytes
    body: bytes

    def __init__(self, status: int, content_type: bytes, body: bytes) -> None:
        self.status = status
        self.content_type = content_type
        self.body = body


@dataclass(frozen=True, slots=True)
class UpstreamError:
    """A failed upstream call: the status to answer with, and the failure to add to the chain."""

    status: int
    failure: Failure


Outcome = Answer | UpstreamError
"""The outcome of an upstream call."""
Outcomes = list[Outcome]
"""The outcomes of the calls to several upstreams, in their order."""


def canceled(hop: str) -> UpstreamError:
    """The outcome of a call to `hop` that was canceled, as the client has left."""
    failure = Failure(hop, "canceled", "the client has closed the connection")
    return UpstreamError(CLIENT_CLOSED, failure)


class _Head:
    """The head of an answer, and what it says."""

    __slots__ = ("content_type", "length", "status", "text")

    def __init__(self, text: bytes, answer: Answer) -> None:
        self.text = text
        self.status = answer.status
        self.content_type = answer.content_type
        self.length = len(answer.body)


class _Heads:
    """A cache of the answers' heads, byte for byte, for answers that come in one piece.

    A hop sends the same head for a second, until `Date` changes. Parsing it takes a tenth of a
    request's CPU time.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, _Head] = {}
        self._latest: _Head | None = None

    def answer(self, data: bytes) -> Answer | None:
        """The answer that `data` is, if it is a known head and a body of its length."""
        head = self._latest
        if head is None or not data.startswith(head.text):
            start = data.find(_HEAD_END) + len(_HEAD_END)
            head = self._latest = self._known.get(data[:start])
        if head is None or len(data) - len(head.text) != head.length:
            return None
        return Answer(head.status, head.content_type, data[len(head.text) :])

    def learn(self, data: bytes, answer: Answer) -> None:
        """Keep the head of `data`, which is the whole `answer` and keeps its connection alive."""
        start = data.find(_HEAD_END) + len(_HEAD_END)
        # With an interim answer or with chunks, more bytes than the body follow the first head.
        if start <= _MAX_KNOWN_HEAD and len(data) - start == len(answer.body):
            if len(self._known) >= _MAX_HEADS:
                self._known.clear()
            self._known[data[:start]] = _Head(data[:start], answer)


class _Timeouts:
    """Ends the calls that take longer than `seconds`.

    One timer serves all of them, as one for each call takes more CPU time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        # In the order of their ends, as all have the same time.
        self._ends: dict[UpstreamCall, float] = {}
        self._is_set = False

    def add(self, call: UpstreamCall) -> None:
        """Call `call.too_late` when its time is over."""
        self._ends[call] = self._loop.time() + self._seconds
        if not self._is_set:
            self._is_set = True
            self._loop.call_later(self._seconds, self._check)

    def remove(self, call: UpstreamCall) -> None:
        """`call` has ended."""
        self._ends.pop(call, None)

    def _check(self) -> None:
        now = self._loop.time()
        while self._ends:
            call, end = next(iter(self._ends.items()))
            if end - now >= _CLOCK:
                self._loop.call_later(end - now, self._check)
                return
            del self._ends[call]
            call.too_late(self._seconds)
        self._is_set = False


class Upstream:
    """Calls one upstream. For use in the event loop that is running."""

    def __init__(
        self, url: UpstreamUrl, calls: Durations, proxy: UpstreamUrl | None = None
    ) -> None:
        self.url = url
        self.calls = calls
        self.loop = asyncio.get_running_loop()
        self.open_connections = 0
        self.heads = _Heads()
        self._timeouts: dict[float, _Timeouts] = {}
        self._peer = proxy or url
        self._tls = tls.client_context() if url.secure else None
        self._idle: list[_Connection] = []
        # Requests to a proxy use the absolute form (RFC 9112 section 3.2.2).
        target = f"http://{url.authority}{url.target}" if proxy else url.target
        self._head = (
            f"GET {target} HTTP/1.1\r\nHost: {url.authority}\r\nAccept-Encoding: identity"
        ).encode("ascii")

    def get(
        self,
        lines: FieldLines,
        timeout: float,
        done: Callable[[Outcome], None],
    ) -> UpstreamCall:
        """GET the URL with these headers, byte for byte. Redirects are not followed.

        Args:
            lines: valid field names and values.
            timeout: seconds for the whole call, connecting included: one of a few values.
            done: called once with the answer, or with an error: status 504 after the timeout, 499
                after a cancel, else 502.
        """
        request = b"\r\n".join([self._head, *lines, b"\r\n"])
        timeouts = self._timeouts.get(timeout)
        if timeouts is None:
            timeouts = self._timeouts[timeout] = _Timeouts(self.loop, timeout)
        call = UpstreamCall(self, request, timeouts, done)
        timeouts.add(call)
        call.start()
        return call

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def pool(self) -> Pool:
        """The number of open connections."""
        idle = sum(connection.reusable for connection in self._idle)
        return Pool(active=self.open_connections - idle, idle=idle)

    def take_idle(self) -> _Connection | None:
        """A kept-alive connection for one call, if there is one."""
        oldest = self.loop.time() - _MAX_AGE
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and connection.born > oldest:
                return connection
            connection.close()
        return None

    def give_back(self, connection: _Connection) -> None:
        """Keep `connection` for a later call if it is reusable, else close it."""
        if connection.reusable and len(self._idle) < _MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    async def connect(self) -> _Connection:
        """A new connection.

        Raises:
            OSError: connecting failed.
            UnicodeError: the host is not a valid name.
        """
        peer = self._peer
        addresses = await self.loop.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
        for attempt, (_, _, _, _, address) in enumerate(addresses, 1):
            try:
                _, connection = await self.loop.create_connection(
                    self._new_connection,
                    str(address[0]),
                    peer.port,
                    ssl=self._tls,
                    server_hostname=peer.host if self._tls else None,
                )
            except OSError:
                if attempt == len(addresses):
                    raise
            else:
                return cast("_Connection", connection)
        raise socket.gaierror(socket.EAI_NONAME, "no address")

    def _new_connection(self) -> asyncio.Protocol:
        # It is none by inheritance, which a compiled class cannot be.
        return cast("asyncio.Protocol", _Connection(self))


class _InvalidAnswerError(Exception):
    """The upstream's answer is not valid HTTP, or too large."""


class _StaleConnectionError(Exception):
    """A kept-alive connection was closed before the first byte of the answer."""


class UpstreamCall:
    """One upstream call, with a timeout, over a kept-alive connection or a new one."""

    __slots__ = (
        "_begun",
        "_connecting",
        "_connection",
        "_done",
        "_request",
        "_timeouts",
        "_upstream",
    )

    def __init__(
        self,
        upstream: Upstream,
        request: bytes,
        timeouts: _Timeouts,
        done: Callable[[Outcome], None],
    ) -> None:
        self._upstream = upstream
        self._request = request
        self._done = done
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._timeouts = timeouts
        self._begun = perf_counter()

    def start(self) -> None:
        """Send the request over a kept-alive connection if there is one, else over a new one."""
        self._connection = self._upstream.take_idle()
        if self._connection is None:
            self._connecting = self._upstream.loop.create_task(self._connect())
        else:
            self._connection.send(self._request, self._end)

    def cancel(self) -> None:
        """End the call now, which must not have ended: the client has left."""
        self._hang_up()
        self._end_early(canceled(self._upstream.url.hop))

    async def _connect(self) -> None:
        try:
            self._connection = await self._upstream.connect()
        except (OSError, UnicodeError) as error:
            self._fail("unreachable", _reason(error))
        else:
            self._connection.send(self._request, self._end)

    def _end(self, result: Answer | Exception) -> None:
        connection = cast("_Connection", self._connection)
        if isinstance(result, Answer):
            self._upstream.give_back(connection)
            self._timeouts.remove(self)
            self._upstream.calls.add(result.status, None, perf_counter() - self._begun)
            self._done(result)
            return
        connection.close()
        if isinstance(result, _StaleConnectionError):
            # The upstream closed the connection before it saw the request: retry
            # (RFC 9112 section 9.3.1).
            self.start()
        elif isinstance(result, _InvalidAnswerError):
            self._fail("invalid", str(result))
        else:
            self._fail("unreachable", _reason(result))

    def too_late(self, seconds: float) -> None:
        """End the call, as it has taken `seconds`."""
        self._hang_up()
        self._fail("timeout", f"no answer within {seconds:.3g} s", 504)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
        elif self._connecting is not None:
            self._connecting.cancel()

    def _fail(self, kind: str, reason: str, status: int = 502) -> None:
        self._end_early(UpstreamError(status, Failure(self._upstream.url.hop, kind, reason)))

    def _end_early(self, error: UpstreamError) -> None:
        self._timeouts.remove(self)
        self._upstream.calls.add(None, error.failure, perf_counter() - self._begun)
        self._done(error)


class _Connection:
    """One connection to the upstream, for one request at a time: an `asyncio.Protocol`."""

    __slots__ = (
        "_answer",
        "_body",
        "_content_type",
        "_end",
        "_framed",
        "_in_head",
        "_parser",
        "_received",
        "_transport",
        "_upstream",
        "_used",
        "born",
        "reusable",
    )

    _transport: asyncio.Transport

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.born = upstream.loop.time()
        self.reusable = True
        self._used = False
        self._end: Callable[[Answer | Exception], None] | None = None
        self._answer: Answer | None = None
        self._parser = httptools.HttpResponseParser(self)

    def send(self, request: bytes, end: Callable[[Answer | Exception], None]) -> None:
        """Send `request`, and call `end` once with the answer or an error.

        `end` is not called if this connection is closed by `close` before. The errors:
            _StaleConnectionError: a kept-alive connection was closed without an answer.
            _InvalidAnswerError: the answer is not valid HTTP, or too large.
            OSError: the connection failed.
        """
        self._received = 0
        self._answer = None
        self._start_message()
        self._end = end
        self._transport.write(request)

    def close(self) -> None:
        """Close the connection now."""
        self.reusable = False
        self._end = None
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._upstream.open_connections += 1

    def data_received(self, data: bytes) -> None:
        if self._end is None:
            self.close()
            return
        if not self._received and (known := self._upstream.heads.answer(data)):
            self._finish(known)
            return
        self._received += len(data)
        problem = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            problem = "a protocol switch that nobody asked for"
        except httptools.HttpParserError as error:
            # httptools wraps an exception of a callback.
            cause = error.__context__
            problem = str(cause) if isinstance(cause, _InvalidAnswerError) else "not HTTP"
        if problem is None and self._in_head and self._received > MAX_HEAD:
            problem = f"headers of more than {MAX_HEAD} bytes"
        elif problem is None and self._received > _MAX_RECEIVED:
            problem = f"more than {_MAX_RECEIVED} bytes for a body of {MAX_BODY}"
        if self._answer is not None:
            self.reusable = self.reusable and problem is None
            if self.reusable and self._received == len(data):
                self._upstream.heads.learn(data, self._answer)
            self._finish(self._answer)
        elif problem is not None:
            self._fail(_InvalidAnswerError(problem))

    def eof_received(self) -> None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.open_connections -= 1
        self.reusable = False
        if self._end is None:
            return
        if exc is None and self._received and not self._in_head and not self._framed:
            # Without a length and chunks, the body ends with the connection
            # (RFC 9112 section 6.3, item 8).
            self._finish(self._whole())
        elif not self._received and self._used:
            self._fail(_StaleConnectionError())
        elif exc is not None:
            self._fail(exc)
        elif self._received:
            self._fail(_InvalidAnswerError("an answer that ends too early"))
        else:
            self._fail(ConnectionAbortedError("closed without an answer"))

    def _fail(self, error: Exception) -> None:
        self.reusable = False
        self._finish(error)

    def _finish(self, result: Answer | Exception) -> None:
        self._used = True
        end, self._end = self._end, None
        if end is not None:
            end(result)

    def _whole(self) -> Answer:
        return Answer(self._parser.get_status_code(), self._content_type, bytes(self._body))

    def _start_message(self) -> None:
        self._in_head = True
        self._framed = False
        self._content_type = b""
        # A list of parts would take too much memory: each part may be one byte.
        self._body = bytearray()

    # Parser callbacks.

    def on_message_begin(self) -> None:
        if self._answer is not None:
            raise _InvalidAnswerError("an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        # Comparing lengths first is faster.
        match len(name):
            case 12:
                if name.lower() == b"content-type":
                    self._content_type = value
            case 14 | 17:
                if name.lower() in (b"content-length", b"transfer-encoding"):
                    self._framed = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        self.reusable = self._parser.should_keep_alive()
        status = self._parser.get_status_code()
        if not 100 <= status <= 599:
            # RFC 9110 section 15
            raise _InvalidAnswerError(f"a status of {status}")

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > MAX_BODY:
            raise _InvalidAnswerError(f"an answer of more than {MAX_BODY} bytes")

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            # An interim answer (RFC 9110 section 15.2): the real one follows.
            self._start_message()
        else:
            self._answer = self._whole()


def _reason(error: Exception) -> str:
    """Why the upstream cannot be reached, in a few words, without secrets and addresses."""
    if isinstance(error, socket.gaierror | UnicodeError):
        return "unknown host"
    if tls_reason := tls.reason(error):
        return tls_reason
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "connection reset"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or "connection failed"
