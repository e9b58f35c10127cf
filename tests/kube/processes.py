"""Processes that run until the end of a test, each with a log of its own."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_STOP_TIMEOUT: Final = 20.0
_LINES: Final = 5


class BrokenError(Exception):
    """What a test needs does not run. Its text says what, and the end of its log."""


class Processes:
    """Processes that end with the block, the last one first.

    Args:
        folder: where their logs go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self._started)):
            self.stop(name)

    def start(self, name: str, *command: str | Path) -> None:
        """Start a process. It ends with this one, even if this one is killed."""
        with (self._folder / f"{name}.log").open("wb") as log:
            self._started[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *map(str, command)],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def stop(self, name: str) -> None:
        """End a process with SIGTERM, or else with SIGKILL."""
        process = self._started.pop(name)
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def wait(self, what: str, is_true: Callable[[], bool], timeout: float) -> float:
        """Wait until `is_true`. Errors of the system count as False.

        Returns:
            The seconds that it took.

        Raises:
            BrokenError: it took longer than `timeout` seconds, or a process has ended meanwhile.
        """
        began = time.monotonic()
        while True:
            with suppress(OSError):
                if is_true():
                    return time.monotonic() - began
            for name, process in self._started.items():
                if process.poll() is not None:
                    raise BrokenError(
                        f"{name} ended with {process.returncode}\n{self.end_of_log(name)}"
                    )
            if time.monotonic() - began > timeout:
                logs = "".join(f"\n{name}:\n{self.end_of_log(name)}" for name in self._started)
                raise BrokenError(f"{what}: not within {timeout:.0f} s{logs}")
            time.sleep(0.2)

    def end_of_log(self, name: str) -> str:
        """The last lines that a process wrote."""
        lines = (self._folder / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(f"  {line[:300]}" for line in lines[-_LINES:])
