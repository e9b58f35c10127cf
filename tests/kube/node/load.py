"""A load at a steady rate, every answer of which is read and judged."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable

RATE: Final = 100
"""Requests per second."""

_KEPT: Final = 8
_TIMEOUT: Final = 10.0
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection: close\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that got a wrong answer, or none."""

    at: float
    """When it was sent, by `time.monotonic`."""
    text: str
    """The answer, or what happened instead."""


class Load:
    """Sends `RATE` requests per second while its block runs; nothing is sent twice.

    Every other request has a connection of its own; the rest use eight that are kept.

    Args:
        address: where to.
        is_right: whether an answer of this status and body is what there should be.
    """

    def __init__(self, address: str, is_right: Callable[[int, bytes], bool]) -> None:
        self.answered = 0
        """Right answers."""
        self.failed: list[Failed] = []
        self.recent: deque[bytes] = deque(maxlen=2 * RATE)
        """The right answers of the last two seconds."""
        self.seconds = 0.0
        """How long it took."""
        self._address = address
        self._is_right = is_right
        self._kept: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    @property
    def found(self) -> str:
        """What came of it, in words."""
        return f"{len(self.failed)} of {self.answered + len(self.failed):,} requests lost"

    async def _run(self) -> None:
        began = time.monotonic()
        tasks: set[asyncio.Task[None]] = set()
        sent = 0
        while not self._stopped.is_set():
            task = asyncio.create_task(self._send(is_kept=sent % 2 == 0))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            sent += 1
            await asyncio.sleep(max(0.0, began + sent / RATE - time.monotonic()))
        await asyncio.gather(*tasks)
        self.seconds = time.monotonic() - began
        for _, writer in self._kept:
            writer.close()

    async def _send(self, *, is_kept: bool) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(_TIMEOUT):
                status, body = await self._ask(is_kept)
        except (OSError, EOFError) as error:
            self.failed.append(Failed(began, repr(error)))
            return
        if self._is_right(status, body):
            self.answered += 1
            self.recent.append(body)
        else:
            self.failed.append(Failed(began, f"{status}: {body.decode(errors='replace')}"))

    async def _ask(self, is_kept: bool) -> tuple[int, bytes]:
        reader, writer = await self._connection(is_kept)
        more = b"" if is_kept else b"Connection: close\r\n"
        try:
            writer.write(b"GET /mock HTTP/1.1\r\nHost: mocka\r\n" + more + b"\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1]) if length else 0)
        except BaseException:
            writer.close()
            raise
        if is_kept and _CLOSE.search(head) is None:
            self._kept.append((reader, writer))
        else:
            writer.close()
        return int(head.split(b" ", 2)[1]), body

    async def _connection(self, is_kept: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while is_kept and len(self._kept) >= _KEPT:
            reader, writer = self._kept.popleft()
            # The other end may close what nobody uses.
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._address, 8000)
