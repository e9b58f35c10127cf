"""No sound design is called a leak: each runs behind a real Envoy and is verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mockservice.lanes.local import LocalLanes
from mockservice.mesh.entrances import MAX_KINDS
from mockservice.mesh.load import load
from mockservice.mesh.survey import read_lane_map
from mockservice.verify import entering
from mockservice.verify.run import verify
from tests.lanes.building import at_gateway, to, write
from tests.mesh.designs import DESIGNS, HOSTS, pods

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from mockservice.mesh.lane_map import LaneMap

pytestmark = pytest.mark.slow


def test_a_split_between_pods_is_told_as_what_it_is(tmp_path: Path) -> None:
    file = write(tmp_path / "all.yaml", *pods(), *DESIGNS["a split inside the mesh"]())
    text = "lane v1: a rule between pods splits its calls to mockc by weight, over v1 or v2"
    (note,) = [note for note in read_lane_map(load([file])).notes if note.text == text]
    assert note.source is not None
    assert (note.source.kind, note.source.name) == ("VirtualService", "mockc")
    rule = file.read_text().splitlines()[note.source.line - 1 :]
    assert [line.split()[-1] for line in rule if "weight:" in line] == ["80", "20"]


def test_a_dropped_rule_is_known_where_subsets_are_not_named_like_values(tmp_path: Path) -> None:
    design = DESIGNS["subsets that are not named like values"]()
    for one in design:
        if one["kind"] == "VirtualService" and one["metadata"]["name"] == "mockb":
            del one["spec"]["http"][0]
    lane_map = read_lane_map(load([write(tmp_path / "all.yaml", *pods(), *design)]))
    owed = lane_map.owed("blue", "mockb")
    assert owed is not None
    assert owed.versions == {"v3"}


def _lane_map(tmp_path: Path, *objects: dict[str, Any]) -> LaneMap:
    return read_lane_map(load([write(tmp_path / "all.yaml", *pods(), *objects)]))


def test_every_alternative_of_a_regex_is_entered(tmp_path: Path) -> None:
    lane_map = _lane_map(tmp_path, *DESIGNS["values by regex and by prefix"]())
    assert [str(one) for one in lane_map.entrances] == [
        "/mock",
        "/mock with x-lane: beta",
        "/mock with x-lane: beta-2",
    ]


def test_routes_that_no_request_is_made_up_for_are_told(tmp_path: Path) -> None:
    odd = {"match": [{"uri": {"regex": r"/shop/\b[0-9]+"}}], "route": [to(HOSTS["mocka"])]}
    plain = {"match": [{"uri": {"prefix": "/"}}], "route": [to(HOSTS["mocka"])]}
    notes = _lane_map(tmp_path, at_gateway(odd, plain)).notes
    assert any(
        "at the gateway is not entered: no request for it can be made up" in note.text
        for note in notes
    )


def test_more_kinds_of_requests_than_are_entered_fail(tmp_path: Path) -> None:
    routes = [
        {"match": [{"uri": {"exact": f"/{number}"}}], "route": [to(HOSTS["mocka"])]}
        for number in range(MAX_KINDS + 1)
    ]
    [failing] = [note for note in _lane_map(tmp_path, at_gateway(*routes)).notes if note.fails]
    assert failing.text == (
        f"the gateway tells more than {MAX_KINDS} kinds of requests apart: not all are entered"
    )


# One after the other in the same lanes: to move them is cheaper than to start them.
async def test_every_design_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A share that is off is not looked for here: a quarter of the requests will do.
    monkeypatch.setattr(entering, "TOLD", 0.2)
    first, *_ = DESIGNS.values()
    file = write(tmp_path / "all.yaml", *pods(), *first())
    wrong = {}
    async with LocalLanes([file]) as lanes:
        for name, design in DESIGNS.items():
            write(file, *pods(), *design())
            await lanes.reload()
            verification = await verify(lanes.gateway_url, lanes.lane_map)
            assert verification.requests > 0
            if not verification.hold:
                wrong[name] = [one.text for one in verification.problems() if one.level == "error"]
    assert wrong == {}
