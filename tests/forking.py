"""Hops that start fast: forked off `mockservice.lanes.fork_server`, as local lanes fork pods."""

from __future__ import annotations

import atexit
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from functools import cache
from typing import IO, TYPE_CHECKING

from mockservice.lanes import fork_server

if TYPE_CHECKING:
    from collections.abc import Mapping

_START_TIMEOUT = 20.0
"""Seconds for a fork server to import the hop on a busy machine."""

# What the hop would import as it starts, in the same order.
_IMPORTS = """\
from mockservice.serve import command
command.import_run({calls_https})
{tracing}
from mockservice.lanes import fork_server
fork_server.main()
"""


class Fork:
    """A forked hop; used like a `subprocess.Popen`."""

    def __init__(self, stderr: IO[bytes]) -> None:
        self.stderr = stderr
        """What it writes to standard output too."""
        self.started: Future[int] = Future()
        """Its process id."""
        self.ended: Future[int] = Future()
        """Its exit code, or minus the number of the signal that ended it."""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.started.result(_START_TIMEOUT)

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the number of the signal; None while it runs."""
        return self.ended.result() if self.ended.done() else None

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit code.

        Raises:
            TimeoutError: it still runs after `timeout` seconds.
        """
        return self.ended.result(timeout)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        # Its id may be that of another process then.
        if not self.ended.done():
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def fork(env: Mapping[str, str]) -> Fork:
    """Start a hop with only these environment variables.

    What is imported before it is forked is what the command would import for these settings.
    """
    calls_https = "https:" in env.get("upstream_url", "")
    return _server(calls_https, "OTEL_EXPORTER_OTLP_ENDPOINT" in env).fork(env)


class _ForkServer:
    """A fork server for hops of one kind.

    The lanes' own client of it, `mockservice.lanes.fork_server.ForkServer`, takes an event loop.
    """

    def __init__(self, calls_https: bool, is_traced: bool) -> None:
        self._numbers = itertools.count()
        self._starting: dict[int, Fork] = {}
        self._sending = threading.Lock()
        imports = _IMPORTS.format(
            calls_https=calls_https,
            tracing="import mockservice.serve.telemetry.tracing" if is_traced else "",
        )
        self._requests, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", imports],
                env={"PATH": os.environ["PATH"]},
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                process_group=0,
            )
        threading.Thread(target=self._read, daemon=True).start()

    def fork(self, env: Mapping[str, str]) -> Fork:
        """Start a hop."""
        number = next(self._numbers)
        reading, writing = os.pipe()
        hop = self._starting[number] = Fork(os.fdopen(reading, "rb"))
        with self._sending:
            fork_server.send(self._requests, number, env["app"], env, writing)
        os.close(writing)
        hop.started.result(_START_TIMEOUT)
        return hop

    def close(self) -> None:
        """Let it end, and wait for that."""
        self._requests.close()
        self._process.wait()

    def _read(self) -> None:
        running: dict[int, Fork] = {}
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            pid = said["pid"]
            if "code" in said:
                running.pop(pid).ended.set_result(said["code"])
            else:
                running[pid] = self._starting.pop(said["number"])
                running[pid].started.set_result(pid)


@cache
def _server(calls_https: bool, is_traced: bool) -> _ForkServer:
    server = _ForkServer(calls_https, is_traced)
    atexit.register(server.close)
    return server
