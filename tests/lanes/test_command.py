"""`mockservice lanes` as a command: its exit codes, its signals, and that nothing survives it."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from copy import deepcopy
from typing import TYPE_CHECKING

import pytest

from mockservice.lanes.command import main
from tests.lanes.building import MOCKA, at_gateway, between_pods, chain, gateway, to, write
from tests.lanes.running import TIMEOUT, is_running, lanes, name_of
from tests.running import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.lanes.conftest import MoveTo

    RunHere = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow

PLAIN = [
    *chain(mocka="v1", mockb="v1", mockc="v1"),
    gateway(),
    at_gateway({"route": [to(MOCKA)]}),
]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "mockservice", "lanes", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)


@pytest.fixture
def run_here(capsys: pytest.CaptureFixture[str]) -> RunHere:
    """As `run`, but without a process of its own: for what is refused before anything runs."""

    def run_here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        words = [str(argument) for argument in arguments]
        try:
            code = main(words)
        except SystemExit as ended:
            # argparse exits on bad arguments.
            code = int(ended.code or 0)
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return run_here


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    return write(tmp_path / "mock.yaml", *PLAIN)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_everything_and_exits_0(
    number: int, manifests: Path, tmp_path: Path
) -> None:
    with lanes(manifests, folder=tmp_path) as running:
        children = running.children()
        # Three pods, what they are forked off, Envoy, and the guard of them all.
        assert len(children) == 6
        assert running.versions() == "v1 v1 v1"
        assert running.stop(number) == 0
    assert not any(map(is_running, children))
    assert [pod["state"] for pod in running.events[-2]["pods"]] == ["draining"] * 3
    assert running.events[-1] == {"event": "stopped"}
    assert not list(tmp_path.glob("lanes-*"))


def test_strict_refuses_what_has_no_effect(tmp_path: Path, run_here: RunHere) -> None:
    objects = [*deepcopy(PLAIN), between_pods("mockb", {"route": [to("mockb")]})]
    service_b = next(one for one in objects if one["metadata"]["name"] == "mockb")
    service_b["spec"]["ports"][0]["name"] = "tcp"
    path = write(tmp_path / "mock.yaml", *objects)
    refused = run_here("--strict", path)
    assert (refused.returncode, refused.stdout) == (2, "")
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"mockservice lanes: {path}:")
    assert ": VirtualService mockb: no effect on calls of mockb: " in line


def test_nothing_survives_sigkill(manifests: Path, tmp_path: Path) -> None:
    with lanes(manifests, folder=tmp_path) as running:
        children = running.children()
        assert len(children) == 6
        assert all(map(is_running, children))
        running.stop(signal.SIGKILL)
        wait_until(lambda: not any(map(is_running, children)))
        assert not list(tmp_path.glob("lanes-*"))


def slow(path: Path, delay: str) -> Path:
    """Manifests in which a call of mockb takes long."""
    fault = {"delay": {"fixedDelay": delay, "percentage": {"value": 100}}}
    return write(
        path,
        *chain(mocka="v1", mockb="v1", mockc="v1"),
        gateway(),
        at_gateway({"route": [to(MOCKA)]}),
        between_pods("mockb", {"route": [to("mockb")], "fault": fault}),
    )


def test_a_request_in_flight_is_answered_before_all_ends(tmp_path: Path) -> None:
    with lanes(slow(tmp_path / "mock.yaml", "2s"), folder=tmp_path) as running:
        client = http.client.HTTPConnection(running.gateway.removeprefix("http://"))
        client.request("GET", "/mock")
        time.sleep(0.5)
        assert running.stop() == 0
        assert client.getresponse().status == 200
        client.close()


def test_a_second_signal_ends_everything_at_once(tmp_path: Path) -> None:
    with lanes(slow(tmp_path / "mock.yaml", "60s"), folder=tmp_path) as running:
        children = running.children()
        client = http.client.HTTPConnection(running.gateway.removeprefix("http://"))
        client.request("GET", "/mock")
        time.sleep(0.5)
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert running.process.poll() is None
        assert running.stop() == 128 + signal.SIGTERM
        wait_until(lambda: not any(map(is_running, children)))
        client.close()


def test_a_pod_that_ends_is_started_again(move_to: MoveTo) -> None:
    running = move_to(*PLAIN)
    before = len(running.events)
    os.kill(running.pod("mockb-v1-0"), signal.SIGKILL)
    pods = running.wait_for("pods", before)["pods"]
    states = {pod["app"]: pod["state"] for pod in pods}
    assert states == {"mocka": "ready", "mockb": "restarting", "mockc": "ready"}
    wait_until(lambda: running.get().status == 200)
    assert running.versions() == "v1 v1 v1"


def test_the_end_of_envoy_ends_everything(manifests: Path, tmp_path: Path) -> None:
    with lanes(manifests, folder=tmp_path) as running:
        children = running.children()
        os.kill(next(pid for pid in children if name_of(pid) == "envoy"), signal.SIGKILL)
        assert running.process.wait(TIMEOUT) == 1
        assert not any(map(is_running, children))
    assert running.events[-1]["problems"] == ["Envoy has ended with exit code -9"]


def test_a_table_for_people_names_the_gateway_and_every_pod(manifests: Path) -> None:
    command = [sys.executable, "-m", "mockservice", "lanes", str(manifests), "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = list(iter(process.stdout.readline, "\n"))
    lines += iter(process.stdout.readline, "\n")
    lines.append(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    lines += process.communicate(timeout=TIMEOUT)[0].splitlines()
    assert process.returncode == 0
    assert lines[0].split() == ["pod", "app", "version", "lane", "address", "state"]
    assert [line.split()[:4] for line in lines[1:4]] == [
        [f"{app}-v1-0", app, "v1", "-"] for app in ("mocka", "mockb", "mockc")
    ]
    assert lines[4].startswith("note: no lanes: ")
    assert lines[5].startswith("gateway http://127.0.0.1:")
    assert lines[-1] == "stopped"


def test_the_gateway_listens_at_the_port_asked_for(
    manifests: Path, tmp_path: Path, move_to: MoveTo
) -> None:
    one = move_to(*PLAIN)
    port = int(one.gateway.rpartition(":")[2])
    taken = run(manifests, "--port", str(port))
    assert taken.returncode == 2
    assert taken.stderr == f"mockservice lanes: --port: '{port}': must be free at 127.0.0.1\n"
    with lanes(manifests, folder=tmp_path) as two:
        assert two.gateway != one.gateway
        assert two.versions() == one.versions() == "v1 v1 v1"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "the following arguments are required: PATH"),
        (["/nowhere"], "/nowhere: no such file or folder"),
        (["--port", "0", "/nowhere"], "'0': must be a number from 1 to 65535"),
        (["--fast", "/nowhere"], "unrecognized arguments: --fast"),
    ],
)
def test_bad_arguments_are_told_in_one_line(
    arguments: list[str], reason: str, run_here: RunHere
) -> None:
    result = run_here(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert reason in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_manifests_without_a_way_in_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "mock.yaml", *chain(mocka="v1", mockb="v1", mockc="v1"))
    result = run(path)
    assert result.returncode == 2
    assert result.stderr == f"mockservice lanes: {path}: must hold a route at a Gateway\n"
