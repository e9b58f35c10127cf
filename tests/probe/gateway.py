"""A real HTTP server in the place of a gateway: each test says what it answers."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import TYPE_CHECKING

from mockservice.chain import JSON_TYPE, TEXT_TYPE, Chain, Failure, Hop
from tests.running import new_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRACE = "00-1-2-01"
APPS = ("mocka", "mockb", "mockc")


@dataclass(frozen=True)
class Answer:
    """What the gateway answers."""

    body: bytes
    status: int = 200
    content_type: str = JSON_TYPE


@dataclass
class Gateway:
    """A running gateway, and what it was asked."""

    url: str
    requests: list[Message] = field(default_factory=list)
    """The headers of each request."""


@contextmanager
def gateway(
    answer: Callable[[int, Message], Answer], address: str | None = None
) -> Iterator[Gateway]:
    """Answer the requests, numbered from 0, with what `answer` makes of number and headers."""
    lock = threading.Lock()

    class Handler(StreamRequestHandler):
        """Answers GET over connections that are kept; `http.server` takes longer to read each."""

        def handle(self) -> None:
            while line := self.rfile.readline():
                assert line.startswith(b"GET "), line
                headers = Message()
                while line := self.rfile.readline().strip():
                    name, _, value = line.decode("latin-1").partition(":")
                    headers.set_raw(name, value.strip())
                with lock:
                    number = len(asked.requests)
                    asked.requests.append(headers)
                made = answer(number, headers)
                head = f"HTTP/1.1 {made.status} \r\nContent-Type: {made.content_type}\r\n"
                head += f"Content-Length: {len(made.body)}\r\n\r\n"
                self.request.sendall(head.encode() + made.body)

    class Server(ThreadingTCPServer):
        allow_reuse_address = True
        # A client that finds the queue full tries again a second later.
        request_queue_size = 256
        daemon_threads = True
        block_on_close = False

    server = Server((address or new_address(), 8000), Handler)
    asked = Gateway(f"http://{server.server_address[0]!s}:8000/mock")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        server.shutdown()
        server.server_close()


def hops(versions: str, headers: dict[str, str] | None = None) -> tuple[Hop, ...]:
    """mocka, mockb and so on at these versions, each of which tells that it received `headers`."""
    received = {"traceparent": TRACE} if headers is None else headers
    named = list(zip(APPS, versions.split(), strict=False))
    return tuple(
        Hop(app, version, f"10.0.0.{place}", 200, float(len(named) - place), dict(received))
        for place, (app, version) in enumerate(named)
    )


def chain(versions: str, failure: Failure | None = None, lane: str | None = None) -> Answer:
    """A chain in the JSON form: its lane in `x-lane`, its failure as a hop answers it."""
    status = 200 if failure is None else 504 if failure.kind == "timeout" else 502
    headers = None if lane is None else {"traceparent": TRACE, "x-lane": lane}
    return Answer(Chain(hops(versions, headers), failure).to_json(), status)


def text(body: str, status: int = 200) -> Answer:
    """An answer in the text form, or of someone else."""
    return Answer(body.encode(), status, TEXT_TYPE)
