"""One client's connection: HTTP/1.1 pipeline, flow control and timeouts (RFC 9112).

llhttp parses the bytes; what it leaves unchecked is checked here. A request is answered once its
body has been read. The answers go out in the order of the requests.
"""

from __future__ import annotations

import re
from collections import deque
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, cast

import httptools

from mockservice.chain import MAX_TREE
from mockservice.propagation import (
    ANY_LIST,
    HOPS_HEADER,
    LISTS,
    MAX_LANE_HEADERS,
    MAX_LANE_SIZE,
    REMAINING_HEADER,
    Headers,
    within_limits,
)
from mockservice.serve.hop import Answer, Request

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from mockservice.serve.hop import Answer, Cancelable

MAX_LINE: Final = 16 * 1024
"""Cap on the request target, and on each header, in bytes. `baggage` alone may have 8192 (W3C
Baggage section 3.3.2)."""
MAX_HEADERS: Final = 128
"""Cap on the number of headers."""
MAX_HEAD: Final = 64 * 1024
"""Cap on the request head, and on the trailers, in bytes."""
MAX_BODY: Final = 1024 * 1024
"""Cap on the request body, in bytes. The body is read and discarded."""
REQUEST_TIMEOUT: Final = 10.0
"""Seconds from the first byte of a request to its last."""
IDLE_TIMEOUT: Final = 75.0
"""Seconds until a connection is closed that sends no request, or does not read its answers."""

# Seconds for the client to close its side after the last answer. Closing at once could send a
# reset that discards the answer (RFC 9112 section 9.6).
_LINGER: Final = 2.0
# Seconds for the answers to a client that has closed its side. It may have left for good, so calls
# that take longer are canceled.
_HALF_CLOSED: Final = 1.0
# Bytes parsed in one turn of the event loop. Bounds the length of the pipeline, and the delay that
# one connection causes the others.
_PARSE_SIZE: Final = 4 * 1024

# RFC 3986 section 3.2.2, with a port. Empty if the target has no authority.
_HOST_VALUE: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
_ABSOLUTE_FORM: Final = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)
_SPACE: Final = 0x20
_EMPTY_LINE: Final = b"\r\n\r\n"
# In capitals, with the dash of some registered ones. Empty if it is another.
_METHOD: Final = re.compile(rb"(?:[A-Z][A-Z_-]*)?")
# Cap on a method that is not known, in bytes. Registered ones are shorter.
_MAX_METHOD: Final = 32
_NOT_HTTP: Final = "not HTTP"
_VERSIONS: Final = "neither HTTP/1.1 nor HTTP/1.0"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

# Caps on `x-mock-hops`: the number of ids that are read (a chain has fewer), and their bytes.
_MAX_HOP_IDS: Final = 64
_MAX_HOP_IDS_SIZE: Final = 1024
_REMAINING_VALUE: Final = re.compile(rb"[0-9]{1,9}")

# How a request header is treated.
_IGNORED: Final = 0
_CARRIED: Final = 1
_LIST: Final = 2
"""Carried, too; the treatments that follow are not."""
_HOPS: Final = 3
_REMAINING: Final = 4
_ACCEPT: Final = 5
_HOST: Final = 6
_LENGTH: Final = 7
_ENCODING: Final = 8
_EXPECT: Final = 9
_CONNECTION: Final = 10
_TREATMENTS: Final = {
    **dict.fromkeys(LISTS, _LIST),
    HOPS_HEADER: _HOPS,
    REMAINING_HEADER: _REMAINING,
    b"accept": _ACCEPT,
    b"host": _HOST,
    b"content-length": _LENGTH,
    b"transfer-encoding": _ENCODING,
    b"expect": _EXPECT,
    b"connection": _CONNECTION,
}
# The common values of `Connection`: they name no header.
_NAMES_NO_HEADER: Final = frozenset((b"keep-alive", b"Keep-Alive", b"close", b"Close"))
# Common values of `Accept` that do not ask for JSON.
_NOT_JSON: Final = frozenset((b"text/plain", b"*/*"))
_MAX_CACHED_NAMES: Final = 1024
# Cap on a cached name, in bytes. Common header names are shorter.
_MAX_CACHED_NAME: Final = 64


