"""`workers`: several processes answer as one hop, and end together."""

import os
import signal
from pathlib import Path

import pytest

from tests.running import (
    launch,
    new_address,
    request,
    running,
    running_command,
    running_request,
    wait_until,
)

pytestmark = pytest.mark.slow


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_workers_share_the_port_and_answer_as_one_hop() -> None:
    with running(workers="3") as hop:
        assert len(hop.workers()) == 3
        for _ in range(30):
            assert request(hop.url).text == hop.line
        assert hop.stop() == 0
        assert hop.errors() == ""


def test_each_worker_detects_a_loop() -> None:
    address = new_address()
    with running(host=address, upstream_url=f"http://{address}:8000/", workers="4") as hop:
        for _ in range(20):
            response = request(hop.url)
            assert (response.status, response.text) == (
                508,
                f"{hop.line}-> mocka(loop: already in this chain)",
            )


def test_if_one_worker_dies_all_end() -> None:
    with running(workers="2") as hop:
        workers = hop.workers()
        os.kill(workers[0], signal.SIGKILL)
        assert hop.process.wait(20) == 1
        assert all(map(_is_gone, workers))


def test_no_worker_outlives_its_parent() -> None:
    with running(workers="2") as hop:
        workers = hop.workers()
        hop.process.kill()
        wait_until(lambda: all(map(_is_gone, workers)))


def test_a_failed_start_is_reported_and_exits_with_2() -> None:
    with running() as hop:
        second = launch("mocka", "v1", host=hop.address, workers="2")
        errors = second.errors(timeout=20)
        assert second.process.returncode == 2
        assert set(errors.splitlines()) == {
            f"mockservice: port='8000': must be free on {hop.address} (address already in use)"
        }


def test_ctrl_c_drains_all_workers() -> None:
    with running_request(running_command, workers="2") as (hop, finish):
        os.killpg(hop.process.pid, signal.SIGINT)
        wait_until(hop.is_draining)
        assert finish() == f"{hop.line}done"
        assert hop.process.wait(20) == 0
