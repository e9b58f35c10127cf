"""The processes of a run: pinned to cores, monitored, and all stopped at the end.

The handlers of SIGINT, SIGTERM and SIGHUP only store the signal; the wait functions check for it.
So a signal cannot come between the start of a process and its registration.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

ROOT: Final = Path(__file__).parents[1]
"""The repository, the working directory of all processes, so that they find the packages."""
STOP_TIMEOUT: Final = 12.0
"""Seconds between SIGTERM and SIGKILL, a little more than the hops' grace period."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL: Final = 0.02


class BenchError(Exception):
    """The run cannot continue. The text is one line for the user."""


class MissingError(BenchError):
    """A tool or package is missing on this machine."""


@dataclass(frozen=True, slots=True)
class Running:
    """A process of the run, and its output."""

    name: str
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    started: float
    """`time.perf_counter()` just before the start."""
    leads_session: bool
    """Whether it has a session of its own. If not, it has no children."""

    def cpu_times(self) -> dict[int, float]:
        """CPU time of the process and its children so far, in seconds, by process id."""
        # The id that clock_getcpuclockid(3) returns on Linux (2: CPUCLOCK_SCHED); Python lacks that
        # function. The clock counts nanoseconds, proc_pid_stat(5) only ticks.
        return {pid: time.clock_gettime(~pid << 3 | 2) for pid in self._session()}

    def resident_memory(self) -> int:
        """Resident set size of the process and its children, in bytes (proc_pid_status(5))."""
        statuses = [Path(f"/proc/{pid}/status").read_text("utf-8") for pid in self._session()]
        return sum(int(status.partition("VmRSS:")[2].split()[0]) for status in statuses) * 1024

    def written(self) -> str:
        """The output so far."""
        self.output.seek(0)
        return self.output.read().decode("utf-8", "replace")

    def _session(self) -> list[int]:
        """The process and its children: the session that it leads (credentials(7))."""
        if not self.leads_session:
            return [self.process.pid]
        return [pid for pid in _process_ids() if _session_id(pid) == self.process.pid]


class Processes:
    """Starts processes. The end of the block stops those that still run."""

    def __init__(self) -> None:
        self._running: list[Running] = []
        self._signal: int | None = None

    def __enter__(self) -> Self:
        self._handlers = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(list(self._running))
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def start(
        self,
        name: str,
        command: Sequence[str],
        cores: Collection[int],
        env: Mapping[str, str],
        *,
        own_session: bool = True,
    ) -> Running:
        """Start `command`, with all its threads and children, on `cores`.

        Without a session of its own, it shares the one of this run.
        """
        output = tempfile.TemporaryFile()  # noqa: SIM115
        own_cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores)
        started = time.perf_counter()
        try:
            process = subprocess.Popen(
                command,
                env=env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # In a group of its own it gets no Ctrl-C: this run stops it.
                start_new_session=own_session,
                process_group=None if own_session else 0,
            )
        finally:
            os.sched_setaffinity(0, own_cores)
        running = Running(name, process, output, started, own_session)
        self._running.append(running)
        return running

    def wait(self, running: Running, timeout: float) -> str:
        """Wait for the end of a process, and return its output.

        Raises:
            BenchError: it failed, or did not end within `timeout` seconds.
            KeyboardInterrupt: this process got a signal.
        """
        self.wait_until(lambda: running.process.poll() is not None, timeout, running.name)
        if running.process.returncode:
            raise self._failure(running)
        output = running.written()
        self._forget(running)
        return output

    def wait_until(
        self, is_true: Callable[[], bool], timeout: float, what: str, every: float = _POLL
    ) -> None:
        """Call `is_true` every `every` seconds until it returns True.

        Raises:
            BenchError: it did not within `timeout` seconds, or a process failed.
            KeyboardInterrupt: this process got a signal.
        """
        end = time.monotonic() + timeout
        while not is_true():
            if self._signal is not None:
                raise KeyboardInterrupt
            for running in self._running:
                if running.process.poll():
                    raise self._failure(running)
            if time.monotonic() > end:
                raise BenchError(f"{what}: not within {timeout:g} s")
            time.sleep(every)

    def stop(self, group: list[Running]) -> None:
        """Stop processes and their children with SIGTERM, and after `STOP_TIMEOUT` with SIGKILL."""
        for running in group:
            _send(running.process, signal.SIGTERM)
        end = time.monotonic() + STOP_TIMEOUT
        for running in group:
            try:
                running.process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                _send(running.process, signal.SIGKILL)
                running.process.wait()
            self._forget(running)

    def _forget(self, running: Running) -> None:
        running.output.close()
        self._running.remove(running)

    def _note(self, number: int, _: object) -> None:
        self._signal = number

    def _failure(self, running: Running) -> BenchError:
        last_line = (running.written().strip().splitlines() or ["no output"])[-1]
        return BenchError(f"{running.name}: exit code {running.process.returncode}: {last_line}")


def _send(process: subprocess.Popen[bytes], number: int) -> None:
    # It leads its process group. After wait(), its id may belong to another process.
    if process.poll() is None:
        os.killpg(process.pid, number)


def _process_ids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _session_id(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:  # it has just ended
        return None
