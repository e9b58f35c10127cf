"""The HTTP server of a hop: takes requests off the wire, answers the reserved paths, and drains."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from time import time
from typing import TYPE_CHECKING, Final

from aiohttp.web_response import Response
from aiohttp.web_server import Server as HttpServer
from multidict import CIMultiDict

from mockservice.chain import TEXT_TYPE
from mockservice.connection import Connection, Meanings
from mockservice.hop import Answer, Request
from mockservice.logs import logger
from mockservice.propagation import Propagation, passed_hops
from mockservice.settings import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.web_request import BaseRequest

    from mockservice.hop import Answers, Hop
    from mockservice.settings import Settings

GRACE_PERIOD: Final = 10.0
"""Seconds that requests in flight get to finish once the server drains."""
MAX_REQUEST_BODY: Final = 1024 * 1024
"""Bytes of a request body that are read, to be dropped."""
_BODY_TIMEOUT: Final = 10.0

_KEEPALIVE_TIMEOUT: Final = 75.0
# Baggage may have 8192 bytes (W3C Baggage section 3.3.2), so that lines must be able to.
_MAX_LINE: Final = 16 * 1024
_BACKLOG: Final = 1024
# How long the listener stays open for those who have not seen the readiness go red yet: until no
# request has come for a while, and under endless load half of the grace period.
_QUIET: Final = 0.2
_LISTEN_ON: Final = GRACE_PERIOD / 2
_POLL: Final = 0.02
_SERVER: Final = "mockservice"


class Server:
    """Serves one hop on `settings.host` and `settings.port`."""

    def __init__(self, settings: Settings, hop: Hop, traced: Answers | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.propagation = Propagation(settings.lane_headers)
        self.meanings = Meanings(self)
        self.connections: set[Connection] = set()
        """Those that aiohttp has not taken over."""
        self.is_draining = False
        self._settings = settings
        self._hop = hop
        self._answers: Answers = traced or hop
        self._reserved = _reserved("starting", 503)
        self._in_flight = 0
        self._last_request = 0.0
        self._heads: dict[tuple[int, str, bool], bytes] = {}
        self._date = (0, b"")
        self._listeners: list[asyncio.Server] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._http = HttpServer(
            self._handle,
            access_log=None,
            logger=logger,
            keepalive_timeout=_KEEPALIVE_TIMEOUT,
            lingering_time=2.0,
            auto_decompress=False,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
        )

    async def start(self) -> None:
        """Listen, then be ready.

        Raises:
            SettingError: `host` and `port` cannot be listened at.
        """
        settings = self._settings
        for listening in _listen(settings.host, settings.port, shared=settings.workers > 1):
            listener = await self.loop.create_server(
                lambda: Connection(self), sock=listening, backlog=_BACKLOG
            )
            self._listeners.append(listener)
        self._close_idle(_KEEPALIVE_TIMEOUT)
        self._reserved = _reserved("ready", 200)

    async def drain(self) -> None:
        """Be no longer ready, finish what is in flight within `GRACE_PERIOD`, close the rest."""
        self.is_draining = True
        self._reserved = _reserved("draining", 503)
        end = self.loop.time() + GRACE_PERIOD
        while self._is_busy() and self.loop.time() < end - _LISTEN_ON:
            await asyncio.sleep(_POLL)
        for listener in self._listeners:
            listener.close()
        # Connections that are kept alive are served meanwhile, and closed with their next answer.
        while self._in_flight and self.loop.time() < end:
            await asyncio.sleep(_POLL)
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self.connections):
            connection.close()
        await self._http.shutdown(_POLL)

    def answer(self, request: Request, reply: Callable[[Answer], None]) -> None:
        """Reply to a request that has no body, or whose body is done with."""
        if (reserved := self._reserved.get(request.target.partition("?")[0])) is not None:
            reply(reserved)
            return
        self._in_flight += 1
        self._last_request = self.loop.time()

        def end(answer: Answer) -> None:
            self._in_flight -= 1
            reply(answer)

        self._answers.answer(request, end)

    def head(self, answer: Answer, closes: bool) -> bytes:
        """Status line and headers of `answer`, up to the empty line."""
        key = (answer.status, answer.content_type, closes)
        head = self._heads.get(key)
        if head is None:
            connection = "Connection: close\r\n" if closes else ""
            head = self._heads[key] = (
                f"HTTP/1.1 {answer.status} {_reason(answer.status)}\r\nServer: {_SERVER}\r\n"
                f"Content-Type: {answer.content_type}\r\n{connection}"
            ).encode("ascii")
        now = int(time())
        if now != self._date[0]:
            self._date = (now, formatdate(now, usegmt=True).encode("ascii"))
        return b"%bDate: %b\r\nContent-Length: %d\r\n\r\n" % (
            head,
            self._date[1],
            len(answer.body),
        )

    def new_aiohttp_connection(self) -> asyncio.Protocol:
        """What a connection goes on with that the fast path gives up."""
        return self._http()

    def _is_busy(self) -> bool:
        if self._in_flight:
            return True
        connected = bool(self.connections or self._http.connections)
        return connected and self.loop.time() < self._last_request + _QUIET

    def _close_idle(self, timeout: float) -> None:
        """Close the connections that have been idle for `timeout` seconds, from now on."""
        oldest = self.loop.time() - timeout
        for connection in list(self.connections):
            if connection.idle and connection.last_used < oldest:
                connection.close()
        self._sweep = self.loop.call_later(timeout / 10, self._close_idle, timeout)

    async def _handle(self, inbound: BaseRequest) -> Response:
        """Answer a request that came by way of aiohttp."""
        answer = await self._chain(inbound)
        headers = CIMultiDict({"Content-Type": answer.content_type, "Server": _SERVER})
        response = Response(status=answer.status, headers=headers, body=answer.body)
        if self.is_draining or answer.status in (408, 413):
            response.force_close()
        return response

    async def _chain(self, inbound: BaseRequest) -> Answer:
        headers = list(inbound.raw_headers)
        request = Request(
            method=inbound.method,
            # Without the scheme and authority of the absolute form (RFC 9112 section 3.2.2).
            target=inbound.rel_url.raw_path_qs,
            headers=headers,
            lane_headers=self.propagation.select(headers),
            passed=passed_hops(headers),
            wants_json="application/json" in inbound.headers.get("Accept", "").lower(),
            client_ip=inbound.remote,
        )
        if inbound.body_exists and (refusal := await self._drop_body(inbound, request)):
            return refusal
        answer: asyncio.Future[Answer] = self.loop.create_future()
        self.answer(request, answer.set_result)
        return await answer

    async def _drop_body(self, inbound: BaseRequest, request: Request) -> Answer | None:
        """Read the body and drop it; the answer to give instead if it cannot all be read."""
        left = MAX_REQUEST_BODY - (inbound.content_length or 0)
        if left >= 0:
            if inbound.headers.get("Expect", "").lower() == "100-continue":
                await inbound.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                inbound.writer.output_size = 0
            left = MAX_REQUEST_BODY
            try:
                async with asyncio.timeout(_BODY_TIMEOUT):
                    async for part in inbound.content.iter_any():
                        left -= len(part)
                        if left < 0:
                            break
            except TimeoutError:
                reason = f"no whole request body within {_BODY_TIMEOUT:g} s"
                return self._hop.refuse(408, "rejected", reason, request.wants_json)
        if left < 0:
            reason = f"a request body of more than {MAX_REQUEST_BODY} bytes"
            return self._hop.refuse(413, "rejected", reason, request.wants_json)
        return None


def _reserved(state: str, status: int) -> dict[str, Answer]:
    """The answers of the reserved paths."""
    return {
        "/healthz": Answer(200, TEXT_TYPE, b"alive"),
        "/readyz": Answer(status, TEXT_TYPE, state.encode()),
        "/metrics": Answer(404, TEXT_TYPE, b"no metrics yet"),
    }


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        # The upstream's own; a phrase may be empty (RFC 9112 section 4).
        return ""


def _listen(host: str | None, port: int, *, shared: bool) -> list[socket.socket]:
    """Sockets that listen: one on all interfaces, or one for each address of `host`.

    Args:
        host: an address or a name of this machine; None for all interfaces.
        port: the port.
        shared: whether other processes may listen at the same port.

    Raises:
        SettingError: an address is none of this machine's, or the port is taken.
    """
    if host is None:
        with suppress(OSError):
            if socket.has_dualstack_ipv6():
                return [_bind(socket.AF_INET6, "::", port, shared, dual_stack=True)]
        host = "0.0.0.0"  # noqa: S104 - a pod serves all that reach it
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise SettingError("host", host, "an address or a name of this machine") from None
    addresses = dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found)
    try:
        return [_bind(family, address, port, shared) for family, address in addresses]
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise SettingError("port", str(port), f"free on {host} ({reason})") from None


def _bind(
    family: socket.AddressFamily, address: str, port: int, shared: bool, dual_stack: bool = False
) -> socket.socket:
    return socket.create_server(
        (address, port),
        family=family,
        backlog=_BACKLOG,
        reuse_port=shared,
        dualstack_ipv6=dual_stack,
    )
