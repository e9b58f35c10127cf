"""The container's health check, against hops and against peers that are none."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.running import answering, new_address, peer, running, wait_until


def check(**env: str) -> tuple[int, str]:
    """The exit code of the check in a hop's environment, and all that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "mockservice.serve.healthcheck"],
        env={"PATH": os.environ["PATH"], "app": "mocka", "version": "v1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=30,
        text=True,
    )
    return done.returncode, done.stdout


def free_port() -> str:
    """A port that nobody listens at."""
    with socket.create_server(("", 0)) as listener:
        return str(listener.getsockname()[1])


@pytest.mark.parametrize("host", ["", "0.0.0.0", "127.0.0.1", "localhost", "::", "::1"])
def test_a_hop_is_ready_wherever_it_listens(host: str) -> None:
    port = free_port()
    hop = subprocess.Popen(
        [sys.executable, "-m", "mockservice"],
        env={"PATH": os.environ["PATH"], "app": "a", "version": "v", "host": host, "port": port},
    )
    try:
        wait_until(lambda: check(host=host, port=port) == (0, "ready\n"))
    finally:
        hop.kill()
        hop.wait()


def test_a_hop_that_drains_is_not_ready() -> None:
    def answer_late(connection: socket.socket) -> None:
        time.sleep(3)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with (
        peer(answer_late) as upstream,
        running(upstream_url=upstream.url) as hop,
        socket.create_connection((hop.address, 8000)) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nHost: mocka\r\n\r\n")
        wait_until(lambda: bool(upstream.requests))
        hop.process.send_signal(signal.SIGTERM)
        wait_until(lambda: check(host=hop.address) == (1, "not ready: status 503\n"))


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "ready"),
        (b"HTTP/1.0 200 \r\n\r\n", "ready"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "not ready: status 204"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "not ready: status 404"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "not ready: the answer is not http"),
        (b"HTTP/1.1 20", "not ready: the answer is not http"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not ready: the answer is not http"),
        (b"x" * 100_000, "not ready: the answer is not http"),
        (b"", "not ready: the answer is not http"),
    ],
)
def test_only_a_200_is_ready(answer: bytes, line: str) -> None:
    with peer(answering(answer)) as other:
        assert check(host=other.address) == (int(line != "ready"), f"{line}\n")


def test_a_port_without_listener_is_not_ready() -> None:
    assert check(host=new_address()) == (1, "not ready: connection refused\n")


def test_a_peer_that_is_silent_or_dribbles_is_not_waited_for() -> None:
    def dribble(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"H")
            time.sleep(0.2)

    def say_nothing(connection: socket.socket) -> None:
        connection.recv(1)

    for serve in (dribble, say_nothing):
        with peer(serve) as other:
            assert check(host=other.address) == (1, "not ready: timed out\n")


@pytest.mark.parametrize(
    ("env", "line"),
    [
        ({"port": "http"}, "not ready: port='http': must be "),
        ({"app": ""}, "not ready: app='': must be "),
        ({"host": "no.such.host.invalid"}, "not ready: "),
        ({"host": "a" * 64 + ".example"}, "not ready: "),
    ],
)
def test_bad_settings_are_one_line_and_exit_code_1(env: dict[str, str], line: str) -> None:
    exit_code, output = check(**env)
    assert exit_code == 1
    assert output.startswith(line)
    assert output.count("\n") == 1