class HeaderNames:
    """How headers are treated, by name."""

    def __init__(self, carries: Callable[[bytes], bool]) -> None:
        """`carries` tells whether the header of a lower-case name goes on to the upstream."""
        self._carries = carries
        self.known: dict[bytes, int] = {}
        """A cache: header name, spelled as the client spells it -> how the header is treated."""

    def treatment(self, name: bytes) -> int:
        """How the header of this name is treated, which is not in the cache."""
        lower = name.lower()
        treatment = _TREATMENTS.get(lower, _CARRIED if self._carries(lower) else _IGNORED)
        if len(self.known) < _MAX_CACHED_NAMES and len(name) <= _MAX_CACHED_NAME:
            self.known[name] = treatment
        return treatment


class RunQueue:
    """Connections with unparsed input, served round-robin.

    One connection runs per turn of the event loop, so that one connection cannot starve the others.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._connections: deque[Connection] = deque()

    def add(self, connection: Connection) -> None:
        """Put `connection` at the end of the queue."""
        self._connections.append(connection)
        if len(self._connections) == 1:
            self._loop.call_soon(self._run_next)

    def _run_next(self) -> None:
        connection = self._connections.popleft()
        if self._connections:
            self._loop.call_soon(self._run_next)
        connection.resume()


class ServerState(Protocol):
    """What a connection needs of its server."""

    loop: asyncio.AbstractEventLoop
    connections: set[Connection]
    """All open connections."""
    run_queue: RunQueue
    header_names: HeaderNames
    is_draining: bool
    """Whether each answer closes its connection."""

    def answer(self, request: Request, reply: Callable[[Answer], None]) -> Cancelable | None:
        """Call `reply` once with the answer to `request`, now or later.

        Returns:
            The work in progress, for a client that leaves before the reply.
        """

    def refuse(self, status: int, reason: str, wants_json: bool) -> Answer:
        """The answer to a bad request."""

    def head(self, answer: Answer, connection: str) -> bytes:
        """The response head of `answer`; `connection` is the `Connection` header, if any."""


class _BadRequest(NamedTuple):
    """A bad request in the pipeline."""

    refusal: Answer
    method: str
    """Empty: the method is not known."""
    connection: Literal["close"] = "close"


class _BadRequestError(Exception):
    """A request that is refused: the status to answer, and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Connection:
    """One client's connection: an `asyncio.Protocol`."""

    __slots__ = (
        "_body_size",
        "_call",
        "_client_ip",
        "_current",
        "_discards_input",
        "_eof_received",
        "_expects_continue",
        "_first_bytes",
        "_head_size",
        "_header_names",
        "_headers",
        "_host",
        "_in_head",
        "_input",
        "_is_queued",
        "_is_running",
        "_known_names",
        "_lane_headers",
        "_last_used",
        "_length",
        "_next",
        "_parser",
        "_pipeline",
        "_reading_paused",
        "_request_started",
        "_server",
        "_special",
        "_transport",
        "_url",
        "_wants_json",
        "_writing_paused",
    )

    _transport: asyncio.Transport
    _first_bytes: bytes
    _head_size: int
    _in_head: bool

    def __init__(self, server: ServerState) -> None:
        # Per-connection state.
        self._server = server
        self._header_names = server.header_names
        self._known_names = server.header_names.known
        self._parser = httptools.HttpRequestParser(self)
        self._input = b""
        self._discards_input = False
        self._eof_received = False
        self._last_used = server.loop.time()

        self._host = b""
        """The last `Host` that was found valid."""

        # Pipeline: the request that is being answered, and those that wait for it.
        self._current: Request | _BadRequest | None = None
        self._call: Cancelable | None = None
        self._pipeline: deque[Request | _BadRequest] = deque()
        self._is_running = False
        self._is_queued = False

        # Flow control.
        self._reading_paused = False
        self._writing_paused = False

        # Per-request state. `on_message_begin` sets the rest.
        self._request_started: float | None = None
        self._expects_continue = False
        self._wants_json = False

    # What the server calls.

    @property
    def is_busy(self) -> bool:
        """Whether a request is being received or answered."""
        return bool(
            self._current or self._pipeline or self._input or self._request_started is not None
        )

    def close(self) -> None:
        """Close the connection after all written data is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close the connection now."""
        self._transport.abort()

    def resume(self) -> None:
        """Parse more of the input: called by the run queue."""
        self._is_queued = False
        if not self._transport.is_closing():
            self._run()

    def check_timeouts(self, now: float) -> None:
        """Answer 408 to a request that takes too long, close an idle connection, and cancel the
        call of a client that seems to have left.
        """
        if self._writing_paused:
            if now - self._last_used > IDLE_TIMEOUT:
                self.abort()
        elif self._eof_received and self._call is not None:
            if now - self._last_used > _HALF_CLOSED:
                self._call.cancel()
        elif self._request_started is not None and not self._current and not self._pipeline:
            if now - self._request_started > REQUEST_TIMEOUT:
                self._refuse(408, f"no whole request within {REQUEST_TIMEOUT:g} s")
                self._run()
        elif not self.is_busy and now - self._last_used > IDLE_TIMEOUT:
            self.close()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._client_ip = peer[0].removeprefix("::ffff:") if peer else None
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._discards_input = True
        self._pipeline.clear()
        self._input = b""
        self._server.connections.discard(self)
        if self._call is not None:
            self._call.cancel()

    def data_received(self, data: bytes) -> None:
        if self._discards_input:
            # A bad request or the last request came before.
            return
        self._last_used = self._server.loop.time()
        self._input = self._input + data if self._input else data
        self._run()

    def eof_received(self) -> bool:
        # A client that half-closes still gets its answers.
        self._eof_received = True
        self._last_used = self._server.loop.time()
        has_work = bool(self._current or self._pipeline or self._input)
        return has_work and not self._transport.is_closing()

    # Flow control.

    def pause_writing(self) -> None:
        """The client does not read its answers: stop answering and parsing."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """The client reads again."""
        self._writing_paused = False
        self._run()

    def _pause_reading(self) -> None:
        """Stop reading from the socket while there is unparsed input."""
        if self._input and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    # Pipeline.

    def _run(self) -> None:
        """Parse and answer until there is something to wait for.

        Each call answers at most one request and parses at most once. The run queue does the rest.
        """
        if self._is_queued:
            self._pause_reading()
            return
        if self._is_running:
            # The answer came at once: the loop below continues.
            return
        self._is_running = True
        has_answered = has_parsed = False
        while not self._current and not self._writing_paused:
            if self._pipeline:
                if has_answered:
                    self._is_queued = True
                    break
                has_answered = True
                self._start(self._pipeline.popleft())
            elif self._input and not self._discards_input:
                if has_parsed:
                    self._is_queued = True
                    break
                has_parsed = True
                self._parse()
            else:
                break
        self._is_running = False
        if self._is_queued:
            self._server.run_queue.add(self)
        if self._current or self._writing_paused or self._is_queued:
            self._pause_reading()
        elif self._eof_received:
            self._transport.close()
        elif self._reading_paused:
            self._reading_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
        is_next = not self._current and not self._pipeline
        if self._expects_continue and is_next and not self._transport.is_closing():
            self._expects_continue = False
            self._transport.write(_CONTINUE)

    def _start(self, request: Request | _BadRequest) -> None:
        self._current = request
        if isinstance(request, _BadRequest):
            self._end(request.refusal)
            return
        call = self._server.answer(request, self._end)
        if self._is_answering():
            self._call = call

    def _is_answering(self) -> bool:
        return self._current is not None

    def _end(self, answer: Answer) -> None:
        """Send `answer`, then continue with the next request."""
        request = cast("Request | _BadRequest", self._current)
        self._current = self._call = None
        transport = self._transport
        if transport.is_closing():
            return
        self._last_used = self._server.loop.time()
        if self._request_started is not None:
            # The next request had to wait for this answer: its timeout starts now.
            self._request_started = self._last_used
        connection = "close" if self._server.is_draining else request.connection
        head = self._server.head(answer, connection)
        # RFC 9110 section 9.3.2.
        transport.write(head if request.method == "HEAD" else head + answer.body)
        if connection == "close":
            self._linger()
        self._run()

    def _linger(self) -> None:
        """Discard further input, and wait for the client to close."""
        self._discards_input = True
        self._request_started = None
        self._pipeline.clear()
        self._input = b""
        if self._eof_received:
            self._transport.close()
        else:
            self._transport.write_eof()
            self._server.loop.call_later(_LINGER, self._transport.close)

    def _refuse(self, status: int, reason: str) -> None:
        """Put the answer to a bad request into the pipeline; it closes the connection."""
        # Once there is a target, the method is known.
        has_method = self._request_started is not None and self._url
        method = self._parser.get_method().decode("ascii") if has_method else ""
        self._discards_input = True
        self._request_started = None
        self._input = b""
        refusal = self._server.refuse(status, reason, self._wants_json)
        self._pipeline.append(_BadRequest(refusal, method))

    # Parsing.

    def _parse(self) -> None:
        data, self._input = self._input, b""
        if len(data) > _PARSE_SIZE:
            data, self._input = data[:_PARSE_SIZE], data[_PARSE_SIZE:]
        start = 0
        while start < len(data) and not self._discards_input:
            end = len(data) if self._request_started is None else self._message_end(data, start)
            start += self._feed(data[start:end])

    def _message_end(self, data: bytes, start: int) -> int:
        """Where the request whose rest is at `start` may end, and no earlier one does."""
        if start < len(_EMPTY_LINE) and data[start] in _EMPTY_LINE:
            # It may belong to an empty line that came in two pieces.
            return start + 1
        if self._length > self._body_size:
            return start + self._length - self._body_size
        # All other requests end in an empty line, those in chunks too.
        end = data.find(_EMPTY_LINE, start)
        return len(data) if end < 0 else end + len(_EMPTY_LINE)

    def _feed(self, part: bytes) -> int:
        """Parse `part`: what begins with a request, or goes at most to the end of one.

        Returns:
            The number of bytes that are done.
        """
        try:
            self._parser.feed_data(part)
        except httptools.HttpParserUpgrade as upgrade:
            # The upgrade is ignored; the next request follows.
            self._parser = httptools.HttpRequestParser(self)
            return cast("int", upgrade.args[0])
        except httptools.HttpParserError as error:
            # httptools wraps an exception of a callback.
            cause = error.__context__
            if self._parser.get_http_version() >= "2":
                self._refuse(505, _VERSIONS)
            elif isinstance(cause, _BadRequestError):
                self._refuse(cause.status, str(cause))
            elif self._pipeline and self._pipeline[-1].connection == "close":
                # Bytes after the last request of a connection are discarded.
                self._input = b""
                self._discards_input = True
            elif isinstance(error, httptools.HttpParserInvalidMethodError):
                self._refuse_method(part)
            else:
                self._refuse(400, _NOT_HTTP)
        else:
            if self._request_started is not None and self._in_head:
                self._head_size += len(part)
                if not self._url and len(self._first_bytes) <= _MAX_METHOD:
                    self._keep_first_bytes(part)
                if self._parser.get_http_version() >= "2":
                    # The rest of a preface may never come (RFC 9113 section 3.4).
                    self._refuse(505, _VERSIONS)
                elif self._head_size > MAX_HEAD:
                    self._refuse(400, f"a head of more than {MAX_HEAD} bytes")
        return len(part)

    def _keep_first_bytes(self, part: bytes) -> None:
        """Keep what has come of a request whose method may be incomplete."""
        if not self._first_bytes:
            part = part[_last_start(part) :]
        self._first_bytes = (self._first_bytes + part).lstrip(b"\r\n")

    def _refuse_method(self, part: bytes) -> None:
        """Answer 501 to a method that llhttp does not know (RFC 9110 section 15.6.2).

        llhttp fails before the whole name has come, and then fails on all further bytes: they end
        up here until the name is whole.
        """
        self._keep_first_bytes(part)
        name = cast("re.Match[bytes]", _METHOD.match(self._first_bytes))[0]
        after = self._first_bytes[len(name) : len(name) + 1]
        if len(name) > _MAX_METHOD:
            # RFC 9112 section 3.
            self._refuse(501, f"a method of more than {_MAX_METHOD} bytes")
        elif name and after == b" ":
            self._refuse(501, name.decode("ascii"))
        elif after:
            self._refuse(400, _NOT_HTTP)

    # Parser callbacks.

    def on_message_begin(self) -> None:
        self._request_started = self._server.loop.time()
        self._url = self._first_bytes = b""
        self._headers: Headers = []
        self._lane_headers: Headers = []
        self._special: list[tuple[int, bytes]] = []
        self._in_head = True
        self._head_size = 0
        self._length = self._body_size = 0
        self._wants_json = False

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > MAX_LINE:
            raise _BadRequestError(400, f"a target of more than {MAX_LINE} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        size = len(name) + len(value)
        if size > MAX_LINE:
            raise _BadRequestError(400, f"a header of more than {MAX_LINE} bytes")
        if not self._in_head:
            # A trailer, which is discarded.
            self._head_size += size
            if self._head_size > 2 * MAX_HEAD:
                raise _BadRequestError(400, f"trailers of more than {MAX_HEAD} bytes")
            return
        headers = self._headers
        if len(headers) == MAX_HEADERS:
            raise _BadRequestError(400, f"more than {MAX_HEADERS} headers")
        if value and value[-1] <= _SPACE:
            # llhttp keeps the whitespace after a value (RFC 9110 section 5.5).
            value = value.rstrip(b" \t")
        header = (name, value)
        headers.append(header)
        treatment = self._known_names.get(name)
        if treatment is None:
            treatment = self._header_names.treatment(name)
        if treatment:
            if treatment <= _LIST:
                self._lane_headers.append(header)
            if treatment != _CARRIED:
                self._special.append((treatment, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._next = self._check_head()

    def on_body(self, body: bytes) -> None:
        self._expects_continue = False
        self._body_size += len(body)
        if self._body_size > MAX_BODY:
            raise _BadRequestError(413, f"a request body of more than {MAX_BODY} bytes")

    def on_message_complete(self) -> None:
        self._request_started = None
        self._expects_continue = False
        self._pipeline.append(self._next)

    # Checks of the request head.

    def _check_head(self) -> Request:
        """The request whose head is complete.

        Raises:
            _BadRequestError: the request is to be refused.
        """
        parser = self._parser
        lane_headers = self._lane_headers
        hop_ids: tuple[bytes, ...] = ()
        remaining: int | None = None
        hosts = codings = length = members = lists_size = hop_ids_size = 0
        expects = False
        options = b""
        for treatment, value in self._special:
            if treatment == _LIST:
                members += value.count(b",") + 1
                lists_size += len(value) + 1
            elif treatment == _HOST:
                hosts += 1 if value == self._host or self._is_host(value) else 2
            elif treatment == _ACCEPT and value not in _NOT_JSON:
                self._wants_json = self._wants_json or b"application/json" in value.lower()
            elif treatment == _HOPS:
                hop_ids += tuple(value.split(b",", _MAX_HOP_IDS))
                hop_ids_size += len(value)
            elif treatment == _LENGTH:
                length = int(value)
            elif treatment == _ENCODING:
                codings += 1 if value.lower() == b"chunked" else 2
            elif treatment == _EXPECT:
                expects = value.lower() == b"100-continue"
            elif treatment == _REMAINING:
                if not _REMAINING_VALUE.fullmatch(value):
                    raise _BadRequestError(400, "not the number of hops that remain")
                remaining = min(int(value), MAX_TREE)
            elif treatment == _CONNECTION and value not in _NAMES_NO_HEADER:
                options += b",%b" % value
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise _BadRequestError(400, _VERSIONS)
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            raise _BadRequestError(400, "not one valid Host")
        method = parser.get_method().decode("ascii")
        if method == "CONNECT":
            # A 2xx would open a tunnel (RFC 9110 section 9.3.6).
            raise _BadRequestError(501, "CONNECT")
        if codings > 1:
            # RFC 9112 section 6.1; llhttp checks the last coding only.
            raise _BadRequestError(400, "a transfer coding other than chunked")
        if codings and version == "1.0":
            # Faulty framing (RFC 9112 section 6.1).
            raise _BadRequestError(400, "chunks in HTTP/1.0")
        if length > MAX_BODY:
            raise _BadRequestError(413, f"a request body of more than {MAX_BODY} bytes")
        if hop_ids_size > _MAX_HOP_IDS_SIZE and len(hop_ids) < _MAX_HOP_IDS:
            raise _BadRequestError(400, "not the hops of a chain")
        if options:
            lane_headers = _without(lane_headers, options)
        if members > ANY_LIST.members or lists_size > ANY_LIST.size:
            lane_headers = within_limits(lane_headers)
        if len(lane_headers) > MAX_LANE_HEADERS:
            raise _BadRequestError(400, f"more than {MAX_LANE_HEADERS} lane headers")
        # A head that arrived in one piece is shorter than _PARSE_SIZE: there is nothing to add up.
        if self._head_size and sum(map(len, chain(*lane_headers))) > MAX_LANE_SIZE:
            raise _BadRequestError(400, f"lane headers of more than {MAX_LANE_SIZE} bytes")
        self._length = length
        has_body = codings > 0 or length > 0
        self._expects_continue = expects and has_body and version == "1.1"
        # llhttp does not parse the body of a request for an upgrade.
        skips_body = has_body and parser.should_upgrade()
        keep_alive = parser.should_keep_alive() and not skips_body
        return Request(
            method,
            self._target(method),
            self._headers,
            lane_headers,
            hop_ids,
            self._wants_json,
            self._client_ip,
            remaining,
            # HTTP/1.0 does not assume keep-alive.
            "close" if not keep_alive else "keep-alive" if version == "1.0" else "",
        )

    def _is_host(self, value: bytes) -> bool:
        if not _HOST_VALUE.fullmatch(value):
            return False
        self._host = value
        return True

    def _target(self, method: str) -> str:
        """Path and query, without scheme and authority (RFC 9112 section 3.2)."""
        url = self._url
        if not url.startswith(b"/"):
            if absolute := _ABSOLUTE_FORM.match(url):
                url = url[absolute.end() :]
                url = url if url.startswith(b"/") else b"/" + url
            elif not (url == b"*" and method == "OPTIONS"):
                raise _BadRequestError(400, "not a request target")
        return url.decode("utf-8", "surrogateescape")


def _without(headers: Headers, options: bytes) -> Headers:
    """`headers` without those that `options` name, the values of `Connection`.

    They are for this hop alone (RFC 9110 section 7.6.1).
    """
    named = {option.strip(b" \t") for option in options.lower().split(b",")}
    return [header for header in headers if header[0].lower() not in named]


class _Starts:
    """Where requests start, in bytes."""

    place = 0
    last = 0

    def on_message_begin(self) -> None:
        self.last = self.place


def _last_start(data: bytes) -> int:
    """Where in `data`, which begins with a request, the last request starts.

    llhttp does not tell, so `data` is parsed once more, byte by byte.
    """
    starts = _Starts()
    parser = httptools.HttpRequestParser(starts)
    with suppress(httptools.HttpParserError):
        for starts.place in range(len(data)):
            parser.feed_data(data[starts.place : starts.place + 1])
    return starts.last
