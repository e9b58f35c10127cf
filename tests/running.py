"""Real processes and real sockets for the tests: hops, and peers that answer byte for byte."""

from __future__ import annotations

import http.client
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

START_TIMEOUT = 20.0
"""Seconds that a process gets to become ready on a busy machine."""

_LOOPBACK = IPv4Address("127.128.0.0")
_addresses = itertools.count(1)


def new_address() -> str:
    """A loopback address that no other test uses, in this run or in one beside it."""
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
    """Send one request over a connection of its own."""
    host, _, target = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=timeout)
    try:
        connection.request(method, f"/{target}", body, headers or {})
        response = connection.getresponse()
        return Response(response.status, response.headers, response.read())
    finally:
        connection.close()


def exchange(address: str, sent: bytes, port: int = 8000, timeout: float = 30.0) -> bytes:
    """Send bytes, and return all that comes back until the peer closes."""
    with socket.create_connection((address, port), timeout) as peer:
        peer.sendall(sent)
        return b"".join(iter(lambda: peer.recv(65536), b""))


@dataclass
class RunningHop:
    """A process of `python -m mockservice`."""

    process: subprocess.Popen[bytes]
    address: str
    url: str
    line: str
    """What this hop says of itself in the chain."""

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20.0) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def errors(self, timeout: float = 20.0) -> str:
        """What the process wrote to standard error until it ended."""
        return self.process.communicate(timeout=timeout)[1].decode()


def start(
    app: str = "mocka",
    version: str = "v1",
    **env: str,
) -> RunningHop:
    """Start a hop and wait until it is ready; its `host` is a loopback address of its own."""
    hop = launch(app, version, **env)
    try:
        wait_until(lambda: request(f"{hop.url}readyz", timeout=5).status == 200)
    except BaseException:
        hop.process.kill()
        raise
    return hop


def launch(app: str, version: str, **env: str) -> RunningHop:
    """Start a hop's process."""
    address = env.setdefault("host", new_address()) or "localhost"
    settings = {"app": app, "version": version, **env}
    process = subprocess.Popen(
        [sys.executable, "-m", "mockservice"],
        env={"PATH": os.environ["PATH"], **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # Signals to its process group reach nothing else.
        process_group=0,
    )
    line = f"-> {app}(version: {version}, ip: {address})"
    return RunningHop(process, address, f"http://{address}:{env.get('port', 8000)}/", line)


@contextmanager
def running(app: str = "mocka", version: str = "v1", **env: str) -> Iterator[RunningHop]:
    """`start`, ended with the block."""
    hop = start(app, version, **env)
    try:
        yield hop
    finally:
        hop.process.kill()
        hop.process.wait()
        if hop.process.stderr is not None:
            hop.process.stderr.close()


@contextmanager
def running_chain(upstream_url: str | None = None, **env: str) -> Iterator[list[RunningHop]]:
    """mocka -> mockb -> mockc -> `upstream_url`, in this order."""
    with ExitStack() as stack:
        hops: list[RunningHop] = []
        for app in ("mockc", "mockb", "mocka"):
            url = hops[0].url if hops else upstream_url
            settings = env if url is None else {**env, "upstream_url": url}
            hops.insert(0, stack.enter_context(running(app, **settings)))
        yield hops


def wait_until(is_true: Callable[[], bool], timeout: float = START_TIMEOUT) -> None:
    """Ask until the answer is yes; connection failures are a no."""
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
    """A TCP server that does with each connection what the test says."""

    address: str
    url: str
    requests: list[bytes] = field(default_factory=list)
    """The heads of the requests that came."""


def read_head(connection: socket.socket) -> bytes:
    """Bytes up to the end of a message's headers, or of the connection."""
    head = b""
    while b"\r\n\r\n" not in head and (part := connection.recv(65536)):
        head += part
    return head


@contextmanager
def peer(serve: Callable[[socket.socket], None], read: bool = True) -> Iterator[Peer]:
    """Serve each connection with `serve`, after its request has been read, then close it."""
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
        # shutdown wakes the thread that waits in accept; close alone does not.
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def answering(answer: bytes) -> Callable[[socket.socket], None]:
    """A peer that answers these bytes."""
    return lambda connection: connection.sendall(answer)


def ok(body: bytes, content_type: str = "text/plain", more: str = "") -> bytes:
    """A 200 answer with a length."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{more}\r\n".encode() + body


@contextmanager
def running_request(**env: str) -> Iterator[tuple[RunningHop, Callable[[], str]]]:
    """A hop with a request in flight, and what has its upstream answer it and gives its answer."""
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
    """A self-signed certificate of this `subjectAltName`, and its key, in one new file."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
    command += f"-addext subjectAltName={subject} -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes())
    return both
