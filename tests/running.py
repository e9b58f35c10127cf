"""Real processes and sockets for the tests: hops, and peers that answer with given bytes.

A hop is forked off a process that has imported the service, which takes a tenth of the time that
`python -m mockservice` takes. Tests about the process itself (how it starts, what it imports, its
memory, its process group) run that command: `launch`, `running_command`.
"""

from __future__ import annotations

import http.client
import itertools
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

from tests.forking import Fork, fork

if TYPE_CHECKING:
    from collections.abc import Iterator

START_TIMEOUT = 20.0
"""Seconds for a process to become ready on a busy machine."""

_LOOPBACK = IPv4Address("127.128.0.0")
_addresses = itertools.count(1)


def new_address() -> str:
    """A loopback address that no other test uses, in this run or in a concurrent one."""
    return str(_LOOPBACK + os.getpid() % 4096 * 2048 + next(_addresses))


@dataclass
class Response:
    """An HTTP response, read whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()


def request(
    url: str,
    headers: dict[str, str] | None = None,
    method: str = "GET",
    body: bytes | None = None,
    timeout: float = 30.0,
) -> Response:
    """Send one request over a new connection."""
    host, _, target = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=timeout)
    try:
        connection.request(method, f"/{target}", body, headers or {})
        response = connection.getresponse()
        return Response(response.status, response.headers, response.read())
    finally:
        connection.close()


def exchange(address: str, sent: bytes, port: int = 8000, timeout: float = 30.0) -> bytes:
    """Send bytes, and return all bytes until the peer closes."""
    with socket.create_connection((address, port), timeout) as peer:
        peer.sendall(sent)
        return b"".join(iter(lambda: peer.recv(65536), b""))


@dataclass
class RunningHop:
    """The process of a hop."""

    process: subprocess.Popen[bytes] | Fork
    address: str
    url: str
    line: str
    """This hop's part of the chain."""

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20.0) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def errors(self, timeout: float = 20.0) -> str:
        """Wait for the end of the process, and return its standard error."""
        assert self.process.stderr is not None
        with self.process.stderr:
            said = self.process.stderr.read()
        self.process.wait(timeout)
        return said.decode()

    def is_ready(self) -> bool:
        """Whether `/readyz` answers 200."""
        return request(f"{self.url}readyz", timeout=5).status == 200

    def is_draining(self) -> bool:
        """Whether `/readyz` answers 503."""
        return request(f"{self.url}readyz", timeout=5).status == 503

    def resident_memory(self) -> int:
        """The resident set size in bytes (proc_pid_statm(5))."""
        pages = int((self.proc / "statm").read_text().split()[1])
        return pages * resource.getpagesize()

    def threads(self) -> list[str]:
        """The names of its threads (proc_pid_comm(5))."""
        return [path.read_text().strip() for path in self.proc.glob("task/*/comm")]

    def workers(self) -> list[int]:
        """The process ids of its workers (proc_pid_task(5))."""
        pid = self.process.pid
        return [int(child) for child in (self.proc / f"task/{pid}/children").read_text().split()]

    @property
    def proc(self) -> Path:
        """The folder of its process in /proc."""
        return Path(f"/proc/{self.process.pid}")


def start(app: str = "mocka", version: str = "v1", **env: str) -> RunningHop:
    """Start a hop on a loopback address of its own, and wait until it is ready."""
    hop = forked(app, version, **env)
    try:
        wait_until(hop.is_ready)
    except BaseException:
        hop.process.kill()
        raise
    return hop


def forked(app: str = "mocka", version: str = "v1", **env: str) -> RunningHop:
    """Fork a hop off, without waiting until it is ready."""
    return _start(fork, app, version, env)


def launch(app: str = "mocka", version: str = "v1", **env: str) -> RunningHop:
    """Run `python -m mockservice`, without waiting until it is ready."""
    return _start(partial(_run, subprocess.PIPE), app, version, env)


def _start(
    process: Callable[[dict[str, str]], subprocess.Popen[bytes] | Fork],
    app: str,
    version: str,
    env: dict[str, str],
) -> RunningHop:
    address = env.setdefault("host", new_address()) or "localhost"
    settings = {"PATH": os.environ["PATH"], "app": app, "version": version, **env}
    line = f"-> {app}(version: {version}, ip: {address})"
    url = f"http://{address}:{env.get('port', 8000)}/"
    return RunningHop(process(settings), address, url, line)


def _run(stderr: int | None, env: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "mockservice"],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        preexec_fn=(lambda: os.close(2)) if stderr is None else None,
        # A group of its own, so that a test can signal the group.
        process_group=0,
    )


@contextmanager
def ended(hop: RunningHop) -> Iterator[RunningHop]:
    """Kill the hop at the end of the block."""
    try:
        yield hop
    finally:
        hop.process.kill()
        hop.process.wait()
        if hop.process.stderr is not None:
            hop.process.stderr.close()


@contextmanager
def running(app: str = "mocka", version: str = "v1", **env: str) -> Iterator[RunningHop]:
    """A hop that is ready. It is killed at the end of the block."""
    with ended(forked(app, version, **env)) as hop:
        wait_until(hop.is_ready)
        yield hop


