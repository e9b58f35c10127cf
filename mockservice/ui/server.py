"""The page's server: the files of the page, and a stream of results for each open page.

A stream is a WebSocket (RFC 6455). The page sends its controls (rate, pause, headers) and receives
the view and the results. Each stream has a load of its own, which ends with it: without an open
page, no requests are sent.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
from contextlib import aclosing, suppress
from importlib import resources
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from aiohttp import WSMsgType, web

from mockservice.probe.consistency import Consistency
from mockservice.probe.load import Sender
from mockservice.ui.seen import to_json
from mockservice.ui.view import Controls

if TYPE_CHECKING:
    from types import TracebackType

    from aiohttp.typedefs import Handler

    from mockservice.ui.view import View

PORT: Final = 8090
MAX_STREAMS: Final = 8
"""Pages that may be open at the same time."""
MAX_COMPARED: Final = 500
"""Results, the latest, of which a page is told where calls that look the same went several ways."""

_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    # Allow only this server's files: nothing from other hosts, nothing inline, no text as markup
    # (CSP Level 3; Trusted Types), and no frame around the page.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_MAX_MESSAGE: Final = 16 * 1024
_HEARTBEAT: Final = 15.0
_CLOSE_TIMEOUT: Final = 1.0


class ListenError(Exception):
    """The server cannot listen at this host and port. The text is one line for the user."""

    def __init__(self, host: str, port: int, error: OSError | UnicodeError) -> None:
        number = getattr(error, "errno", None)
        if number in (errno.EADDRINUSE, errno.EACCES):
            reason = os.strerror(number).lower()
            super().__init__(f"--port: '{port}': must be free at {host} ({reason})")
        else:
            super().__init__(f"--host: {host!r}: must be an address or a name of this machine")


class PageServer:
    """Serves the page of a view for the duration of `async with`.

    Args:
        view: what the page shows.
        host: the address or name to listen on; requests may use it as their `Host`.
        port: None for `PORT` or, if that is in use, a free one.

    Raises, from `async with`:
        ListenError: the server cannot listen at `host` and `port`.
    """

    def __init__(self, view: View, host: str = "127.0.0.1", port: int | None = None) -> None:
        self._view = view
        self._host = host
        self._ports = (PORT, 0) if port is None else (port,)
        self._is_everywhere = False
        self._streams: set[_Stream] = set()
        self._files = {
            f"/{file.name}".removesuffix("index.html"): (
                file.read_bytes(),
                _TYPES[os.path.splitext(file.name)[1]],  # noqa: PTH122
            )
            for file in (resources.files("mockservice.ui") / "page").iterdir()
        }

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._guard])
        app.on_response_prepare.append(_add_headers)
        app.router.add_get("/stream", self._stream)
        app.router.add_get("/{file:.*}", self._file)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        for port in self._ports:
            try:
                await web.TCPSite(self._runner, self._host, port).start()
                bound = ip_address(self._runner.addresses[0][0].partition("%")[0])
                self._is_everywhere = bound.is_unspecified
                return self
            except (OSError, UnicodeError) as error:
                problem = ListenError(self._host, port, error)
        await self._runner.cleanup()
        raise problem

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.gather(*(stream.close() for stream in self._streams))
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The URL of the page."""
        port = self._runner.addresses[0][1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{port}/"

    async def show(self, view: View) -> None:
        """Switch to another view, on open pages as well."""
        self._view = view
        await asyncio.gather(*(stream.show(view) for stream in self._streams))

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Accept requests only for names of this machine, against DNS rebinding."""
        if not self._is_allowed(request.host):
            allowed = f"must be a name of loopback, or {self._host}"
            return web.Response(status=403, text=f"Host: {request.host!r}: {allowed}\n")
        return await handler(request)

    def _is_allowed(self, authority: str) -> bool:
        try:
            host = urlsplit(f"//{authority}").hostname or ""
        except ValueError:
            return False
        if host == "localhost" or host == self._host.lower():
            return True
        try:
            address = ip_address(host)
        except ValueError:
            return False
        # On all interfaces any IP address is accepted: DNS rebinding needs a name.
        return address.is_loopback or self._is_everywhere

    async def _file(self, request: web.Request) -> web.Response:
        if request.path not in self._files:
            return web.Response(status=404, text="not found\n")
        body, content_type = self._files[request.path]
        if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
            # On a visit from another site (Fetch Metadata), the user must start the requests.
            body = body.replace(b"<body>", b"<body data-waits>")
        return web.Response(body=body, content_type=content_type, charset="utf-8")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        # Any site may open a WebSocket; the Origin tells which site it is (RFC 6455 section 10.2).
        if request.headers.get("Origin") != f"http://{request.host}":
            return web.Response(status=403, text="Origin: must be that of the page\n")
        socket = web.WebSocketResponse(heartbeat=_HEARTBEAT, max_msg_size=_MAX_MESSAGE)
        await socket.prepare(request)
        stream = _Stream(socket, request.transport, self._view)
        if len(self._streams) >= MAX_STREAMS:
            # Browsers hide a failed handshake's status from scripts, so accept and then refuse.
            await stream.refuse(f"{MAX_STREAMS} pages are open already")
            return socket
        self._streams.add(stream)
        try:
            await stream.run()
        finally:
            self._streams.discard(stream)
        return socket


class _Stream:
    """One open page: receives its controls and sends it results."""

    def __init__(
        self, socket: web.WebSocketResponse, transport: asyncio.Transport | None, view: View
    ) -> None:
        self._socket = socket
        self._transport = transport
        self._view = view
        self._controls = Controls()
        self._consistency = Consistency(MAX_COMPARED)
        self._sender = Sender(view.load(self._controls))

    async def run(self) -> None:
        """Serve the stream until the page closes it."""
        await self._send_text(self._view.to_json())
        sending = asyncio.create_task(self._send_results())
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    await self._apply_controls(message.data)
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending

    async def show(self, view: View) -> None:
        """Switch to another view."""
        self._view = view
        self._consistency = Consistency(MAX_COMPARED)
        self._sender.change(view.load(self._controls))
        await self._send_text(view.to_json(self._controls))

    async def refuse(self, problem: str) -> None:
        """Send the reason for a refusal and close the stream."""
        await self._send_text(json.dumps({"type": "refused", "problem": problem}))
        await self.close()

    async def close(self) -> None:
        """Close the stream within a second; the page then tries to reconnect."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._socket.close()
        except TimeoutError:
            # The page does not read from its socket.
            if self._transport is not None:
                self._transport.abort()

    async def _send_text(self, text: str) -> None:
        # If the page has gone, `run` is about to end.
        with suppress(ConnectionError):
            await self._socket.send_str(text)

    async def _apply_controls(self, text: str) -> None:
        try:
            self._controls = Controls.from_json(text)
            weights = self._view.weights(self._controls)
            reply = {"type": "accepted", "weights": weights}
        except ValueError as error:
            # Send no requests until the controls are valid.
            self._controls = Controls()
            reply = {"type": "refused", "problem": str(error)}
        self._sender.change(self._view.load(self._controls))
        await self._send_text(json.dumps(reply))

    async def _send_results(self) -> None:
        try:
            async with aclosing(self._sender.results()) as results:
                async for result in results:
                    text = to_json(result, self._view, self._consistency)
                    await self._socket.send_str(text)
        except ConnectionError:
            # The page has gone; `run` is about to end.
            pass
        finally:
            await self.close()


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
