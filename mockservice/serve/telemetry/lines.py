"""Writes log lines in a thread, so that no request waits for standard error.

If the destination is slow, lines wait in a queue of limited length, and more lines are dropped.
Lines that are dropped or could not be written are counted. A later line reports their number.
"""

from __future__ import annotations

import os
import select
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WAITING: Final = 4096
"""Cap on the lines in the queue. More are dropped."""

MAX_LINE: Final = select.PIPE_BUF
"""Cap on a line, in bytes: a pipe takes as many at once, without mixing them with other writers'
(pipe(7))."""


class Lines:
    """Writes lines to a file descriptor. The thread starts with the first line."""

    def __init__(self, descriptor: int, tell_lost: Callable[[int], bytes]) -> None:
        """`tell_lost` makes the line that reports how many lines were lost."""
        self._descriptor = descriptor
        self._tell_lost = tell_lost
        self._waiting: SimpleQueue[bytes | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._lost = 0
        self._thread: threading.Thread | None = None

    def put(self, line: bytes) -> None:
        """Queue `line`, which must end in a line end. Thread-safe, never waits."""
        if self._waiting.qsize() >= MAX_WAITING:
            self._lose(1)
            return
        self._waiting.put(line)
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    # A daemon, as the destination may block it forever.
                    self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
                    self._thread.start()

    def close(self, timeout: float) -> None:
        """Write the queued lines within `timeout` seconds, and stop."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(timeout)

    def _run(self) -> None:
        line = self._waiting.get()
        while line is not None:
            batch = [line]
            size = len(line)
            try:
                while (line := self._waiting.get_nowait()) and size + len(line) <= MAX_LINE:
                    batch.append(line)
                    size += len(line)
            except Empty:
                self._write(batch)
                line = self._waiting.get()
            else:
                self._write(batch)
        # Report what is lost.
        self._write([])

    def _write(self, batch: list[bytes]) -> None:
        with self._lock:
            lost, self._lost = self._lost, 0
        if not self._written(b"".join(batch)):
            self._lose(lost + len(batch))
        elif lost and not self._written(self._tell_lost(lost)):
            self._lose(lost)

    def _written(self, data: bytes) -> bool:
        """Write `data`; whether all of it was written."""
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                # Another process that shares the descriptor has made it non-blocking.
                select.select([], [self._descriptor], [])
            except OSError:
                return False
        return True

    def _lose(self, lines: int) -> None:
        with self._lock:
            self._lost += lines
