"""Child processes that drain when asked to, and that never outlive this one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Log = Callable[[str, str], None]
"""Takes the name of a process and a line that it wrote."""

# Reads until the pipe from this process closes, as it does however this process ends; then
# removes the folder and kills its own process group, in which all the other children are.
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
    """A running process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Log) -> None:
        self.name = name
        self.last_lines: list[str] = []
        self._process = process
        self._log = log
        self._reading = asyncio.create_task(self._read())

    @property
    def is_running(self) -> bool:
        """False once it has ended."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Wait until it ends; its exit code, or minus the number of the signal that ended it."""
        code = await self._process.wait()
        await self._reading
        return code

    async def stop(self, grace: float) -> None:
        """Send SIGTERM, and SIGKILL where that has not ended it within `grace` seconds."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(grace):
                await self.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self.wait()

    async def _read(self) -> None:
        stream = self._process.stdout
        while stream is not None:
            try:
                line = await stream.readline()
            except ValueError:
                continue  # longer than the limit
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip()
            self.last_lines = [*self.last_lines[1 - _KEPT_LINES :], text]
            self._log(self.name, text)


class Processes:
    """Starts processes in a group of their own, out of reach of the terminal's Ctrl-C.

    They are killed when this process ends, by whatever it ends, SIGKILL included, and `folder`
    is removed.
    """

    def __init__(self, folder: Path, log: Log) -> None:
        self._log = log
        self._guard = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-S", "-c", _GUARD, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            process_group=0,
        )

    async def start(
        self, name: str, command: list[str], env: Mapping[str, str], logged: bool = True
    ) -> Child:
        """Start a process with exactly these environment variables."""
        process = await asyncio.create_subprocess_exec(
            *command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=self._guard.pid,
            limit=_MAX_LINE,
        )
        return Child(name, process, self._log if logged else _drop)

    def close(self) -> None:
        """Kill what still runs and remove the folder."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.wait()
