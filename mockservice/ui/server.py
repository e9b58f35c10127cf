"""The page's server: the files of the page, and a stream of results for each page that is open.

A page asks for a stream with a WebSocket (RFC 6455), on which it says rate, pause and headers, and
gets the view and the results. A load runs for as long as its stream does: without a page that is
open nothing is sent.
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

from mockservice.probe.load import Sender
from mockservice.ui.seen import to_json
from mockservice.ui.view import Controls

if TYPE_CHECKING:
    from types import TracebackType

    from aiohttp.typedefs import Handler

    from mockservice.ui.view import View

PORT: Final = 8090
MAX_STREAMS: Final = 8
"""Pages that may be open at once."""

_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    # Nothing from elsewhere, nothing inline, no text that becomes markup (CSP Level 3; Trusted
    # Types), and no frame around it.
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
    """Nothing can listen at host and port; its text is one line for the user."""

    def __init__(self, host: str, port: int, error: OSError | UnicodeError) -> None:
        number = getattr(error, "errno", None)
        if number in (errno.EADDRINUSE, errno.EACCES):
            reason = os.strerror(number).lower()
            super().__init__(f"--port: '{port}': must be free at {host} ({reason})")
        else:
            super().__init__(f"--host: {host!r}: must be an address or a name of this machine")


class PageServer:
    """Serves the page of a view, from `async with` to its end.

    Args:
        view: what to show.
        host: the address or name to listen at, which the page then answers to.
        port: None for `PORT` or, where that is taken, a free one.

    Raises, from `async with`:
        ListenError: nothing can listen at `host` and `port`.
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
        """Where the page is."""
        port = self._runner.addresses[0][1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{port}/"

    async def show(self, view: View) -> None:
        """Show another view from now on, on the pages that are open too."""
        self._view = view
        await asyncio.gather(*(stream.show(view) for stream in self._streams))

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer to the names of this machine only, whatever name the DNS gave its address."""
        if not self._answers_to(request.host):
            allowed = f"must be a name of loopback, or {self._host}"
            return web.Response(status=403, text=f"Host: {request.host!r}: {allowed}\n")
        return await handler(request)

    def _answers_to(self, authority: str) -> bool:
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
        # At all interfaces any address will do: there is no name to be bound to another.
        return address.is_loopback or self._is_everywhere

    async def _file(self, request: web.Request) -> web.Response:
        if request.path not in self._files:
            return web.Response(status=404, text="not found\n")
        body, content_type = self._files[request.path]
        if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
            # Another site's page may lead here (Fetch Metadata); to send is for the user to say.
            body = body.replace(b"<body>", b"<body data-waits>")
        return web.Response(body=body, content_type=content_type, charset="utf-8")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        # Browsers say whose script asks, and let any page ask (RFC 6455 section 10.2).
        if request.headers.get("Origin") != f"http://{request.host}":
            return web.Response(status=403, text="Origin: must be that of the page\n")
        socket = web.WebSocketResponse(heartbeat=_HEARTBEAT, max_msg_size=_MAX_MESSAGE)
        await socket.prepare(request)
        stream = _Stream(socket, request.transport, self._view)
        if len(self._streams) >= MAX_STREAMS:
            # Browsers keep the status of a handshake to themselves.
            await stream.refuse(f"{MAX_STREAMS} pages are open already")
            return socket
        self._streams.add(stream)
        try:
            await stream.run()
        finally:
            self._streams.discard(stream)
        return socket


class _Stream:
    """One open page: its controls come in, results go out."""

    def __init__(
        self, socket: web.WebSocketResponse, transport: asyncio.Transport | None, view: View
    ) -> None:
        self._socket = socket
        self._transport = transport
        self._view = view
        self._controls = Controls()
        self._sender = Sender(view.load(self._controls))

    async def run(self) -> None:
        """Until the page closes the stream."""
        await self._say(self._view.to_json())
        sending = asyncio.create_task(self._send())
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    await self._control(message.data)
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending

    async def show(self, view: View) -> None:
        """Show another view from now on."""
        self._view = view
        self._sender.change(view.load(self._controls))
        await self._say(view.to_json())

    async def refuse(self, problem: str) -> None:
        """Say why there is no stream, and close it."""
        await self._say(json.dumps({"type": "refused", "problem": problem}))
        await self.close()

    async def close(self) -> None:
        """Close the stream, within a second; the page will try again for a while."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._socket.close()
        except TimeoutError:
            # The page does not read what it is sent.
            if self._transport is not None:
                self._transport.abort()

    async def _say(self, text: str) -> None:
        # A page that has gone is about to end `run`.
        with suppress(ConnectionError):
            await self._socket.send_str(text)

    async def _control(self, text: str) -> None:
        said = {"type": "accepted"}
        try:
            self._controls = Controls.from_json(text)
        except ValueError as error:
            # Until they are right nothing is sent, so that nobody is surprised by what is.
            self._controls = Controls()
            said = {"type": "refused", "problem": str(error)}
        self._sender.change(self._view.load(self._controls))
        await self._say(json.dumps(said))

    async def _send(self) -> None:
        try:
            async with aclosing(self._sender.results()) as results:
                async for result in results:
                    await self._socket.send_str(to_json(result, self._view))
        except ConnectionError:
            # The page has gone, which `run` is about to see.
            pass
        finally:
            await self.close()


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
