"""`mockservice verify` as a command: its output, its exit codes, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from mockservice.verify.command import main
from tests.lanes.building import UNFIT, set_env, write
from tests.lanes.running import TIMEOUT, descendants, is_running
from tests.running import wait_until
from tests.verify.shop import IN_BLUE, shop, without_blue_rule_of, without_lanes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Here = Callable[..., subprocess.CompletedProcess[str]]
    Refused = Callable[..., list[str]]

COMMAND = (sys.executable, "-m", "mockservice", "verify")


def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env={"PATH": os.environ["PATH"]},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Here:
    """Takes arguments, and runs the command in the test's folder, without a process of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)

    def here(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(arguments, main(arguments), *capsys.readouterr())

    return here


def test_strict_refuses_what_is_left_out(here: Here, tmp_path: Path) -> None:
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "x"}}
    write(tmp_path / "shop.yaml", budget, *shop())
    result = here("shop.yaml", "--strict")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "mockservice verify: shop.yaml:2: PodDisruptionBudget x: left out; it changes no lanes\n"
    )


@pytest.mark.slow
def test_a_line_a_lane_then_what_is_wrong(tmp_path: Path) -> None:
    write(tmp_path / "shop.yaml", *without_blue_rule_of("price"))
    (tmp_path / "cases.yaml").write_text(
        "cases:\n- request: {path: /shop, headers: {x-lane: blue}}\n"
        f"  name: testers\n  chain: {IN_BLUE}\n"
    )
    arguments = ("shop.yaml", "--cases", "cases.yaml", "--junit", "junit.xml")
    result = run(*arguments, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (1, "")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "lane",
        "base",
        "blue",
        "error:",
        "error:",
        "the",
    ]
    assert [line.split()[-1] for line in lines[1:3]] == ["holds", "fails"]
    assert lines[3].startswith("error: lane blue is owed price(blue) but got price(base): ")
    assert "(shop.yaml:" in lines[3]
    assert lines[4].startswith(f"error: case testers: must get {IN_BLUE}, but got front(base)")
    assert lines[4].endswith("; see cases.yaml:2")
    assert lines[5] == ("the lanes do not hold: 40 requests; 0 of 1 case held")
    assert ET.parse(tmp_path / "junit.xml").findall(".//failure")


@pytest.mark.slow
def test_in_github_actions_problems_are_annotations(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "shop.yaml", *without_blue_rule_of("price"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = here("shop.yaml", "--json")
    assert result.returncode == 1
    document: dict[str, Any] = json.loads(result.stdout)
    (problem,) = document["problems"]
    assert document["hold"] is False
    assert document["cases"] == []
    assert result.stderr == (
        f"::error file=shop.yaml,line={problem['line']},title=mockservice verify%3A isolation::"
        f"{problem['text']}\n"
    )


@pytest.mark.slow
def test_a_folder_without_lanes_is_told_why(tmp_path: Path) -> None:
    result = run(write(tmp_path / "shop.yaml", *without_lanes()))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "note: no lanes: no rule between pods matches a header or a caller's labels",
        "the lanes hold: 20 requests",
    ]


@pytest.mark.slow
def test_lanes_that_do_not_start_end_with_1(here: Here, tmp_path: Path) -> None:
    broken = without_lanes()
    set_env(broken, "stock", **UNFIT)
    write(tmp_path / "shop.yaml", *broken)
    result = here("shop.yaml", "--junit", "junit.xml")
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("mockservice verify: stock-base-0 does not start: ")
    assert ET.parse(tmp_path / "junit.xml").findall(".//error")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_that_runs(number: int, tmp_path: Path) -> None:
    write(tmp_path / "shop.yaml", *shop())
    process = subprocess.Popen(
        [*COMMAND, "shop.yaml", "--save-cases", "cases.yaml"],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    children: list[int] = []

    def has_started_pods() -> bool:
        children[:] = descendants(process.pid)
        return len(children) > 3

    wait_until(has_started_pods)
    process.send_signal(number)
    output, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, output) == (1, "")
    assert errors == "mockservice verify: stopped by a signal\n"
    assert not any(map(is_running, children))
    assert [path.name for path in tmp_path.iterdir()] == ["shop.yaml"]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["verify", "lanes"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_for_standard_input(verb: str, number: int) -> None:
    process = subprocess.Popen([*COMMAND[:-1], verb, "-"], stdin=subprocess.PIPE)
    assert process.stdin is not None

    def ends() -> bool:
        # Python does not notice one that comes just before the read.
        process.send_signal(number)
        return process.poll() is not None

    try:
        # More than a pipe holds: when it is written, the process has begun to read.
        process.stdin.write(b"# nothing yet\n" * 20_000)
        wait_until(ends)
        assert process.returncode == 128 + number
    finally:
        process.kill()
        process.wait()
        with suppress(BrokenPipeError):
            process.stdin.close()


@pytest.fixture
def refused(here: Here) -> Refused:
    """Takes arguments, and returns the lines that say why nothing was run."""

    def refused(*arguments: str) -> list[str]:
        result = here(*arguments)
        assert (result.returncode, result.stdout) == (2, "")
        return result.stderr.splitlines()

    return refused


def test_bad_input_is_told_before_anything_runs(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "shop.yaml", *shop())
    (tmp_path / "mine.yaml").write_text("cases: [{request: {path: shop}, chain: a(b)}]\n")
    assert refused("nowhere") == ["mockservice verify: nowhere: no such file or folder"]
    assert refused("shop.yaml", "--cases", "mine.yaml") == [
        "mockservice verify: mine.yaml:1: cases[0].request.path: 'shop':"
        " must be a path such as /shop, in ASCII, without spaces and #"
    ]
    assert refused("shop.yaml", "--save-cases", "mine.yaml", "--junit", "nowhere/junit.xml") == [
        "mockservice verify: --save-cases: 'mine.yaml': must be a file that is not there yet",
        "mockservice verify: --junit: 'nowhere/junit.xml':"
        " must be a file in a folder that can be written",
    ]
    assert (tmp_path / "mine.yaml").read_text().startswith("cases: [{request: {path: shop}")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert refused("nowhere") == [
        "::error title=mockservice verify%3A refused::nowhere: no such file or folder"
    ]


def test_a_refused_folder_is_an_error_in_junit(tmp_path: Path) -> None:
    result = run("nowhere", "--junit", "junit.xml", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "mockservice verify: nowhere: no such file or folder\n"
    (error,) = ET.parse(tmp_path / "junit.xml").findall(".//error")
    assert error.text == "nowhere: no such file or folder"
