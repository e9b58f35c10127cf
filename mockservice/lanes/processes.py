"""Child processes that drain on SIGTERM and never outlive this process."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from mockservice.lanes.errors import LanesError
from mockservice.lanes.fork_server import ForkServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mockservice.lanes.fork_server import Fork

Log = Callable[[str, str], None]
"""Called with the name of a process and a line of its output."""

# The guard waits until the pipe from this process closes, which happens however this process ends.
# Then it removes the folder and kills its process group, which contains all other children.
_GUARD: Final = """\
import os, shutil, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.read(0, 1)
shutil.rmtree(sys.argv[1], ignore_errors=True)
os.killpg(0, signal.SIGKILL)
"""
_MAX_LINE: Final = 1024 * 1024
_KEPT_LINES: Final = 5


def _drop(_name: str, _line: str) -> None:
    pass


class Child:
    """A running process, and the stream of its output."""

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process | Fork,
        output: asyncio.StreamReader,
        log: Log,
    ) -> None:
        self.name = name
        self.last_lines: list[str] = []
        self._process = process
        self._output = output
        self._log = log
        self._reading = asyncio.create_task(self._read())

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Wait for the end; return the exit code, or minus the number of the signal."""
        code = await self._process.wait()
        await self._reading
        return code

    async def stop(self, grace: float) -> None:
        """Send SIGTERM, and SIGKILL if the process still runs after `grace` seconds."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                await self.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            await self.wait()

    async def _read(self) -> None:
        while True:
            try:
                line = await self._output.readline()
            except ValueError:
                continue  # longer than the limit
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip()
            self.last_lines = [*self.last_lines[1 - _KEPT_LINES :], text]
            self._log(self.name, text)


class Processes:
    """Starts processes in a process group of their own, which the terminal's Ctrl-C does not reach.

    However this process ends, even by SIGKILL, a guard kills the others and removes `folder`.
    """

    def __init__(self, folder: Path, log: Log) -> None:
        self._log = log
        self._started: list[Child] = []
        with _may_open_too_many_files("the first process"):
            self._guard = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", "-c", _GUARD, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                process_group=0,
            )
            self._fork_server = ForkServer(self._guard.pid)

    async def start(
        self, name: str, command: list[str], env: Mapping[str, str], logged: bool = True
    ) -> Child:
        """Start a process with only these environment variables.

        Raises:
            LanesError: too many files are open.
        """
        starting = asyncio.create_task(self._start(name, command, env, logged))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # asyncio itself would leave a process behind, and notice its end when it is too late.
            await asyncio.wait({starting})
            raise

    async def _start(
        self, name: str, command: list[str], env: Mapping[str, str], logged: bool
    ) -> Child:
        with _may_open_too_many_files(name):
            process = await asyncio.create_subprocess_exec(
                *command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=self._guard.pid,
                limit=_MAX_LINE,
            )
        assert process.stdout is not None
        child = Child(name, process, process.stdout, self._log if logged else _drop)
        self._started = [*(one for one in self._started if one.is_running), child]
        return child

    async def stop(self) -> None:
        """Kill what has been started with `start` and still runs, and wait for its end."""
        for child in self._started:
            await child.stop(grace=0)

    async def start_pod(self, name: str, env: Mapping[str, str]) -> Child:
        """Start a hop with only these environment variables.

        Raises:
            LanesError: it cannot be started.
        """
        with _may_open_too_many_files(name):
            reading, writing = os.pipe()
        output = asyncio.StreamReader(limit=_MAX_LINE)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), os.fdopen(reading, "rb", 0)
        )
        try:
            process = await self._fork_server.fork(name, env, writing)
        except BaseException:
            transport.close()
            raise
        finally:
            os.close(writing)
        return Child(name, process, output, self._log)

    def close(self) -> None:
        """Kill all remaining processes and remove the folder."""
        self._fork_server.close()
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.wait()


@contextmanager
def _may_open_too_many_files(name: str) -> Iterator[None]:
    """Say what to do where a process cannot be started because too many files are open."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        advice = "allow more with ulimit -n, or run fewer replicas"
        raise LanesError(f"{name} does not start: too many open files; {advice}") from None