@contextmanager
def running_command(app: str = "mocka", version: str = "v1", **env: str) -> Iterator[RunningHop]:
    """`python -m mockservice`, ready. It is killed at the end of the block."""
    with ended(launch(app, version, **env)) as hop:
        wait_until(hop.is_ready)
        yield hop


Running = Callable[..., AbstractContextManager[RunningHop]]
"""`running` or `running_command`."""


@contextmanager
def running_into(stderr: int | None, **env: str) -> Iterator[RunningHop]:
    """`python -m mockservice`, ready, with this standard error, or with a closed one."""
    with ended(_start(partial(_run, stderr), "mocka", "v1", env)) as hop:
        wait_until(hop.is_ready)
        yield hop


@contextmanager
def running_chain(
    upstream_url: str | None = None, running: Running = running, /, **env: str
) -> Iterator[list[RunningHop]]:
    """mocka -> mockb -> mockc -> `upstream_url`, in this order."""
    with ExitStack() as stack:
        hops: list[RunningHop] = []
        for app in ("mockc", "mockb", "mocka"):
            url = hops[0].url if hops else upstream_url
            settings = env if url is None else {**env, "upstream_url": url}
            hops.insert(0, stack.enter_context(running(app, **settings)))
        yield hops


@contextmanager
def running_shop(**env: str) -> Iterator[dict[str, RunningHop]]:
    """A tree: web calls orders and users, orders calls stock and price, price calls users."""
    upstreams = {"users": (), "stock": (), "price": ("users",), "orders": ("stock", "price")}
    with ExitStack() as stack:
        hops: dict[str, RunningHop] = {}
        for app, called in {**upstreams, "web": ("orders", "users")}.items():
            urls = ", ".join(hops[name].url for name in called)
            hops[app] = stack.enter_context(running(app, upstream_url=urls, **env))
        yield hops


def wait_until(is_true: Callable[[], bool], timeout: float = START_TIMEOUT) -> None:
    """Call `is_true` until it returns True. Connection failures count as False."""
    end = time.monotonic() + timeout
    while True:
        with suppress(OSError, http.client.HTTPException):
            if is_true():
                return
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout} s")
        time.sleep(0.02)


@dataclass
class Peer:
    """A TCP server: the test says what it does with each connection."""

    address: str
    url: str
    requests: list[bytes] = field(default_factory=list)
    """The heads of the received requests."""


def read_head(connection: socket.socket) -> bytes:
    """Read up to the end of a message's headers, or of the connection."""
    head = b""
    while b"\r\n\r\n" not in head and (part := connection.recv(65536)):
        head += part
    return head


@contextmanager
def peer(serve: Callable[[socket.socket], None], read: bool = True) -> Iterator[Peer]:
    """Read a request from each connection (unless not `read`), call `serve`, and close it."""
    address = new_address()
    server = Peer(address, f"http://{address}:8000/")
    listener = socket.create_server((address, 8000))
    connections: list[socket.socket] = []

    def handle(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if read:
                server.requests.append(read_head(connection))
            serve(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threading.Thread(target=handle, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        # Wakes the thread in accept(); close() alone does not.
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def answering(answer: bytes) -> Callable[[socket.socket], None]:
    """Answer with these bytes: for `peer`."""
    return lambda connection: connection.sendall(answer)


@dataclass
class Scripted:
    """A hop for many tests, and its upstream, which each test tells what to do."""

    hop: RunningHop
    upstream: Peer
    serve: Callable[[socket.socket], None]
    """What the upstream does with each connection from now on."""


@contextmanager
def running_scripted(**env: str) -> Iterator[Scripted]:
    """A hop and its upstream; set `serve` before each request."""

    def serve(connection: socket.socket) -> None:
        scripted.serve(connection)

    with peer(serve) as upstream, running(upstream_url=upstream.url, **env) as hop:
        scripted = Scripted(hop, upstream, answering(ok(b"")))
        yield scripted


def ok(body: bytes, content_type: str = "text/plain", more: str = "") -> bytes:
    """A 200 answer with a length."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{more}\r\n".encode() + body


@contextmanager
def running_request(
    running: Running = running, /, **env: str
) -> Iterator[tuple[RunningHop, Callable[[], str]]]:
    """A hop with a request in flight, and a function that ends it and returns its answer."""
    release = threading.Event()
    answers: list[str] = []

    def serve(connection: socket.socket) -> None:
        release.wait(START_TIMEOUT)
        connection.sendall(ok(b"done"))

    with peer(serve) as other, running(upstream_url=other.url, **env) as hop:
        client = threading.Thread(target=lambda: answers.append(request(hop.url).text))
        client.start()
        wait_until(lambda: bool(other.requests))

        def finish() -> str:
            release.set()
            client.join(START_TIMEOUT)
            [answer] = answers
            return answer

        yield hop, finish


def certificate(folder: Path, subject: str = "DNS:localhost") -> Path:
    """Make a self-signed certificate for this `subjectAltName`; one file has it and its key."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
    command += f"-addext subjectAltName={subject} -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes())
    return both
