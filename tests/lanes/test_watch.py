"""`mockservice lanes --watch`: edits move what runs, and lose nothing."""

from __future__ import annotations

import asyncio
import http.client
import shutil
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from mockservice.lanes.watch import Watch
from tests.chance import is_plausible
from tests.lanes.building import (
    CHAIN,
    MOCKA,
    UNFIT,
    at_gateway,
    between_pods,
    chain,
    gateway,
    lane,
    lane_group,
    set_env,
    subsets,
    to,
    write,
)
from tests.lanes.running import K8S, RunningLanes, lanes, versions_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lanes.conftest import MoveTo

pytestmark = pytest.mark.slow

WATCH = ("--watch",)


async def test_edits_in_folders_of_folders_are_seen_on_request(tmp_path: Path) -> None:
    file = tmp_path / "inside" / "deep" / "a.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("a: 1\n")
    flat, deep = Watch([tmp_path]), Watch([tmp_path], recursive=True)
    file.write_text("a: 12\n")
    await asyncio.wait_for(deep.change(), 10)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(flat.change(), 1)


@contextmanager
def load(running: RunningLanes, clients: int = 2) -> Iterator[Counter[str]]:
    """Requests without a break, on connections that are kept; what came back, by versions."""
    seen: Counter[str] = Counter()
    over = threading.Event()
    address = urlsplit(running.gateway).netloc

    def call() -> None:
        connection = http.client.HTTPConnection(address, timeout=30)
        while not over.is_set():
            try:
                connection.request("GET", "/mock")
                response = connection.getresponse()
                text = response.read().decode()
                seen[versions_in(text) if response.status == 200 else text] += 1
            except (OSError, http.client.HTTPException) as error:
                seen[repr(error)] += 1
                connection.close()
            time.sleep(0.01)
        connection.close()

    threads = [threading.Thread(target=call) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()


def copy(source: Path, target: Path) -> None:
    """Put a file in place of another at once, as editors and Git do."""
    draft = target.with_suffix(".draft")
    shutil.copy(source, draft)
    draft.replace(target)


def test_the_release_of_v3_and_its_roll_back_lose_no_request(tmp_path: Path) -> None:
    folder = tmp_path / "mock"
    folder.mkdir()
    release = K8S / "release-v3"
    for file in [*(K8S / "workloads").glob("*.yaml"), *(K8S / "asm" / "strict").glob("*.yaml")]:
        shutil.copy(file, folder)
    with lanes(folder, folder=tmp_path, options=WATCH) as running:
        with load(running) as seen:
            assert running.versions() in ("v1 v1 v1", "v2 v2 v2")
            before = len(running.events)
            copy(release / "workloads" / "mock-v3.yaml", folder / "mock-v3.yaml")
            for name in ("swimlanes.yaml", "mock-route.yaml"):
                copy(release / "asm" / name, folder / name)
            moved = running.wait_for("moved", before)
            assert [pod["state"] for pod in moved["pods"]] == ["ready"] * 9
            after = running.share(200)
            before = len(running.events)
            for name in ("mock-route.yaml", "swimlanes.yaml"):
                copy(K8S / "asm" / "strict" / name, folder / name)
            (folder / "mock-v3.yaml").unlink()
            moved = running.wait_for("moved", before)
            assert len(moved["pods"]) == 6
            assert set(running.share(50)) == {"v1 v1 v1", "v2 v2 v2"}
        assert running.stop() == 0
    assert set(seen) == {"v1 v1 v1", "v2 v2 v2", "v3 v3 v3"}, seen
    for versions, share in {"v1 v1 v1": 0.6, "v2 v2 v2": 0.3, "v3 v3 v3": 0.1}.items():
        assert is_plausible(after[versions], 200, share), after


def test_new_pods_take_the_place_of_those_whose_template_changed(move_to: MoveTo) -> None:
    def move_to_version(version: str) -> RunningLanes:
        objects = [*chain(mocka="v1", mockb=version, mockc="v1"), gateway()]
        return move_to(*objects, at_gateway({"route": [to(MOCKA)]}))

    with load(move_to_version("v1")) as seen:
        while not seen:
            time.sleep(0.01)
        for version in ("v2", "v3"):
            assert move_to_version(version).share(20) == {f"v1 {version} v1": 20}
    assert set(seen) == {"v1 v1 v1", "v1 v2 v1", "v1 v3 v1"}, seen


def test_a_request_in_a_lane_that_is_removed_ends_in_it(move_to: MoveTo) -> None:
    slow = {"fixedDelay": "2s", "percentage": {"value": 100}}

    def at_versions(versions: str) -> list[dict[str, object]]:
        last = versions.split()[-1]
        return [
            *chain(mocka=versions, mockb=versions, mockc=versions),
            gateway(),
            *(subsets(app, last) for app in CHAIN),
            at_gateway({"route": [to(MOCKA, last)]}),
            between_pods("mockb", {"route": [to("mockb", last)]}),
            between_pods(
                "mockc",
                {"route": [to("mockc", last)]}
                | ({"fault": {"delay": slow}} if last == "v2" else {}),
            ),
        ]

    running = move_to(*at_versions("v1 v2"))
    client = http.client.HTTPConnection(running.gateway.removeprefix("http://"))
    client.request("GET", "/mock")
    time.sleep(0.3)
    before = len(running.events)
    write(running.path, *at_versions("v1"))
    draining = running.wait_for("pods", before)
    while "draining" not in [pod["state"] for pod in draining["pods"]]:
        before += 1
        draining = running.wait_for("pods", before)
    assert running.versions() == "v1 v1 v1"
    assert versions_in(client.getresponse().read().decode()) == "v2 v2 v2"
    client.close()
    running.wait_for("moved", before)


def test_a_broken_edit_is_told_and_the_last_good_state_goes_on(move_to: MoveTo) -> None:
    pods = [*chain(mocka="v1 v2", mockb="v1 v2", mockc="v1 v2"), gateway(), lane_group()]
    pods += [lane("v1", "v1"), lane("v2", "v2")]

    def route(subset: str, **match: object) -> dict[str, object]:
        return at_gateway(
            {"match": [{"uri": {"exact": "/mock"}, **match}], "route": [to(MOCKA, subset)]}
        )

    running = move_to(*pods, route("v1"))
    good = running.path.read_text()
    broken = {
        "invalid YAML": ": {",
        "is no subset": None,
        "spec.http[0].match[0].prot": None,
        "missing )": None,
    }
    with load(running) as seen:
        for reason, text in broken.items():
            before = len(running.events)
            if text is not None:
                running.path.write_text(text)
            elif "subset" in reason:
                write(running.path, *pods, route("v9"))
            elif "prot" in reason:
                write(running.path, *pods, route("v1", prot=80))
            else:
                write(running.path, *pods, route("v1", headers={"x-a": {"regex": "("}}))
            refused = running.wait_for("refused", before)
            assert len(refused["problems"]) == 1
            assert running.versions() == "v1 v1 v1"
        before = len(running.events)
        running.path.write_text(good)
        running.wait_for("ready", before)
        move_to(*pods, route("v2"))
        assert running.versions() == "v2 v2 v2"
    assert set(seen) == {"v1 v1 v1", "v2 v2 v2"}, seen


def test_a_pod_that_does_not_start_changes_nothing(move_to: MoveTo) -> None:
    way_in = [gateway(), at_gateway({"route": [to(MOCKA)]})]
    running = move_to(*chain(mocka="v1", mockb="v1", mockc="v1"), *way_in)
    before = len(running.events)
    broken = chain(mocka="v1", mockb="v1 v2", mockc="v1")
    for item in broken:
        if item["metadata"]["name"] == "mockb-v2":
            set_env([item], "mockb", **UNFIT)
    write(running.path, *broken, *way_in)
    refused = running.wait_for("refused", before)
    assert "mockb-v2-0 does not start" in refused["problems"][0]
    assert running.share(10) == {"v1 v1 v1": 10}
