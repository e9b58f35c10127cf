"""A client that does all as it should: `python -m tests.proof.canary ADDRESS`.

For each number on standard input it sends requests for so many seconds, and prints how many were
answered, how many were not, and the median of the seconds that an answer took.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIMEOUT = 10.0
_PAUSE = 0.002
_NEW_EVERY = 20
"""Of so many requests one goes over a new connection."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of a while."""

    answered: int
    failed: int
    median: float
    """Seconds."""


class Canary:
    """The process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def sing(self, seconds: float) -> Measured:
        """Send requests for a while."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        answered, failed, middle = self._process.stdout.readline().split()
        return Measured(int(answered), int(failed), float(middle))


@contextmanager
def canary(address: str) -> Iterator[Canary]:
    """A canary, ended with the block."""
    command = [sys.executable, "-m", "tests.proof.canary", address]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Canary(process)
        assert process.stdin is not None
        process.stdin.close()


def _measure(connection: http.client.HTTPConnection, seconds: float) -> Measured:
    times: list[float] = []
    failed = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        if len(times) % _NEW_EVERY == 0:
            connection.close()
        begin = time.perf_counter()
        try:
            connection.request("GET", "/canary")
            response = connection.getresponse()
            if response.read().startswith(b"-> mocka(") and response.status == 200:
                times.append(time.perf_counter() - begin)
            else:
                failed += 1
        except (OSError, http.client.HTTPException):
            failed += 1
            connection.close()
        time.sleep(_PAUSE)
    return Measured(len(times), failed, median(times) if times else _TIMEOUT)


def main(address: str) -> None:
    """Serve standard input."""
    connection = http.client.HTTPConnection(address, 8000, timeout=_TIMEOUT)
    for line in sys.stdin:
        measured = _measure(connection, float(line))
        sys.stdout.write(f"{measured.answered} {measured.failed} {measured.median}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
