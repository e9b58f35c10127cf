"""The page beside real local lanes: their shares, edits that move or break them, a killed pod."""

from __future__ import annotations

import os
import re
import shutil
import signal
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.chance import is_plausible
from tests.lanes.running import K8S, RunningLanes, lanes
from tests.ui import axe
from tests.ui.browsing import Browsing, nodes, requests_seen, share, wait_for_requests
from tests.ui.rules import PERMISSIVE, WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.slow

COUNT = 100


def seen(page: Page, lane: str) -> int:
    """How many of the last requests a lane had."""
    return round(share(page, lane) * COUNT)


def versions_of(chain: str) -> str:
    """The versions in a chain as the page draws it, as `v1 v1 v2`."""
    return " ".join(re.findall(r"\((v\d)\)", chain))


def whole(count: Locator) -> int:
    """A count that the page shows."""
    return int((count.text_content() or "").replace(",", ""))


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
            expect(page.locator("#failure-list")).to_have_text("")

            route = folder / "mock-route.yaml"
            edited = route.read_text().replace("weight: 50", "weight: 10", 1)
            route.write_text(edited.replace("weight: 50", "weight: 90", 1))
            expect(page.locator(".share[data-lane=v2] .expected")).to_contain_text(
                "expected 90.0 %"
            )
            wait_for_requests(page, requests_seen(page) + COUNT + 50)
            assert is_plausible(seen(page, "v2"), COUNT, 0.9)
            assert not is_plausible(seen(page, "v2"), COUNT, 0.5)
            expect(page.locator("#failure-list")).to_have_text("")

            os.kill(running.pod("mockb-v2-0"), signal.SIGKILL)
            failed = page.locator("#pods .failed")
            expect(failed).to_have_count(1)
            expect(nodes(page, "v2", "mockb").and_(failed)).to_have_count(1)
            expect(page.locator("#failure-list .chain").first).to_contain_text("mocka(v2)")
            # It is started again, and the failures leave the last requests.
            expect(failed).to_have_count(0)
            expect(page.locator("#leak-count")).to_have_text("0")


def edit_rules(running: RunningLanes, folder: Path, app: str, edit: Callable[[str], str]) -> None:
    """Change the VirtualService of an app, and wait until the lanes have moved."""
    routes = folder / "lane-routes.yaml"
    documents = routes.read_text().split("\n---\n")
    changed = [edit(one) if f"name: {app}\n" in one else one for one in documents]
    assert changed != documents
    seen = len(running.events)
    routes.write_text("\n---\n".join(filter(None, changed)))
    running.wait_for("moved", seen)


def without_lane_rules(document: str) -> str:
    """A VirtualService of which only the route without a match is left."""
    rules, routes = document.index("    - match:"), document.index("    - route:")
    return document[:rules] + document[routes:]


def show_lane(page: Page, lane: str) -> None:
    """Open the page anew, with requests that ask for a lane."""
    query = f"?rate=50&last=50&header=x-asm-prefer-tag:{lane}"
    page.goto(page.url.partition("?")[0] + query)
    wait_for_requests(page, 40)


def test_lanes_of_istio_are_judged_by_what_their_rules_owe(
    browsing: Browsing, tmp_path: Path, axe_source: str
) -> None:
    folder = tmp_path / "mock"
    for source in (*WORKLOADS, PERMISSIVE):
        shutil.copytree(source, folder, dirs_exist_ok=True)
    with (
        lanes(folder, folder=tmp_path, options=("--ui", "--watch")) as running,
        browsing.open(running.events[0]["page"]) as page,
    ):
        leaks = page.locator("#leak-list button")
        red = page.locator("#edges .leak, #edges .fault, #pods .failed")
        expect(page.locator("#notes li")).to_have_text(
            "mockb(v2) gets no request: lane s2 does not hold mockb"
        )
        expect(page.locator("#notes .bad")).to_have_count(0)

        # Sound lanes: what the baseline serves is dashed.
        for lane, versions, rows, fallbacks in (
            ("s1", "v1 v1 v1", "s1 s1 s1", []),
            ("s2", "v2 v1 v2", "s2 s1 s2", ["mockb(v1)"]),
            ("s3", "v1 v3 v1", "s1 s3 s1", ["mocka(v1)", "mockc(v1)"]),
        ):
            show_lane(page, lane)
            latest = page.locator("#request-list li").first
            assert versions_of(latest.locator(".chain").text_content() or "") == versions
            assert latest.locator(".chain .fallback").all_text_contents() == fallbacks
            expect(page.locator("#edges .fallback")).to_have_count(len(fallbacks))
            expect(red).to_have_count(0)
            expect(page.locator("#leak-count")).to_have_text("0")
            expect(page.locator("#pods .node .ip")).to_have_count(3)
            for app, row in zip(("mocka", "mockb", "mockc"), rows.split(), strict=True):
                expect(nodes(page, row, app)).to_have_count(1)

        # The rule of one hop for one lane is dropped.
        edit_rules(running, folder, "mockc", without_lane_rules)
        show_lane(page, "s2")
        reason = re.compile(
            r"lane s2 is owed mockc\(v2\) but got mockc\(v1\): no rule of VirtualService mockc"
            r" \(.*lane-routes\.yaml:\d+\) matches x-asm-prefer-tag: s2"
        )
        expect(leaks).to_have_count(1)
        expect(leaks.locator(".reason")).to_have_text(reason)
        expect(leaks.locator(".chain .leak")).to_have_text("mockc(v1)")
        expect(page.locator("#edges .leak")).to_have_count(1)
        # That mockb falls back is right nevertheless.
        expect(page.locator("#edges .fallback")).to_have_count(1)
        expect(page.locator("#status")).to_contain_text(re.compile(r" \d+ leaked"))
        leaks.click()
        expect(page.locator("dialog .reason")).to_have_text(reason)
        expect(page.locator("dialog .chain .leak")).to_have_text("mockc(v1)")
        assert axe.faults(page, axe_source) == []
        page.keyboard.press("Escape")

        # All of its rules are forgotten: Envoy balances over all versions.
        edit_rules(running, folder, "mockc", lambda _: "")
        show_lane(page, "s1")
        expect(page.locator("#edges .leak")).to_have_count(1)
        expect(leaks.locator(".reason")).to_have_text(
            "lane s1 is owed mockc(v1) but got mockc(v2):"
            " no rule routes the calls of mockc, they are spread over all pods"
        )
        assert 0 < whole(page.locator("#leak-count")) < requests_seen(page)
