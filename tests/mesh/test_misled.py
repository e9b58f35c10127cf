"""A rule that leads calls of one Service to another one that the same caller calls is a slip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mockservice.mesh.survey import read_lane_map
from tests.lanes.building import between_pods, to
from tests.mesh.test_alternatives import CANARY, JASON, WEB, rules
from tests.mesh.test_workloads import mesh_of, service, workload

if TYPE_CHECKING:
    from pathlib import Path

    from mockservice.mesh.model import Note
    from tests.mesh.test_workloads import Json

DETAILS = [workload("details"), service("details")]
SHOP = [*WEB, workload("reviews"), service("reviews"), *DETAILS]


def misled(folder: Path, calls: str, *objects: Json) -> list[Note]:
    lane_map = read_lane_map(mesh_of(folder, *objects, calls_of=tuple(calls.split())))
    return [note for note in lane_map.notes if " leads calls of " in note.text]


@pytest.mark.parametrize(
    "led",
    [[to("details")], [to("reviews", weight=90), to("details", weight=10)]],
)
def test_calls_that_are_led_to_another_app_fail(tmp_path: Path, led: list[Json]) -> None:
    slip = rules("reviews", led, [to("reviews")])
    (note,) = misled(tmp_path, "web=details,reviews", *SHOP, slip)
    assert note.fails
    assert note.source is not None
    place = f"{tmp_path / 'own.yaml'}:{note.source.line}"
    assert note.text == (
        f"VirtualService reviews ({place}) leads calls of reviews to details, which web calls too"
    )


def test_versions_with_services_of_their_own_are_led_astray_too(tmp_path: Path) -> None:
    versions = [service(f"reviews-{v}", selector={"app": "reviews"}) for v in ("v1", "v2")]
    slip = rules("reviews", [to("details")], [to("reviews-v1")])
    (note,) = misled(tmp_path, "web=details,reviews", *SHOP, *versions, slip)
    assert note.fails


def test_a_canary_that_is_led_astray_is_told(tmp_path: Path) -> None:
    slip = rules("reviews", [to("details")], [to("reviews-primary")])
    (note,) = misled(tmp_path, "web=details,reviews", *WEB, *CANARY, *DETAILS, slip)
    assert note.fails


@pytest.mark.parametrize(
    "rule",
    [
        rules("reviews", [to("reviews")], [to("reviews")]),
        # Another name of it.
        between_pods("reviews", {"route": [to("details")]}),
        # A canary that gets nothing.
        rules("reviews", [to("details", weight=0), to("reviews", weight=100)], [to("reviews")]),
        # A route behind one that takes all calls, which is told by itself.
        between_pods(
            "reviews", {"route": [to("reviews")]}, {"match": [JASON], "route": [to("details")]}
        ),
    ],
)
def test_what_leads_nowhere_else_is_no_slip(tmp_path: Path, rule: Json) -> None:
    assert not misled(tmp_path, "web=details,reviews", *SHOP, rule)


@pytest.mark.parametrize(
    "match",
    [
        # A part of it that has become a service.
        {"uri": {"prefix": "/details"}},
        JASON | {"uri": {"prefix": "/details"}},
        {"queryParams": {"part": {"exact": "details"}}},
        {"method": {"exact": "POST"}},
        {"scheme": {"exact": "https"}},
        {"port": 9},
        {"sourceLabels": {"app": "mobile"}},
        {"sourceLabels": {"version": "v2"}},
        {"sourceNamespace": "elsewhere"},
    ],
)
def test_a_rule_for_calls_that_the_caller_does_not_make_is_no_slip(
    tmp_path: Path, match: Json
) -> None:
    rule = {"match": [match], "route": [to("details")]}
    rest = [{"match": [JASON], "route": [to("reviews")]}, {"route": [to("reviews")]}]
    assert not misled(tmp_path, "web=details,reviews", *SHOP, between_pods("reviews", rule, *rest))


def test_a_canary_is_no_other_app(tmp_path: Path) -> None:
    rule = rules("reviews", [to("reviews-canary")], [to("reviews-primary")])
    assert not misled(tmp_path, "web=reviews", *WEB, *CANARY, rule)


def test_two_services_of_one_app_are_no_slip(tmp_path: Path) -> None:
    more = service("reviews-v2", selector={"app": "reviews"})
    rule = rules("reviews", [to("reviews-v2")], [to("reviews")])
    assert not misled(tmp_path, "web=reviews,reviews-v2", *SHOP, more, rule)


def test_it_counts_who_calls(tmp_path: Path) -> None:
    rule = rules("reviews", [to("details")], [to("reviews")])
    assert not misled(tmp_path, "web=reviews reviews=details", *SHOP, rule)
