"""A forked hop is what the command would be: it has loaded the same, and ends in the same way."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.running import new_address, request, running, running_command

if TYPE_CHECKING:
    from tests.running import Running, RunningHop

pytestmark = pytest.mark.slow

_RUNNING = pytest.mark.parametrize("running", [running, running_command], ids=["fork", "command"])


def _libraries(hop: RunningHop) -> set[str]:
    """The shared libraries that a hop has loaded (proc_pid_maps(5))."""
    lines = (hop.proc / "maps").read_text().splitlines()
    return {Path(line.split()[-1]).name for line in lines if ".so" in line}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"upstream_url": f"https://{new_address()}/"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{new_address()}:4318"},
    ],
    ids=["plain", "calls https", "traced"],
)
def test_it_has_loaded_the_same_libraries(settings: dict[str, str]) -> None:
    with running(**settings) as fork, running_command(**settings) as command:
        for hop in (fork, command):
            request(hop.url)
        assert _libraries(fork) == _libraries(command)


@_RUNNING
def test_it_has_the_environment_that_it_is_given(running: Running) -> None:
    with running(fault_abort="503") as hop:
        assert request(hop.url).status == 503
    with running() as hop:
        assert request(hop.url).status == 200


@_RUNNING
def test_its_end_is_told(running: Running) -> None:
    with running() as hop:
        assert hop.process.poll() is None
        assert hop.stop() == hop.process.returncode == 0
        assert hop.errors() == ""
    with running() as hop:
        assert hop.stop(signal.SIGKILL) == -signal.SIGKILL
