"""One client's connection: requests off the wire, answers onto it, in turn (RFC 9112).

Bytes go through one parser, whatever way they come, and each rule of HTTP that goes beyond what
that parser checks is here. A request is answered once all of it is there.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import httptools

from mockservice.propagation import (
    ANY_LIST,
    HOPS_HEADER,
    LISTS,
    MAX_LANE_HEADERS,
    MAX_LANE_SIZE,
    Headers,
    within_limits,
)
from mockservice.serve.hop import Request

if TYPE_CHECKING:
    from mockservice.serve.hop import Answer
    from mockservice.serve.server import Server

MAX_LINE: Final = 16 * 1024
"""Bytes of a target, and of a header: baggage alone may have 8192 (W3C Baggage section 3.3.2)."""
MAX_HEADERS: Final = 128
MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's head, and of its trailers."""
MAX_BODY: Final = 1024 * 1024
"""Bytes of a request's body, which is read, and dropped."""
REQUEST_TIMEOUT: Final = 10.0
"""Seconds from the first byte of a request to its last."""
IDLE_TIMEOUT: Final = 75.0
"""Seconds that a connection is kept without a request, or with answers that nobody reads."""

# Seconds that a client gets to close its side, so that no reset overtakes the answer
# (RFC 9112 section 9.6).
_LINGER: Final = 2.0
# Bytes that are parsed at once: bounds the requests that wait for their turn, and how long others
# wait for theirs.
_SLICE: Final = 4 * 1024

# RFC 3986 section 3.2.2, with a port; empty where the target has no authority.
_HOST_VALUE: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
_ABSOLUTE: Final = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

# Ids in `x-mock-hops` that are looked at, more than a chain may have, and bytes of all of them.
_MAX_PASSED: Final = 64
_MAX_PASSED_SIZE: Final = 1024

# What a header means here.
_IGNORED, _CARRIED, _LIST, _HOPS, _ACCEPT, _HOST, _LENGTH, _ENCODING, _EXPECT = range(9)
_MEANINGS: Final = {
    **dict.fromkeys(LISTS, _LIST),
    HOPS_HEADER: _HOPS,
    b"accept": _ACCEPT,
    b"host": _HOST,
    b"content-length": _LENGTH,
    b"transfer-encoding": _ENCODING,
    b"expect": _EXPECT,
}
_MAX_MEANINGS: Final = 1024
# Bytes of a name that is remembered: those that anybody sends all the time are shorter.
_MAX_REMEMBERED: Final = 64


class Meanings(dict[bytes, int]):
    """What header names mean, by the names as clients spell them; filled as they come."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._carries = server.propagation.carries

    def __missing__(self, name: bytes) -> int:
        lower = name.lower()
        meaning = _MEANINGS.get(lower, _CARRIED if self._carries(lower) else _IGNORED)
        if len(self) < _MAX_MEANINGS and len(name) <= _MAX_REMEMBERED:
            self[name] = meaning
        return meaning


class Waiting:
    """Connections with more to work off than is done at once.

    In each turn of the loop one of them goes on: however many they are, others wait for one only.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._connections: deque[Connection] = deque()

    def add(self, connection: Connection) -> None:
        """Have `connection` go on, behind those that wait already."""
        self._connections.append(connection)
        if len(self._connections) == 1:
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        connection = self._connections.popleft()
        if self._connections:
            self._loop.call_soon(self._next)
        connection.go_on()


class _Turn(NamedTuple):
    """What is to be answered once it is its turn."""

    request: Request | None
    refusal: Answer | None = None
    """What to answer where there is no request."""
    keeps: bool = False
    """Whether the connection goes on after the answer."""
    is_old: bool = False
    """Whether the client has to be told so, as HTTP/1.0 does not expect it."""
    is_head: bool = False
    """Whether the answer's body stays here (RFC 9110 section 9.3.2)."""


