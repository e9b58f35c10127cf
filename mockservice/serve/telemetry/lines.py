"""Lines on their way to standard error, written by a thread, so that no request waits for it.

A destination that is slow holds up that thread alone: lines then wait, so many and no more, and
the rest is dropped. What is dropped, and what a destination that fails did not take, is counted,
and told in a line of its own once one can be written again.
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
"""Lines that wait at most; more are dropped."""

MAX_LINE: Final = select.PIPE_BUF
"""Bytes of a line: so many go into a pipe as a whole, whoever else writes (pipe(7))."""


class Lines:
    """Writes lines to a file descriptor. The thread starts with the first of them."""

    def __init__(self, descriptor: int, tell_lost: Callable[[int], bytes]) -> None:
        """`tell_lost` makes the line that says how many were lost."""
        self._descriptor = descriptor
        self._tell_lost = tell_lost
        self._waiting: SimpleQueue[bytes | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._lost = 0
        self._thread: threading.Thread | None = None

    def put(self, line: bytes) -> None:
        """Have `line`, which ends in a line end, written. Returns at once, in any thread."""
        if self._waiting.qsize() >= MAX_WAITING:
            self._lose(1)
            return
        self._waiting.put(line)
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    # One that nobody waits for at exit, as the destination may hold it for ever.
                    self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
                    self._thread.start()

    def close(self, timeout: float) -> None:
        """Write what waits, within `timeout` seconds, and stop."""
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
        # What is still to be told.
        self._write([])

    def _write(self, batch: list[bytes]) -> None:
        with self._lock:
            lost, self._lost = self._lost, 0
        if not self._written(b"".join(batch)):
            self._lose(lost + len(batch))
        elif lost and not self._written(self._tell_lost(lost)):
            self._lose(lost)

    def _written(self, data: bytes) -> bool:
        """Whether all of `data` could be written."""
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                # Whoever shares it has made it so.
                select.select([], [self._descriptor], [])
            except OSError:
                return False
        return True

    def _lose(self, lines: int) -> None:
        with self._lock:
            self._lost += lines
