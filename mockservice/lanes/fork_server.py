"""Forks the pods off one process, `python -m mockservice.lanes.fork_server`.

It has imported the hop once, for all pods. So a pod starts in a tenth of the time that an
interpreter of its own would take, and shares most of its memory with the others.

Its standard input is a Unix socket. A request is the length of a JSON object, with which comes the
file descriptor for the pod's output, and then that object. On its standard output it says in a line
of JSON which pod has started, and which has ended.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import mockservice
from mockservice.lanes.errors import LanesError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

_LENGTH: Final = 8
"""Bytes of the length of a request."""
_MAX_COMM: Final = 15
"""Bytes of the name of a process (proc_pid_comm(5))."""

# Lets it import this package even if that is not installed.
_PYTHONPATH: Final = str(Path(mockservice.__file__).parents[1])


class Fork:
    """A pod that the fork server has started; used like an `asyncio.subprocess.Process`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the number of the signal; None while it runs."""
        return self._code.result() if self._code.done() else None

    async def wait(self) -> int:
        """Wait for the end; return the exit code."""
        return await asyncio.shield(self._code)

    def send_signal(self, number: int) -> None:
        """Send a signal.

        Raises:
            ProcessLookupError: it has ended.
        """
        # Its id may be that of another process then.
        if self._code.done():
            raise ProcessLookupError
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it has not ended by itself."""
        with suppress(ProcessLookupError):
            self.send_signal(signal.SIGKILL)

    def end(self, code: int) -> None:
        """Take note of its end."""
        self._code.set_result(code)


class ForkServer:
    """The fork server, as those see it who start pods. It runs from the start.

    Args:
        group: the process group for it and the pods.
    """

    def __init__(self, group: int) -> None:
        self._group = group
        self._numbers = itertools.count()
        self._connecting = asyncio.Lock()
        self._replies: asyncio.ReadTransport | None = None
        self._starting: dict[int, asyncio.Future[Fork]] = {}
        self._forks: dict[int, Fork] = {}
        self._reading: asyncio.Task[None] | None = None
        self._run()

    async def fork(self, name: str, env: Mapping[str, str], output: int) -> Fork:
        """Start a pod with only these environment variables.

        Args:
            name: what ps(1) shows of it.
            env: its environment.
            output: the file descriptor that it writes to.

        Raises:
            LanesError: the fork server has ended. The next call runs another one.
        """
        async with self._connecting:
            if self._reading is None:
                await self._connect()
        number = next(self._numbers)
        started: asyncio.Future[Fork] = asyncio.get_running_loop().create_future()
        self._starting[number] = started
        with suppress(BrokenPipeError, ConnectionResetError):
            # These block, but not for long: the fork server does nothing else than read.
            send(self._requests, number, name, env, output)
        try:
            return await started
        except EOFError:
            raise LanesError(f"{name} does not start: the fork server has ended") from None
        finally:
            self._starting.pop(number, None)

    def close(self) -> None:
        """Let it end, and wait for that. The pods go on."""
        if self._reading is not None:
            self._reading.cancel()
        if self._replies is not None:
            self._replies.close()
        elif self._process.stdout is not None:
            self._process.stdout.close()
        self._requests.close()
        self._process.wait()

    def _run(self) -> None:
        self._requests, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mockservice.lanes.fork_server"],
                env={"PYTHONPATH": _PYTHONPATH},
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                process_group=self._group,
            )

    async def _connect(self) -> None:
        if self._process.poll() is not None:
            self._requests.close()
            self._run()
        replies = asyncio.StreamReader()
        self._replies, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(replies), self._process.stdout
        )
        self._reading = asyncio.create_task(self._read(replies))

    async def _read(self, replies: asyncio.StreamReader) -> None:
        """Read who has started and who has ended, until the fork server ends."""
        async for line in replies:
            said = json.loads(line)
            pid = said["pid"]
            if "code" in said:
                self._forks.pop(pid).end(said["code"])
                continue
            self._forks[pid] = Fork(pid)
            started = self._starting.get(said["number"])
            if started is not None and not started.done():
                started.set_result(self._forks[pid])
            else:
                # Nobody waits for it any more, so nobody would end it.
                self._forks[pid].kill()
        self._reading = None
        self.close()
        # Nobody would tell of their end any more.
        for fork in self._forks.values():
            fork.kill()
            fork.end(-signal.SIGKILL)
        self._forks.clear()
        for started in self._starting.values():
            if not started.done():
                started.set_exception(EOFError())


def send(
    requests: socket.socket, number: int, name: str, env: Mapping[str, str], output: int
) -> None:
    """Ask a fork server for a pod; see `ForkServer.fork`. Its replies name the number."""
    body = json.dumps({"number": number, "name": name, "env": dict(env)}).encode()
    socket.send_fds(requests, [len(body).to_bytes(_LENGTH)], [output])
    requests.sendall(body)


def main() -> int:
    """Fork pods until there are no more requests.

    Returns:
        The exit code, 0.
    """
    from mockservice.serve import command

    # The pods share the memory of what is imported here.
    command.import_run(calls_https=True)

    requests = socket.socket(fileno=os.dup(0))
    replies = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    # SIGCHLD wakes select(2) by this pipe.
    wakeup, alarm = os.pipe()
    os.set_blocking(alarm, False)
    signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _ignore)
    # A collection would look at all that is there, and so unshare its memory.
    gc.collect()
    gc.freeze()
    while True:
        readable, _, _ = select.select([requests.fileno(), wakeup], [], [])
        if wakeup in readable:
            os.read(wakeup, 4096)
            _reap(replies)
        if requests.fileno() in readable:
            received = _receive(requests)
            if received is None:
                return 0
            request, output = received
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.dup2(output, 1)
                os.dup2(output, 2)
                os.closerange(3, max(requests.fileno(), replies, null, wakeup, alarm, output) + 1)
                _run(command.main, request)
            os.close(output)
            _reply(replies, {"number": request["number"], "pid": pid})


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Handle SIGCHLD: a signal without a handler does not get into the wakeup pipe."""


def _receive(requests: socket.socket) -> tuple[dict[str, Any], int] | None:
    """The next request, and the output of its pod; None where there is none."""
    length, outputs, _, _ = socket.recv_fds(requests, _LENGTH, 1, socket.MSG_WAITALL)
    if len(length) < _LENGTH:
        return None
    body = b""
    while missing := int.from_bytes(length) - len(body):
        part = requests.recv(missing)
        if not part:
            return None
        body += part
    return json.loads(body), outputs[0]


def _reap(replies: int) -> None:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            _reply(replies, {"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _reply(replies: int, said: dict[str, int]) -> None:
    os.write(replies, json.dumps(said).encode() + b"\n")


def _run(serve: Callable[[list[str]], int], request: dict[str, Any]) -> NoReturn:
    """Be the pod, and exit without returning: the code after the fork is for the parent."""
    exit_code = 1
    try:
        # ps(1) and top(1) show the name; only Linux has this file.
        with suppress(OSError):
            Path("/proc/self/comm").write_bytes(request["name"].encode()[:_MAX_COMM])
        os.environ.clear()
        os.environ.update(request["env"])
        exit_code = serve([])
    except Exception as error:  # reported, as nothing above handles it
        sys.stderr.write(f"mockservice: {type(error).__name__}: {error}\n")
    finally:
        sys.stderr.flush()
        os._exit(exit_code)


if __name__ == "__main__":
    sys.exit(main())
