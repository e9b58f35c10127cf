"""The limit of a hop on uvloop and httptools: it checks nothing, counts nothing and has no timeout.

It reads the same environment variables as mockservice, carries the same headers and answers the
same text. Its upstream must be given by address.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import httptools
import uvloop

from mockservice.propagation import CARRIED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ENV: Mapping[str, str] = os.environ
LINE = f"-> {ENV['app']}(version: {ENV['version']}, ip: {ENV['host']})".encode()
UPSTREAM = urlsplit(ENV.get("upstream_url", ""))
HEAD = f"GET {UPSTREAM.path} HTTP/1.1\r\nHost: {UPSTREAM.netloc}\r\n".encode()

idle: list[Upstream] = []


class Client(asyncio.Protocol):
    """A client's connection, with one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.carried = [HEAD]

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in CARRIED:
            self.carried.append(b"%b: %b\r\n" % (name, value))

    def on_message_complete(self) -> None:
        if not UPSTREAM.netloc:
            self.answer(b"")
            return
        self.carried.append(b"\r\n")
        request = b"".join(self.carried)
        if idle:
            idle.pop().send(request, self.answer)
        else:
            self.connecting = asyncio.ensure_future(self.connect(request))

    async def connect(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        host, port = UPSTREAM.hostname or "", UPSTREAM.port or 80
        _, upstream = await loop.create_connection(Upstream, host, port)
        upstream.send(request, self.answer)

    def answer(self, rest: bytes) -> None:
        # At its end wrk leaves with requests in flight. To write would raise, into the upstream's
        # connection, and close that one.
        if self.transport.is_closing():
            return
        body = LINE + rest
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )


class Upstream(asyncio.Protocol):
    """A connection to the upstream, with one call at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.parser = httptools.HttpResponseParser(self)

    def send(self, request: bytes, done: Callable[[bytes], None]) -> None:
        """Send `request`, and call `done` with the body of the answer."""
        self.body = b""
        self.done = done
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        idle.append(self)
        self.done(self.body)


async def main() -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await loop.create_server(Client, ENV["host"], int(ENV["port"]))
    await stop.wait()


if __name__ == "__main__":
    uvloop.run(main())
