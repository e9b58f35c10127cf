"""Draining: readiness turns red, requests in flight finish, the rest is closed, exit code 0."""

import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.misbehaving import hang
from tests.running import (
    RunningHop,
    answering,
    launch,
    ok,
    peer,
    request,
    running,
    running_command,
    running_request,
    wait_until,
)

pytestmark = pytest.mark.slow


def test_an_idle_hop_stops_at_once() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with running_command() as hop:
            assert hop.stop(number, timeout=4) == 0


def test_readiness_goes_red_while_a_request_in_flight_finishes() -> None:
    with running_request(upstream_timeout="20") as (hop, finish):
        hop.process.send_signal(signal.SIGTERM)
        wait_until(hop.is_draining)
        draining = request(f"{hop.url}readyz")
        assert (draining.text, draining.headers["Connection"]) == ("draining", "close")
        assert request(f"{hop.url}healthz").status == 200
        assert finish() == f"{hop.line}done"
        assert hop.process.wait(20) == 0


def test_no_request_is_lost_when_a_hop_drains_under_load() -> None:
    def serve(connection: socket.socket) -> None:
        time.sleep(0.05)
        connection.sendall(ok(b""))

    failed: list[BaseException | str] = []
    sent = threading.Event()

    def send(url: str, line: str) -> None:
        # Like a connection pool: opens a new connection if the hop closes the old one.
        connection = None
        for count in range(10_000):
            is_new = connection is None
            try:
                connection = connection or _connect(url)
                connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            except ConnectionRefusedError:
                return
            answer = b""
            while line not in answer.decode():
                try:
                    part = connection.recv(65536)
                except ConnectionResetError:
                    # Connected, but not yet accepted when the hop stopped listening: refused, too.
                    if not is_new or answer:
                        failed.append(f"reset after {answer!r}")
                    connection.close()
                    return
                if not part:
                    failed.append(f"closed after {answer!r}")
                    return
                answer += part
            if b"\r\nConnection: close\r\n" in answer:
                connection.close()
                connection = None
            if count == 10:
                sent.set()

    with peer(serve) as other, running(upstream_url=other.url) as hop:
        clients = [threading.Thread(target=send, args=(hop.url, hop.line)) for _ in range(8)]
        for client in clients:
            client.start()
        assert sent.wait(20)
        assert hop.stop() == 0
        for client in clients:
            client.join(20)
    assert not failed


def _connect(url: str) -> socket.socket:
    host = url.removeprefix("http://").partition(":")[0]
    return socket.create_connection((host, 8000), 20)


def test_idle_connections_are_closed() -> None:
    with running() as hop, _connect(hop.url) as used, _connect(hop.url) as silent:
        used.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert hop.line.encode() in used.recv(65536)
        assert hop.stop() == 0
        assert used.recv(65536) == b""
        assert silent.recv(65536) == b""


@contextmanager
def _hanging_request() -> Iterator[RunningHop]:
    """A hop with a request in flight that its upstream does not answer."""
    with (
        peer(hang) as other,
        running(upstream_url=other.url, upstream_timeout="600") as hop,
        _connect(hop.url) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: bool(other.requests))
        yield hop


def test_what_does_not_finish_is_ended_after_the_grace_period() -> None:
    with _hanging_request() as hop:
        assert hop.stop(timeout=25) == 0
        assert hop.errors() == ""


def test_a_second_signal_stops_at_once() -> None:
    with _hanging_request() as hop:
        hop.process.send_signal(signal.SIGTERM)
        wait_until(hop.is_draining)
        assert hop.stop(signal.SIGINT, timeout=4) == 128 + signal.SIGINT


def test_a_signal_ends_a_start_at_once() -> None:
    for delay in (0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3):
        for number in (signal.SIGTERM, signal.SIGINT):
            hop = launch()
            # Python takes a moment until the first signal handler is installed.
            wait_until(partial(_takes_signals, hop))
            time.sleep(delay)
            assert hop.stop(number, timeout=4) == 0
            assert hop.errors() == ""


def _takes_signals(hop: RunningHop) -> bool:
    caught = re.search(r"SigCgt:\s*([0-9a-f]+)", (hop.proc / "status").read_text())
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def test_a_request_whose_body_still_comes_is_answered() -> None:
    with running() as hop, _connect(hop.url) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nha")
        wait_until(hop.is_ready)
        hop.process.send_signal(signal.SIGTERM)
        wait_until(hop.is_draining)
        time.sleep(0.5)
        client.sendall(b"lf")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.endswith(hop.line.encode())
        assert hop.process.wait(20) == 0


def test_an_answer_that_is_read_slowly_is_sent_whole() -> None:
    # Written as JSON, each of these bytes takes six.
    with (
        peer(answering(ok(b"\0" * 1_000_000))) as other,
        running(upstream_url=other.url) as hop,
        _connect(hop.url) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n")
        head = client.recv(100)
        hop.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        answer = head + b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.endswith(b'"}')
        assert len(answer) > 6_000_000
        assert hop.process.wait(20) == 0
