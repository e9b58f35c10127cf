"""The fast path of a client's connection: one whole, plain GET at a time is answered right here.

That is what gateways, sidecars and probes send. Whatever else a connection brings (a body, another
method, half a head, pipelining, an upgrade, garbage) goes, with the connection, to aiohttp's HTTP
server, so that each HTTP rule that such requests need has one home.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

import httptools

from mockservice.hop import Request
from mockservice.propagation import HOPS_HEADER, Headers

if TYPE_CHECKING:
    from mockservice.hop import Answer
    from mockservice.server import Server

MAX_PLAIN: Final = 16 * 1024
"""Bytes of a request that is answered here."""

# What a header means to the fast path.
_IGNORED, _CARRIED, _HOPS, _ACCEPT, _HOST, _CONNECTION, _NOT_PLAIN = range(7)
_MEANINGS: Final = {
    HOPS_HEADER: _HOPS,
    b"accept": _ACCEPT,
    b"host": _HOST,
    b"connection": _CONNECTION,
    b"content-length": _NOT_PLAIN,
    b"transfer-encoding": _NOT_PLAIN,
    b"expect": _NOT_PLAIN,
    b"upgrade": _NOT_PLAIN,
}
_MAX_MEANINGS: Final = 1024


class Meanings(dict[bytes, int]):
    """What header names mean, by the names as clients spell them; filled as they come."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._carries = server.propagation.carries

    def __missing__(self, name: bytes) -> int:
        lower = name.lower()
        meaning = _CARRIED if self._carries(lower) else _MEANINGS.get(lower, _IGNORED)
        if len(self) < _MAX_MEANINGS:
            self[name] = meaning
        return meaning


class Connection(asyncio.Protocol):
    """One client's connection, until aiohttp takes it over."""

    __slots__ = (
        "_begun",
        "_busy",
        "_client_ip",
        "_early",
        "_ended",
        "_headers",
        "_parser",
        "_paused",
        "_server",
        "_transport",
        "_url",
        "_whole",
        "last_used",
    )

    _transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._busy = False
        self._paused = False
        self._ended = False
        self._early = b""
        self.last_used = server.loop.time()
        """When the last request came, by the loop's clock."""

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return not self._busy

    def close(self) -> None:
        """Close the connection, once what has been written is sent."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._client_ip = peer[0].removeprefix("::ffff:") if peer else None
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._busy or self._paused:
            # More before the answer is out: aiohttp goes on after it.
            self._transport.pause_reading()
            self._early += data
            return
        self.last_used = self._server.loop.time()
        self._begun = 0
        self._whole = False
        self._url = b""
        self._headers: Headers = []
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._hand_over(data)
            return
        request = self._plain_request() if len(data) <= MAX_PLAIN else None
        if request is None:
            self._hand_over(data)
        else:
            self._busy = True
            self._server.answer(request, self._reply)

    def eof_received(self) -> bool:
        # Who has sent all that there is to send still gets the answer.
        self._ended = True
        return self._busy

    def pause_writing(self) -> None:
        """The client does not read its answers: take no further request meanwhile."""
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._paused = False
        if not self._busy:
            self._go_on()

    def _plain_request(self) -> Request | None:
        """The request that has been parsed; None if aiohttp shall judge it."""
        parser = self._parser
        if (
            self._begun != 1
            or not self._whole
            or not self._url.startswith(b"/")
            or parser.get_method() != b"GET"
            or parser.get_http_version() != "1.1"
        ):
            return None
        lane_headers: Headers = []
        passed: tuple[bytes, ...] = ()
        wants_json = False
        hosts = 0
        meanings = self._server.meanings
        for header in self._headers:
            meaning = meanings[header[0]]
            if meaning == _CARRIED:
                lane_headers.append(header)
            elif meaning == _HOPS:
                passed += tuple(header[1].split(b","))
            elif meaning == _ACCEPT:
                wants_json = wants_json or b"application/json" in header[1].lower()
            elif meaning == _HOST:
                hosts += 1
            elif meaning == _NOT_PLAIN or (
                meaning == _CONNECTION and header[1].lower() != b"keep-alive"
            ):
                return None
        if hosts != 1:
            return None
        target = self._url.decode("utf-8", "surrogateescape")
        return Request(
            "GET", target, self._headers, lane_headers, passed, wants_json, self._client_ip
        )

    def _reply(self, answer: Answer) -> None:
        transport = self._transport
        if transport.is_closing():
            return
        self._busy = False
        closes = self._ended or self._server.is_draining
        transport.write(self._server.head(answer, closes) + answer.body)
        if closes:
            transport.close()
        elif self._early and not self._paused:
            self._go_on()

    def _go_on(self) -> None:
        self._transport.resume_reading()
        if self._early:
            self._hand_over(self._early)

    def _hand_over(self, data: bytes) -> None:
        self._server.connections.discard(self)
        protocol = self._server.new_aiohttp_connection()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(data)
        if self._ended:
            protocol.eof_received()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._begun += 1

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_message_complete(self) -> None:
        self._whole = True
