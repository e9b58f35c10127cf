"""A rule behind a route that takes all of its calls never applies, and is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mockservice.mesh.survey import read_lane_map
from tests.lanes.building import at_gateway, between_pods, subsets, to
from tests.mesh.test_alternatives import JASON, WEB
from tests.mesh.test_workloads import mesh_of, notes, service, workload

if TYPE_CHECKING:
    from pathlib import Path

    from mockservice.mesh.model import Note
    from tests.mesh.test_workloads import Json

WEB_HOST = "web.default.svc.cluster.local"
REVIEWS = [
    *(workload(f"reviews-{v}", labels={"app": "reviews", "version": v}) for v in ("v1", "v2")),
    service("reviews"),
    subsets("reviews", "v1", "v2"),
]
PATH = {"uri": {"prefix": "/reviews"}}


def never(folder: Path, *objects: Json) -> list[Note]:
    lane_map = read_lane_map(mesh_of(folder, *WEB, *REVIEWS, *objects, calls_of=("web=reviews",)))
    return [note for note in lane_map.notes if " never applies: " in note.text]


def reviews(*rules: tuple[list[Json], str]) -> Json:
    """Rules of matches and of the subset that they lead to."""
    routes = [{"match": matches, "route": [to("reviews", led)]} for matches, led in rules]
    return between_pods(
        "reviews", *({k: v for k, v in one.items() if v or k != "match"} for one in routes)
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([], [JASON]),
        ([], [{"sourceLabels": {"version": "v2"}}]),
        ([{"uri": {"prefix": "/"}}], [JASON | PATH]),
        ([PATH], [JASON | PATH]),
        ([PATH, {"uri": {"exact": "/x"}}], [JASON | PATH, JASON | {"uri": {"exact": "/x"}}]),
    ],
)
def test_a_rule_of_a_lane_behind_a_route_for_all_fails(
    first: list[Json], second: list[Json], tmp_path: Path
) -> None:
    (note,) = never(tmp_path, reviews((first, "v1"), (second, "v2")))
    assert note.fails
    assert note.source is not None
    covered_by = note.text.partition(f"the route at {tmp_path / 'own.yaml'}:")[2]
    assert int(covered_by.partition(" ")[0]) < note.source.line
    assert f"{tmp_path / 'own.yaml'}:{note.source.line}) never applies" in note.text


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([JASON], []),
        ([JASON], [JASON | PATH]),
        ([PATH], [JASON]),
        ([PATH], [JASON | {"uri": {"prefix": "/"}}]),
        ([{"port": 80}], [JASON]),
        ([{"queryParams": {"a": {"exact": "b"}}}], [JASON]),
        ([PATH], [JASON | PATH, JASON]),
    ],
)
def test_a_rule_that_some_call_takes_is_not_told(
    first: list[Json], second: list[Json], tmp_path: Path
) -> None:
    assert never(tmp_path, reviews((first, "v1"), (second, "v2"))) == []


@pytest.mark.parametrize(("second", "led"), [([JASON], "v1"), ([PATH], "v2"), ([], "v2")])
def test_a_rule_that_tells_no_lane_apart_is_only_told(
    second: list[Json], led: str, tmp_path: Path
) -> None:
    (note,) = never(tmp_path, reviews(([], "v1"), (second, led)))
    assert not note.fails


def test_it_is_told_at_the_gateway_too(tmp_path: Path) -> None:
    lane = {"match": [JASON], "route": [to(WEB_HOST, headers={"request": {"set": {"a": "b"}}})]}
    rule = at_gateway({"route": [to(WEB_HOST)]}, lane)
    mesh = mesh_of(tmp_path, *WEB[:3], rule)
    assert [note.fails for note in mesh.notes if " never applies: " in note.text] == [True]


def test_pods_behind_a_rule_that_never_applies_are_told_so(tmp_path: Path) -> None:
    rules = reviews(([], "v1"), ([JASON], "v2"))
    lane_map = read_lane_map(mesh_of(tmp_path, *WEB, *REVIEWS, rules, calls_of=("web=reviews",)))
    (note,) = [one.text for one in lane_map.notes if one.text.startswith("reviews(v2) gets no ")]
    assert note.endswith(" leads to it, but never applies")


@pytest.mark.parametrize(("header", "is_told"), [("accept", True), ("Accept", True), ("x", False)])
def test_a_rule_that_matches_what_is_never_carried_is_told(
    header: str, is_told: bool, tmp_path: Path
) -> None:
    rules = reviews(([{"headers": {header: {"exact": "text/mobile"}}}], "v2"), ([], "v1"))
    told = [one for one in notes(mesh_of(tmp_path, *REVIEWS, rules)) if "never pass on" in one]
    assert len(told) == is_told
    assert all(" matches accept, which mocks never pass on" in one for one in told)
