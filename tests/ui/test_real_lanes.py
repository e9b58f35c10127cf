"""The page beside real local lanes: their shares, an edit that moves them, a pod that is killed."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.chance import is_plausible
from tests.lanes.running import K8S, RunningLanes, lanes
from tests.ui.browsing import Browsing, nodes, requests_seen, share, wait_for_requests

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

COUNT = 200


def seen(page: Page, lane: str) -> int:
    """How many of the last requests a lane had."""
    return round(share(page, lane) * COUNT)


def process_of(running: RunningLanes, app: str, version: str) -> int:
    """The process of a pod."""
    for child in running.children():
        env = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if f"app={app}".encode() in env and f"version={version}".encode() in env:
            return child
    raise AssertionError(f"no process of {app} {version}")


def test_shares_a_weight_edit_and_a_killed_pod_are_seen(browsing: Browsing, tmp_path: Path) -> None:
    folder = tmp_path / "mock"
    shutil.copytree(K8S / "workloads", folder)
    for file in (K8S / "asm" / "strict").iterdir():
        shutil.copy(file, folder)
    options = ("--ui", "--watch")
    with lanes(folder, folder=tmp_path, options=options) as running:
        url = running.events[0]["page"]
        with browsing.open(f"{url}?rate=100&last={COUNT}") as page:
            wait_for_requests(page, COUNT)
            for lane in ("v1", "v2"):
                assert is_plausible(seen(page, lane), COUNT, 0.5)
                expected = page.locator(f".share[data-lane={lane}] .expected")
                expect(expected).to_have_text("expected 50.0 %")
                for app in ("mocka", "mockb", "mockc"):
                    expect(nodes(page, lane, app)).to_have_count(1)
            expect(page.locator("#leak-count")).to_have_text("0")
            expect(page.locator("#failure-count")).to_have_text("0")

            route = folder / "mock-route.yaml"
            edited = route.read_text().replace("weight: 50", "weight: 10", 1)
            route.write_text(edited.replace("weight: 50", "weight: 90", 1))
            expect(page.locator(".share[data-lane=v2] .expected")).to_contain_text(
                "expected 90.0 %"
            )
            wait_for_requests(page, requests_seen(page) + COUNT + 50)
            assert is_plausible(seen(page, "v2"), COUNT, 0.9)
            assert not is_plausible(seen(page, "v2"), COUNT, 0.5)
            expect(page.locator("#failure-count")).to_have_text("0")

            os.kill(process_of(running, "mockb", "v2"), signal.SIGKILL)
            failed = page.locator("#pods .failed")
            expect(failed).to_have_count(1)
            expect(nodes(page, "v2", "mockb").and_(failed)).to_have_count(1)
            expect(page.locator("#failure-list .chain").first).to_contain_text("mocka(v2)")
            # It is started again, and the failures leave the last requests.
            wait_for_requests(page, requests_seen(page) + 4 * COUNT)
            expect(failed).to_have_count(0)
            expect(page.locator("#leak-count")).to_have_text("0")
