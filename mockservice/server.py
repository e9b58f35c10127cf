"""The HTTP server of a hop: takes requests off the wire, answers the reserved paths, and drains."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aiohttp import web
from multidict import CIMultiDict

from mockservice.chain import TEXT_TYPE
from mockservice.hop import Answer, Request
from mockservice.logs import logger
from mockservice.propagation import Propagation, passed_hops
from mockservice.settings import SettingError

if TYPE_CHECKING:
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


class Server:
    """Serves one hop on `settings.host` and `settings.port`."""

    def __init__(self, settings: Settings, hop: Hop, traced: Answers | None = None) -> None:
        self._settings = settings
        self._hop = hop
        self._answers: Answers = traced or hop
        self._propagation = Propagation(settings.lane_headers)
        self._state = "starting"
        self._in_flight = 0
        self._last_request = 0.0
        self._loop = asyncio.get_running_loop()
        self._listeners: list[asyncio.Server] = []
        self._http = web.Server(
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
        for listening in _listen(self._settings.host, self._settings.port):
            listener = await self._loop.create_server(self._http, sock=listening, backlog=_BACKLOG)
            self._listeners.append(listener)
        self._state = "ready"

    async def drain(self) -> None:
        """Be no longer ready, finish what is in flight within `GRACE_PERIOD`, close the rest."""
        self._state = "draining"
        end = self._loop.time() + GRACE_PERIOD
        while self._is_busy() and self._loop.time() < end - _LISTEN_ON:
            await asyncio.sleep(_POLL)
        for listener in self._listeners:
            listener.close()
        # Connections that are kept alive are served meanwhile, and closed with their next answer.
        while self._in_flight and self._loop.time() < end:
            await asyncio.sleep(_POLL)
        await self._http.shutdown(_POLL)

    def _is_busy(self) -> bool:
        if self._in_flight:
            return True
        return bool(self._http.connections) and self._loop.time() < self._last_request + _QUIET

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._in_flight += 1
        self._last_request = self._loop.time()
        try:
            answer = self._reserved(request.path)
            if answer is None:
                answer = await self._chain(request)
            headers = CIMultiDict({"Content-Type": answer.content_type, "Server": "mockservice"})
            response = web.Response(status=answer.status, headers=headers, body=answer.body)
            if self._state == "draining" or answer.status in (408, 413):
                response.force_close()
            return response
        finally:
            self._in_flight -= 1

    def _reserved(self, path: str) -> Answer | None:
        if path == "/healthz":
            return Answer(200, TEXT_TYPE, b"alive")
        if path == "/readyz":
            status = 200 if self._state == "ready" else 503
            return Answer(status, TEXT_TYPE, self._state.encode())
        if path == "/metrics":
            return Answer(404, TEXT_TYPE, b"no metrics yet")
        return None

    async def _chain(self, inbound: web.BaseRequest) -> Answer:
        headers = list(inbound.raw_headers)
        request = Request(
            method=inbound.method,
            target=inbound.raw_path,
            headers=headers,
            lane_headers=self._propagation.select(headers),
            passed=passed_hops(headers),
            wants_json="application/json" in inbound.headers.get("Accept", "").lower(),
            client_ip=inbound.remote,
        )
        if inbound.body_exists and (refusal := await self._drop_body(inbound, request)):
            return refusal
        return await self._answers.answer(request)

    async def _drop_body(self, inbound: web.BaseRequest, request: Request) -> Answer | None:
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


def _listen(host: str | None, port: int) -> list[socket.socket]:
    """Sockets that listen: one on all interfaces, or one for each address of `host`.

    Raises:
        SettingError: an address is none of this machine's, or the port is taken.
    """
    if host is None:
        with suppress(OSError):
            if socket.has_dualstack_ipv6():
                return [_bind(socket.AF_INET6, "::", port, dual_stack=True)]
        host = "0.0.0.0"  # noqa: S104 - a pod serves all that reach it
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise SettingError("host", host, "an address or a name of this machine") from None
    addresses = dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found)
    try:
        return [_bind(family, address, port) for family, address in addresses]
    except OSError as error:
        reason = f"free on {host} ({(error.strerror or str(error)).lower()})"
        raise SettingError("port", str(port), reason) from None


def _bind(
    family: socket.AddressFamily, address: str, port: int, dual_stack: bool = False
) -> socket.socket:
    return socket.create_server(
        (address, port), family=family, backlog=_BACKLOG, dualstack_ipv6=dual_stack
    )
