"""What a hop's process costs, and what it says, seen from outside."""

from __future__ import annotations

import json
import re
import resource
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.running import RunningHop, running

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024

EXIT_TIMEOUT = 14.0
"""Seconds from SIGTERM to the end: ten of draining, three of flushing, one for the machine."""

_KEPT = 64 * 1024


def memory(hop: RunningHop) -> int:
    """Bytes that are resident (proc_pid_statm(5))."""
    return int(_read(hop, "statm").split()[1]) * resource.getpagesize()


def peak_memory(hop: RunningHop) -> int:
    """Bytes that were resident at most (proc_pid_status(5))."""
    found = re.search(r"VmHWM:\s+(\d+) kB", _read(hop, "status"))
    assert found
    return int(found[1]) * 1024


def forget_peak(hop: RunningHop) -> int:
    """Begin to take `peak_memory` anew; bytes that are resident now (proc_pid_clear_refs(5))."""
    Path(f"/proc/{hop.process.pid}/clear_refs").write_text("5")
    return memory(hop)


def descriptors(hop: RunningHop) -> int:
    """Open file descriptors (proc_pid_fd(5))."""
    return sum(1 for _ in Path(f"/proc/{hop.process.pid}/fd").iterdir())


def _read(hop: RunningHop, file: str) -> str:
    return Path(f"/proc/{hop.process.pid}/{file}").read_text()


class Said:
    """What a hop says on standard error; read as it comes, as a full pipe would block the hop."""

    def __init__(self, hop: RunningHop) -> None:
        self.lines = 0
        self._end = b""
        self._crash = b""
        self._hop = hop
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        stream = self._hop.process.stderr
        assert stream is not None
        with stream:
            for line in stream:
                self.lines += 1
                if _tells_of_crash(line) if not self._crash else len(self._crash) < _KEPT:
                    self._crash += line
                self._end = (self._end + line)[-_KEPT:]

    def wait(self) -> None:
        """Until all is read that a hop has said that has ended."""
        self._reader.join(EXIT_TIMEOUT)
        assert not self._reader.is_alive()

    @property
    def crashed(self) -> str:
        """The first line that tells of an exception nobody caught, and what followed; or empty."""
        return self._crash.decode(errors="replace")

    @property
    def end(self) -> str:
        """The last lines."""
        return self._end.decode(errors="replace")


def _tells_of_crash(line: bytes) -> bool:
    """Whether a line is none of the hop's own, or one about what its event loop had to catch."""
    try:
        told = json.loads(line)
    except ValueError:
        return True
    is_line = isinstance(told, dict)
    return not is_line or "exception_stacktrace" in told or told.get("logger") == "asyncio"


@contextmanager
def heard(app: str = "mocka", **env: str) -> Iterator[tuple[RunningHop, Said]]:
    """A running hop whose words are read."""
    with running(app, **env) as hop:
        yield hop, Said(hop)


def stop(*hops: RunningHop) -> tuple[bool, float]:
    """End hops with SIGTERM: whether all exited with 0, and the seconds that the slowest took."""
    begin = time.monotonic()
    for hop in hops:
        hop.process.terminate()
    codes = [hop.process.wait(3 * EXIT_TIMEOUT) for hop in hops]
    return codes == [0] * len(hops), time.monotonic() - begin
