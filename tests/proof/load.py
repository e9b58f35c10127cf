"""A load that reads and checks every answer, over connections that are kept."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable

GET = (
    b"GET /mock HTTP/1.1\r\nHost: mocka\r\nx-asm-prefer-tag: v1\r\n"
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"
)

_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n(?:[A-Za-z0-9-]+: [^\r\n]*\r\n)*\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: close\r\n", re.IGNORECASE)
_RETRY = 0.02
_CHECK_EVERY = 0.1
_MAX_FAILURES = 100_000


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that got no answer, or a wrong one."""

    began: float
    ended: float
    """By `time.monotonic`."""
    status: int | None
    """None: no answer came."""
    text: str
    """The answer's body, or what happened instead."""


class Load:
    """Keeps `connections` times `depth` requests under way, until `count` are done or `stop`.

    Args:
        address: where to.
        is_right: whether an answer of this status and body is what there should be.
        port: where to.
        request: what to send.
        connections: how many to keep.
        depth: how many requests each has under way at once.
        count: how many requests to send; None for as many as there is time for.
        timeout: seconds without any answer after which a connection is given up.
        pause: seconds from an answer to the next request; only with a depth of 1.
    """

    def __init__(
        self,
        address: str,
        is_right: Callable[[int, bytes], bool],
        *,
        port: int = 8000,
        request: bytes = GET,
        connections: int = 8,
        depth: int = 1,
        count: int | None = None,
        timeout: float = 10.0,
        pause: float = 0.0,
    ) -> None:
        self.answered = 0
        """Right answers."""
        self.failed: list[Failed] = []
        self.seconds = 0.0
        """How long `run` took."""
        self.is_right = is_right
        self.request = request
        self.depth = depth
        self.timeout = timeout
        self.pause = pause
        self.last = b""
        """The last right answer, whole: another one that is the same is right."""
        self._where = (address, port)
        self._connections = connections
        self._left = count
        self._over = asyncio.Event()
        self._wires: set[_Wire] = set()
        self._connecting: set[asyncio.Future[None]] = set()

    @property
    def done(self) -> int:
        """Requests that came to an end."""
        return self.answered + len(self.failed)

    def stop(self) -> None:
        """Send no more; `run` ends once what is under way has ended."""
        self._left = 0
        self._check_over()

    async def run(self) -> None:
        """Send, until all is done."""
        began = time.monotonic()
        for _ in range(self._connections):
            await self.connect()
        while not self._over.is_set():
            try:
                await asyncio.wait_for(self._over.wait(), _CHECK_EVERY)
            except TimeoutError:
                now = time.monotonic()
                for wire in list(self._wires):
                    wire.check_time(now)
                self._check_over()
        for wire in list(self._wires):
            wire.close()
        self.seconds = time.monotonic() - began

    async def connect(self) -> None:
        """Open a connection, again and again; each attempt that fails is a failed request."""
        loop = asyncio.get_running_loop()
        while self._left != 0:
            began = time.monotonic()
            try:
                async with asyncio.timeout(self.timeout):
                    await loop.create_connection(lambda: _Wire(self), *self._where)
            except OSError as error:
                if self.take(1):
                    self.fail(Failed(began, time.monotonic(), None, repr(error)))
                await asyncio.sleep(_RETRY)
            else:
                return

    def take(self, count: int) -> int:
        """How many of `count` further requests are to be sent."""
        if self._left is None:
            return count
        taken = min(count, self._left)
        self._left -= taken
        return taken

    def fail(self, failed: Failed) -> None:
        """Note a failed request."""
        self.failed.append(failed)
        if len(self.failed) == _MAX_FAILURES:
            self._left = 0

    def opened(self, wire: _Wire) -> None:
        """Note a new connection."""
        self._wires.add(wire)

    def closed(self, wire: _Wire) -> None:
        """Note the end of a connection."""
        self._wires.discard(wire)
        self._check_over()
        if not self._over.is_set():
            task = asyncio.ensure_future(self.connect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _check_over(self) -> None:
        if self._left == 0 and not any(wire.under_way for wire in self._wires):
            self._over.set()

    def ended(self) -> None:
        """Note that a connection has nothing more to send."""
        self._check_over()


class _Wire(asyncio.Protocol):
    """One of the connections."""

    def __init__(self, load: Load) -> None:
        self.under_way = 0
        self._load = load
        self._buffer = b""
        self._since = time.monotonic()
        self._why = "connection lost"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._load.opened(self)
        self._send(self._load.depth)

    def close(self) -> None:
        self._transport.close()

    def check_time(self, now: float) -> None:
        if self.under_way and now - self._since > self._load.timeout:
            self._why = f"no answer within {self._load.timeout:g} s"
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        now = time.monotonic()
        why = self._why if exc is None else repr(exc)
        for _ in range(self.under_way):
            self._load.fail(Failed(self._since, now, None, why))
        self.under_way = 0
        self._load.closed(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        load = self._load
        ended = 0
        if load.last:
            # Many answers at once, each the same as the one before.
            count = len(self._buffer) // len(load.last)
            if count and self._buffer.startswith(load.last * count):
                self._buffer = self._buffer[count * len(load.last) :]
                load.answered += count
                ended = count
        while self._buffer and self._next():
            ended += 1
        if ended > self.under_way:
            self._why = "more answers than requests"
            load.fail(Failed(self._since, time.monotonic(), None, self._why))
            ended = self.under_way
        if ended:
            self.under_way -= ended
            if load.pause:
                asyncio.get_running_loop().call_later(load.pause, self._send, ended)
            else:
                self._send(ended)

    def _send(self, count: int) -> None:
        self._since = time.monotonic()
        if self._transport.is_closing():
            return
        count = self._load.take(count)
        if count:
            self.under_way += count
            self._transport.write(self._load.request * count)
        else:
            self._load.ended()

    def _next(self) -> bool:
        """Check the next answer, if it is there."""
        buffer, load = self._buffer, self._load
        end = buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return False
        head = _HEAD.fullmatch(buffer, 0, end)
        length = _LENGTH.search(buffer, 0, end)
        if head is None or length is None:
            self._why = f"not HTTP: {buffer[:end]!r}"
            self._buffer = b""
            self._transport.abort()
            return False
        whole = end + int(length[1])
        if len(buffer) < whole:
            return False
        status, body = int(head[1]), buffer[end:whole]
        self._buffer = buffer[whole:]
        if _CLOSE.search(buffer, 0, end):
            self._transport.close()
        if load.is_right(status, body):
            load.answered += 1
            load.last = buffer[:whole]
        else:
            text = body.decode(errors="replace")
            load.fail(Failed(self._since, time.monotonic(), status, text))
        return True
