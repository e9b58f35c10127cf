"""The upstream call: one GET to the one upstream of a hop, over kept-alive connections.

All that the rest of the service sees is `Upstream.get`, its `Answer` and its `UpstreamError`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import httptools

from mockservice.chain import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mockservice.settings import UpstreamUrl

MAX_BODY: Final = 1024 * 1024
"""Bytes of an upstream's body that are taken; a longer one is a failure."""
MAX_HEAD: Final = 64 * 1024
"""Bytes of status line and headers that are taken, interim answers included."""

# With chunks of one byte, six bytes arrive for each one of the body.
_MAX_RECEIVED: Final = MAX_HEAD + 6 * MAX_BODY

# Old connections end, so that pods that came later get their share of the calls.
_MAX_AGE: Final = 60.0
_MAX_IDLE: Final = 256


@dataclass(frozen=True, slots=True)
class Answer:
    """What the upstream answered: status, the value of `Content-Type`, and the whole body."""

    status: int
    content_type: bytes
    body: bytes


class UpstreamError(Exception):
    """The upstream call failed: `status` is what to answer, `failure` what to add to the chain."""

    def __init__(self, status: int, failure: Failure) -> None:
        super().__init__(str(failure))
        self.status = status
        self.failure = failure


class Upstream:
    """Calls one upstream. For use in one event loop, the one that runs when it is made."""

    def __init__(
        self, url: UpstreamUrl, proxy: UpstreamUrl | None = None, timeout: float = 5.0
    ) -> None:
        self.url = url
        self.timeout = timeout
        self._peer = proxy or url
        self._tls = ssl.create_default_context() if url.secure else None
        self._loop = asyncio.get_running_loop()
        self._idle: deque[_Connection] = deque()
        # A proxy is asked in absolute form (RFC 9112 section 3.2.2).
        target = f"http://{url.authority}{url.target}" if proxy else url.target
        self._head = (
            f"GET {target} HTTP/1.1\r\nHost: {url.authority}\r\nAccept-Encoding: identity\r\n"
        ).encode("ascii")

    async def get(
        self, headers: Iterable[tuple[bytes, bytes]], timeout: float | None = None
    ) -> Answer:
        """GET the URL with `headers`, bytes for bytes; not a redirect is followed.

        Args:
            headers: field names and values, which must be valid ones.
            timeout: seconds that all of it may take, by default those of this upstream.

        Raises:
            UpstreamError: there is no answer: 504 when it took too long, else 502.
        """
        fields = b"".join([b"%b: %b\r\n" % field for field in headers])
        request = b"%b%b\r\n" % (self._head, fields)
        timeout = self.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange(request)
        except TimeoutError:
            raise self._error("timeout", f"no answer within {timeout:.3g} s", 504) from None
        except _InvalidAnswerError as error:
            raise self._error("invalid", str(error)) from error
        except (OSError, UnicodeError) as error:
            raise self._error("unreachable", _reason(error)) from error

    def close(self) -> None:
        """Close the connections that no call is using."""
        while self._idle:
            self._idle.pop().close()

    def _error(self, kind: str, reason: str, status: int = 502) -> UpstreamError:
        return UpstreamError(status, Failure(self.url.hop, kind, reason))

    async def _exchange(self, request: bytes) -> Answer:
        while (connection := self._take_idle()) is not None:
            try:
                return await self._send(connection, request)
            except _StaleConnectionError:
                # The upstream closed it before it saw this request, which may be sent again
                # (RFC 9112 section 9.3.1).
                continue
        return await self._send(await self._connect(), request)

    async def _send(self, connection: _Connection, request: bytes) -> Answer:
        try:
            answer = await connection.send(request)
        except BaseException:
            connection.close()
            raise
        if connection.reusable and len(self._idle) < _MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def _take_idle(self) -> _Connection | None:
        oldest = self._loop.time() - _MAX_AGE
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and connection.born > oldest:
                return connection
            connection.close()
        return None

    async def _connect(self) -> _Connection:
        peer = self._peer
        addresses = await self._loop.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
        for attempt, (_, _, _, _, address) in enumerate(addresses, 1):
            try:
                _, connection = await self._loop.create_connection(
                    lambda: _Connection(self._loop),
                    str(address[0]),
                    peer.port,
                    ssl=self._tls,
                    server_hostname=peer.host if self._tls else None,
                )
            except OSError:
                if attempt == len(addresses):
                    raise
            else:
                return connection
        raise socket.gaierror(socket.EAI_NONAME, "no address")


class _InvalidAnswerError(Exception):
    """The upstream answered with something that cannot be taken."""


class _StaleConnectionError(ConnectionError):
    """A kept-alive connection ended before the first byte of the answer."""


class _Connection(asyncio.Protocol):
    """One connection, which carries one request at a time."""

    __slots__ = (
        "_answered",
        "_body",
        "_body_size",
        "_content_type",
        "_framed",
        "_in_head",
        "_loop",
        "_parser",
        "_received",
        "_transport",
        "_used",
        "_waiter",
        "born",
        "reusable",
    )

    _transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.born = loop.time()
        self.reusable = True
        self._used = False
        self._waiter: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)

    async def send(self, request: bytes) -> Answer:
        """Send `request` and wait for the whole answer.

        Raises:
            _StaleConnectionError: this connection had been used, and ended without a byte.
            _InvalidAnswerError: the answer is no HTTP, or too large.
            OSError: the connection failed.
        """
        self._received = 0
        self._answered = False
        self._start_message()
        self._waiter = self._loop.create_future()
        self._transport.write(request)
        try:
            return await self._waiter
        finally:
            self._waiter = None
            self._used = True

    def close(self) -> None:
        self.reusable = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._answered:
            self.close()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(_InvalidAnswerError("a protocol switch that nobody asked for"))
        except httptools.HttpParserError as error:
            # The parser wraps what a callback raised.
            cause = error.__context__
            self._fail(
                cause if isinstance(cause, _InvalidAnswerError) else _InvalidAnswerError("not HTTP")
            )
        else:
            limit = MAX_HEAD if self._in_head else _MAX_RECEIVED
            if self._received > limit and not self._answered:
                self._fail(_InvalidAnswerError(f"headers of more than {MAX_HEAD} bytes"))

    def eof_received(self) -> None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        if self._waiter is None or self._answered:
            return
        if exc is None and self._received and not self._in_head and not self._framed:
            # Neither length nor chunks: the end of the connection ends the body
            # (RFC 9112 section 6.3, item 8).
            self._finish()
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
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def _finish(self) -> None:
        self._answered = True
        if self._waiter is not None and not self._waiter.done():
            status = self._parser.get_status_code()
            self._waiter.set_result(Answer(status, self._content_type, b"".join(self._body)))

    def _start_message(self) -> None:
        self._in_head = True
        self._framed = False
        self._content_type = b""
        self._body: list[bytes] = []
        self._body_size = 0

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._answered:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-type":
            self._content_type = value
        elif name in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        self.reusable = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._body_size += len(body)
        if self._body_size > MAX_BODY:
            raise _InvalidAnswerError(f"an answer of more than {MAX_BODY} bytes")

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            # An interim answer (RFC 9110 section 15.2): the real one follows.
            self._start_message()
        else:
            self._finish()


def _reason(error: OSError | UnicodeError) -> str:
    """Why the upstream cannot be reached, in a few words without secrets and addresses."""
    if isinstance(error, socket.gaierror | UnicodeError):
        return "unknown host"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'handshake failed').replace('_', ' ').lower()}"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "connection reset"
    if error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or "connection failed"
