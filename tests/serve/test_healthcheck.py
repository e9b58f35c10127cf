"""The container's health check, against hops and against other servers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.misbehaving import dribble, hang
from tests.running import (
    answering,
    ended,
    forked,
    new_address,
    peer,
    running_request,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow


def check(**env: str) -> tuple[int, str]:
    """The exit code and the output of the check, in the environment of a hop."""
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
    """A port without a listener."""
    with socket.create_server(("", 0)) as listener:
        return str(listener.getsockname()[1])


@pytest.mark.parametrize("host", ["", "0.0.0.0", "127.0.0.1", "localhost", "::", "::1"])
def test_a_hop_is_ready_wherever_it_listens(host: str) -> None:
    port = free_port()
    with ended(forked(host=host, port=port)):
        wait_until(lambda: check(host=host, port=port) == (0, "ready\n"))


def test_a_draining_hop_is_not_ready() -> None:
    with running_request() as (hop, finish):
        hop.process.send_signal(signal.SIGTERM)
        wait_until(hop.is_draining)
        assert check(host=hop.address) == (1, "not ready: status 503\n")
        finish()


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


@pytest.mark.parametrize("serve", [hang, dribble(b"H", b"H", every=0.2)], ids=["hangs", "dribbles"])
def test_a_peer_that_is_slow_is_not_waited_for(serve: Callable[[socket.socket], None]) -> None:
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
