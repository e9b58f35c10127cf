"""Faults on demand in lanes: a v3 that fails, its roll-back, and the header through the mesh."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.chance import is_plausible
from tests.lanes.building import MOCKA, at_gateway, chain, gateway, set_env, to
from tests.lanes.running import K8S, lanes, versions_in
from tests.lanes.test_watch import WATCH, copy, load

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lanes.conftest import MoveTo

pytestmark = pytest.mark.slow

_FAILING = K8S / "failing-v3"


def _probe(url: str, *arguments: str, ends_with: int) -> Any:
    command = [sys.executable, "-m", "mockservice", "probe", url, "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stderr) == (ends_with, "")
    return json.loads(done.stdout)


def test_the_probe_shows_a_v3_that_fails_and_its_roll_back_ends_it(tmp_path: Path) -> None:
    folder = tmp_path / "mock"
    folder.mkdir()
    for source in (K8S / "workloads", _FAILING / "workloads", K8S / "release-v3" / "asm"):
        for file in source.glob("*.yaml"):
            shutil.copy(file, folder)
    with lanes(folder, folder=tmp_path, options=WATCH) as running:
        url = f"{running.gateway}/mock"
        found = _probe(url, "-n", "400", ends_with=1)
        (failure,) = found["failures"]
        failed = failure.pop("requests")
        assert failure == {"status": 500, "hop": "mockb", "reason": "injected: abort 500"}
        assert is_plausible(failed, found["lanes"]["v3"], 0.3)
        assert {chain["chain"] for chain in found["chains"] if chain["failed"]} == {
            "mocka(v3) -> mockb(v3) -> mockb(injected)"
        }
        before = len(running.events)
        with load(running) as seen:
            copy(_FAILING / "roll-back" / "asm" / "mock-route.yaml", folder / "mock-route.yaml")
            running.wait_for("moved", before)
        with load(running) as seen_after:
            while seen_after.total() < 150:
                time.sleep(0.01)
        assert set(seen_after) == {"v1 v1 v1", "v2 v2 v2"}, seen_after
        assert all(
            answer in ("v1 v1 v1", "v2 v2 v2", "v3 v3 v3")
            or (versions_in(answer) == "v3 v3" and answer.endswith("-> mockb(injected: abort 500)"))
            for answer in seen
        ), seen
        assert _probe(url, "-n", "150", ends_with=0)["failures"] == []


def test_the_header_reaches_its_hop_through_the_mesh(move_to: MoveTo) -> None:
    objects = [*chain(mocka="v1", mockb="v1", mockc="v1"), gateway()]
    for app in ("mocka", "mockb"):
        set_env(objects, app, fault_header="on")
    running = move_to(*objects, at_gateway({"route": [to(MOCKA)]}))
    assert running.versions() == "v1 v1 v1"
    aborted = running.get(x_mock_fault="mockb; abort=418")
    assert aborted.status == 418
    assert aborted.text.endswith("-> mockb(injected: abort 418)")
    assert ", fault: delay 0.2 s)" in running.get(x_mock_fault="mocka; delay=0.2").text
    # mockc does not take it.
    assert running.versions(x_mock_fault="mockc; abort=418") == "v1 v1 v1"
