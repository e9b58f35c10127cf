"""The processes of local lanes: none survives that nobody waits for, and failures are told."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from mockservice.lanes.errors import LanesError
from mockservice.lanes.processes import Processes
from tests.lanes.running import descendants, name_of, parent_of
from tests.running import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.asyncio]

SLEEP = shutil.which("sleep") or "sleep"


@pytest_asyncio.fixture
async def processes(tmp_path: Path) -> AsyncIterator[Processes]:
    processes = Processes(tmp_path / "files", lambda _name, _line: None)
    yield processes
    await processes.stop()
    processes.close()


def names() -> list[str]:
    return [name_of(pid) for pid in descendants(os.getpid())]


async def test_a_process_whose_start_is_cancelled_is_stopped_with_the_others(
    processes: Processes,
) -> None:
    child = await processes.start("sleep", [SLEEP, "60"], {})
    starting = asyncio.create_task(processes.start("sleep", [SLEEP, "60"], {}))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    # Linux gives a process its new name a moment after exec(2) has been told to succeed.
    await asyncio.to_thread(wait_until, lambda: names().count("sleep") == 2)
    await processes.stop()
    assert "sleep" not in names()
    assert not child.is_running


async def test_a_pod_whose_start_is_cancelled_ends(processes: Processes) -> None:
    def env(address: int) -> dict[str, str]:
        return {"app": "a", "version": "v1", "host": f"127.0.0.{address}", "port": "18765"}

    first = await processes.start_pod("first", env(2))
    await asyncio.to_thread(wait_until, lambda: "first" in names())
    (pid,) = (pid for pid in descendants(os.getpid()) if name_of(pid) == "first")
    fork_server = parent_of(pid)
    os.kill(fork_server, signal.SIGSTOP)
    starting = asyncio.create_task(processes.start_pod("left", env(3)))
    # It has sent its request by then, and gets no answer.
    await asyncio.sleep(0.1)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    os.kill(fork_server, signal.SIGCONT)
    # Pods start one after the other.
    last = await processes.start_pod("last", env(4))
    await asyncio.to_thread(wait_until, lambda: "left" not in names())
    for pod in (first, last):
        assert pod.is_running
        await pod.stop(grace=0)


async def test_too_many_open_files_are_told_with_what_to_do(processes: Processes) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(LanesError) as of_pod:
            await processes.start_pod("web-0", {})
        with pytest.raises(LanesError) as of_envoy:
            await processes.start("envoy", [SLEEP, "60"], {})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    advice = "too many open files; allow more with ulimit -n, or run fewer replicas"
    assert str(of_pod.value) == f"web-0 does not start: {advice}"
    assert str(of_envoy.value) == f"envoy does not start: {advice}"