class _RefusedError(Exception):
    """A request that is not taken: the status to answer with, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Connection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "_begun",
        "_body_size",
        "_client_ip",
        "_ended",
        "_head_size",
        "_headers",
        "_in_head",
        "_is_full",
        "_is_paused",
        "_is_running",
        "_is_waiting",
        "_last_used",
        "_parser",
        "_refuses",
        "_server",
        "_transport",
        "_turn",
        "_turns",
        "_unread",
        "_url",
        "_wants_continue",
        "_wants_json",
        "_whole",
    )

    _transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._unread = b""
        self._turns: deque[_Turn] = deque()
        self._turn: _Turn | None = None
        self._begun: float | None = None
        self._wants_continue = False
        self._wants_json = False
        self._is_running = False
        self._is_waiting = False
        self._is_full = False
        self._is_paused = False
        self._refuses = False
        self._ended = False
        self._last_used = server.loop.time()

    @property
    def is_busy(self) -> bool:
        """Whether a request has begun to come, or is being answered."""
        return bool(self._turn or self._turns or self._unread or self._begun is not None)

    def close(self) -> None:
        """Close the connection, once what has been written is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close the connection now."""
        self._transport.abort()

    def go_on(self) -> None:
        """Work off more of what has come."""
        self._is_waiting = False
        if not self._transport.is_closing():
            self._run()

    def check_time(self, now: float) -> None:
        """Refuse a request that takes too long to come, close what nobody uses."""
        if self._is_full:
            if now - self._last_used > IDLE_TIMEOUT:
                self.abort()
        elif self._begun is not None and not self._turn and not self._turns:
            if now - self._begun > REQUEST_TIMEOUT:
                self._refuse(408, f"no whole request within {REQUEST_TIMEOUT:g} s")
                self._run()
        elif not self.is_busy and now - self._last_used > IDLE_TIMEOUT:
            self.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._client_ip = peer[0].removeprefix("::ffff:") if peer else None
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._refuses = True
        self._turns.clear()
        self._unread = b""
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._refuses:
            # What comes behind a refusal, or behind the last answer.
            return
        self._last_used = self._server.loop.time()
        self._unread = self._unread + data if self._unread else data
        self._run()

    def eof_received(self) -> bool:
        # Who has sent all that there is to send still gets the answers.
        self._ended = True
        return bool(self._turn or self._turns or self._unread) and not self._transport.is_closing()

    def pause_writing(self) -> None:
        """The client does not read its answers: take no further request meanwhile."""
        self._is_full = True

    def resume_writing(self) -> None:
        """The client reads again."""
        self._is_full = False
        self._run()

    def _run(self) -> None:
        """Parse and answer, one after the other, until something has to be waited for."""
        if self._is_waiting:
            self._pause()
            return
        if self._is_running:
            # An answer came at once: the loop below goes on.
            return
        self._is_running = True
        has_answered = has_parsed = False
        while not self._turn and not self._is_full:
            if self._turns:
                if has_answered:
                    self._is_waiting = True
                    break
                has_answered = True
                self._answer(self._turns.popleft())
            elif self._unread and not self._refuses:
                if has_parsed:
                    self._is_waiting = True
                    break
                has_parsed = True
                self._parse()
            else:
                break
        self._is_running = False
        if self._is_waiting:
            self._server.waiting.add(self)
        if self._turn or self._is_full or self._is_waiting:
            self._pause()
        elif self._ended:
            self._transport.close()
        elif self._is_paused:
            self._is_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
        is_next = not self._turn and not self._turns
        if self._wants_continue and is_next and not self._transport.is_closing():
            self._wants_continue = False
            self._transport.write(_CONTINUE)

    def _pause(self) -> None:
        """Read nothing more while there is something to be parsed."""
        if self._unread and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def _answer(self, turn: _Turn) -> None:
        self._turn = turn
        if turn.request is not None:
            self._server.answer(turn.request, self._reply)
        elif turn.refusal is not None:
            self._reply(turn.refusal)

    def _reply(self, answer: Answer) -> None:
        turn, self._turn = cast("_Turn", self._turn), None
        transport = self._transport
        if transport.is_closing():
            return
        self._last_used = self._server.loop.time()
        if self._begun is not None:
            # Of the next request, which had to wait, too.
            self._begun = self._last_used
        keeps = turn.keeps and not self._server.is_draining
        connection = "" if keeps and not turn.is_old else "keep-alive" if keeps else "close"
        head = self._server.head(answer, connection)
        transport.write(head if turn.is_head else head + answer.body)
        if not keeps:
            self._end()
        self._run()

    def _end(self) -> None:
        """Have nothing more to say, and wait for the client to close."""
        self._refuses = True
        self._begun = None
        self._turns.clear()
        self._unread = b""
        if self._ended:
            self._transport.close()
        else:
            self._transport.write_eof()
            self._server.loop.call_later(_LINGER, self._transport.close)

    def _refuse(self, status: int, reason: str) -> None:
        """Answer so when all that came before is answered, and close then."""
        # Where there is a target, a method has been parsed.
        has_begun = self._begun is not None and self._url
        is_head = bool(has_begun) and self._parser.get_method() == b"HEAD"
        self._refuses = True
        self._begun = None
        self._unread = b""
        refusal = self._server.refuse(status, reason, self._wants_json)
        self._turns.append(_Turn(None, refusal, is_head=is_head))

    def _parse(self) -> None:
        data, self._unread = self._unread, b""
        if len(data) > _SLICE:
            data, self._unread = data[:_SLICE], data[_SLICE:]
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Nothing is switched to; what follows is the next request.
            self._unread = data[upgrade.args[0] :] + self._unread
            self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError as error:
            # The parser wraps what a callback raised.
            cause = error.__context__
            if isinstance(cause, _RefusedError):
                self._refuse(cause.status, str(cause))
            elif self._turns and not self._turns[-1].keeps:
                # Whatever comes behind a request that closes is no request.
                self._unread = b""
                self._refuses = True
            else:
                self._refuse(400, "not HTTP")
        else:
            if self._begun is not None and self._in_head:
                self._head_size += len(data)
                if self._head_size > MAX_HEAD:
                    self._refuse(400, f"a head of more than {MAX_HEAD} bytes")

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._begun = self._server.loop.time()
        self._url = b""
        self._headers: Headers = []
        self._in_head = True
        self._head_size = 0
        self._body_size = 0
        self._wants_json = False

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > MAX_LINE:
            raise _RefusedError(400, f"a target of more than {MAX_LINE} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        size = len(name) + len(value)
        if size > MAX_LINE:
            raise _RefusedError(400, f"a header of more than {MAX_LINE} bytes")
        if self._in_head:
            if len(self._headers) == MAX_HEADERS:
                raise _RefusedError(400, f"more than {MAX_HEADERS} headers")
            # The parser leaves the space behind a value (RFC 9110 section 5.5).
            self._headers.append((name, value.rstrip(b" \t")))
        else:
            # Trailers end here.
            self._head_size += size
            if self._head_size > 2 * MAX_HEAD:
                raise _RefusedError(400, f"trailers of more than {MAX_HEAD} bytes")

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._whole = self._checked()

    def on_body(self, body: bytes) -> None:
        self._wants_continue = False
        self._body_size += len(body)
        if self._body_size > MAX_BODY:
            raise _RefusedError(413, f"a request body of more than {MAX_BODY} bytes")

    def on_message_complete(self) -> None:
        self._begun = None
        self._wants_continue = False
        self._turns.append(self._whole)

    def _checked(self) -> _Turn:
        """The request whose head has been parsed.

        Raises:
            _RefusedError: it is not one that can be answered.
        """
        parser = self._parser
        lane_headers: Headers = []
        passed: tuple[bytes, ...] = ()
        hosts = codings = length = members = size = passed_size = 0
        expects = False
        meanings = self._server.meanings
        for header in self._headers:
            meaning = meanings[header[0]]
            if meaning == _CARRIED:
                lane_headers.append(header)
            elif meaning == _LIST:
                lane_headers.append(header)
                members += header[1].count(b",") + 1
                size += len(header[1]) + 1
            elif meaning == _HOPS:
                passed += tuple(header[1].split(b",", _MAX_PASSED))
                passed_size += len(header[1])
            elif meaning == _ACCEPT:
                self._wants_json = self._wants_json or b"application/json" in header[1].lower()
            elif meaning == _HOST:
                hosts += 1 if _HOST_VALUE.fullmatch(header[1]) else 2
            elif meaning == _LENGTH:
                length = int(header[1])
            elif meaning == _ENCODING:
                codings += 1 if header[1].lower() == b"chunked" else 2
            elif meaning == _EXPECT:
                expects = header[1].lower() == b"100-continue"
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise _RefusedError(400, "neither HTTP/1.1 nor HTTP/1.0")
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            raise _RefusedError(400, "not one valid Host")
        method = parser.get_method().decode("ascii")
        if method == "CONNECT":
            # To the client a 2xx would be a tunnel (RFC 9110 section 9.3.6).
            raise _RefusedError(501, "CONNECT")
        if codings > 1:
            # RFC 9112 section 6.1; the parser looks at the last one only.
            raise _RefusedError(400, "a transfer coding other than chunked")
        if codings and version == "1.0":
            # RFC 9112 section 6.1: its framing is to be mistrusted.
            raise _RefusedError(400, "chunks in HTTP/1.0")
        if length > MAX_BODY:
            raise _RefusedError(413, f"a request body of more than {MAX_BODY} bytes")
        if passed_size > _MAX_PASSED_SIZE and len(passed) < _MAX_PASSED:
            raise _RefusedError(400, "not the hops of a chain")
        if members > ANY_LIST.members or size > ANY_LIST.size:
            lane_headers = within_limits(lane_headers)
        if len(lane_headers) > MAX_LANE_HEADERS:
            raise _RefusedError(400, f"more than {MAX_LANE_HEADERS} lane headers")
        # A head that came at once is no longer than a slice.
        if self._head_size and sum(map(len, chain(*lane_headers))) > MAX_LANE_SIZE:
            raise _RefusedError(400, f"lane headers of more than {MAX_LANE_SIZE} bytes")
        has_body = codings > 0 or length > 0
        self._wants_continue = expects and has_body and version == "1.1"
        # The parser leaves out the body of a request that asks for an upgrade.
        skips_body = has_body and parser.should_upgrade()
        request = Request(
            method,
            self._target(method),
            self._headers,
            lane_headers,
            passed,
            self._wants_json,
            self._client_ip,
        )
        keeps = parser.should_keep_alive() and not skips_body
        return _Turn(request, keeps=keeps, is_old=version == "1.0", is_head=method == "HEAD")

    def _target(self, method: str) -> str:
        """Path and query, without scheme and authority (RFC 9112 section 3.2)."""
        url = self._url
        if not url.startswith(b"/"):
            if absolute := _ABSOLUTE.match(url):
                url = url[absolute.end() :]
                url = url if url.startswith(b"/") else b"/" + url
            elif not (url == b"*" and method == "OPTIONS"):
                raise _RefusedError(400, "not a request target")
        return url.decode("utf-8", "surrogateescape")
