"""The lane map of every folder of `k8s/`, and of manifests whose lanes are harder to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mockservice.manifests.documents import read
from mockservice.mesh.load import load
from mockservice.mesh.matching import Request
from mockservice.mesh.survey import read_lane_map
from tests.lanes.building import deployment, service, set_env
from tests.manifests.folders import K8S, LANES
from tests.mesh import trees
from tests.mesh.designs import HOSTS, by, calls, enters, named, pods
from tests.mutants.run import write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from mockservice.mesh.lane_map import LaneMap

_STRICT = {"v1": "v1 v1 v1", "v2": "v2 v2 v2"}
_THREE = _STRICT | {"v3": "v3 v3 v3"}
# What the baseline stands in for is in parentheses.
_PERMISSIVE = {"s1": "v1 v1 v1", "s2": "v2 (v1) v2", "s3": "(v1) v3 (v1)"}

_OWED = {
    "asm/strict": _STRICT,
    "asm/permissive-trace-id": _PERMISSIVE,
    "asm/permissive-header": _PERMISSIVE,
    "asm/permissive-baggage": _PERMISSIVE,
    "istio/strict": _STRICT,
    "istio/permissive": _PERMISSIVE,
    "gateway-api": _STRICT,
    "release-v3/asm": _THREE,
    "release-v3/istio": _THREE,
    "failing-v3/roll-back/asm": _THREE,
    "failing-v3/roll-back/istio": _THREE,
    # In call order: web, orders, stock, price, users.
    "shop/strict": {"v1": "v1 v1 v1 v1 v1", "v2": "v2 v2 v2 v2 v2"},
    "shop/permissive": {"s1": "v1 v1 v1 v1 v1", "s2": "(v1) v2 (v1) (v1) v2"},
}


def _map_of(*folders: str) -> LaneMap:
    return read_lane_map(load(K8S / folder for folder in folders))


def _owed(lane_map: LaneMap) -> dict[str, str]:
    return {
        lane.name: " ".join(
            str(one) if (one := lane.owed[app]).is_own else f"({one})" for app in lane_map.apps
        )
        for lane in lane_map.lanes
    }


def test_every_lane_folder_is_here() -> None:
    assert _OWED.keys() == LANES.keys()


@pytest.mark.parametrize("folder", LANES)
def test_what_the_lanes_of_a_folder_are_owed(folder: str) -> None:
    lane_map = _map_of(*LANES[folder], folder)
    assert _owed(lane_map) == _OWED[folder]
    assert lane_map.baseline == ("s1" if "permissive" in folder else None)
    assert not [note for note in lane_map.notes if note.fails]


@pytest.mark.parametrize(
    ("folder", "ways"),
    [
        ("asm/strict", {"v1": "/mock, 50 of 100", "v2": "/mock, 50 of 100"}),
        (
            "istio/permissive",
            {
                "s1": "/mock; /mock with x-asm-prefer-tag: s1",
                "s2": "/mock with x-asm-prefer-tag: s2",
                "s3": "/mock with x-asm-prefer-tag: s3",
            },
        ),
        (
            "asm/permissive-trace-id",
            {name: f"/mock with x-asm-prefer-tag: {name}" for name in ("s1", "s2", "s3")},
        ),
        (
            "release-v3/istio",
            {"v1": "/mock, 60 of 100", "v2": "/mock, 30 of 100", "v3": "/mock, 10 of 100"},
        ),
    ],
)
def test_how_requests_enter_the_lanes(folder: str, ways: dict[str, str]) -> None:
    lane_map = _map_of(*LANES[folder], folder)
    assert {lane.name: lane_map.enters_by(lane) for lane in lane_map.lanes} == ways


def test_lanes_of_labels_are_entered_by_balancing_too(tmp_path: Path) -> None:
    def drop_subsets(document: dict[str, Any]) -> None:
        if document["kind"] == "VirtualService" and document["metadata"]["name"] == "mock":
            [route] = document["spec"]["http"]
            route["route"] = [{"destination": {"host": "mocka.default.svc.cluster.local"}}]

    lane_map = _broken(tmp_path, "istio/strict", drop_subsets)
    ways = [lane_map.enters_by(lane) for lane in lane_map.lanes]
    assert ways == ["/mock, 0.5 of 1", "/mock, 0.5 of 1"]
    assert [(note.text, note.fails) for note in lane_map.notes] == [
        ("/mock: the gateway balances requests over all pods of mocka, of lanes v1, v2", False)
    ]
    assert lane_map.weights(Request("/mock")) == {}


def test_pods_that_no_lane_reaches_are_told_with_the_reason() -> None:
    notes = [note.text for note in _map_of(*LANES["istio/permissive"], "istio/permissive").notes]
    assert notes == ["mockb(v2) gets no request: lane s2 does not hold mockb"]


@pytest.mark.parametrize(
    ("headers", "first", "lane"),
    [
        ({"x-asm-prefer-tag": "s2"}, ("mocka", "v2"), "s2"),
        ({"x-asm-prefer-tag": "s3"}, ("mocka", "v1"), "s3"),
        ({}, ("mocka", "v1"), "s1"),
        ({"x-asm-prefer-tag": "unheard-of"}, ("mocka", "v1"), "s1"),
        # A lane is what was asked for, not what answered.
        ({"x-asm-prefer-tag": "s2"}, ("mocka", "v1"), "s2"),
    ],
)
def test_the_lane_of_a_request_is_what_it_asked_for(
    headers: dict[str, str], first: tuple[str, str], lane: str
) -> None:
    lane_map = _map_of(*LANES["istio/permissive"], "istio/permissive")
    assert lane_map.lane_of(Request("/mock", headers=headers), headers, first) == lane


def test_the_lane_of_a_weighted_request_is_told_by_its_first_hop() -> None:
    lane_map = _map_of("workloads", "asm/strict")
    assert lane_map.lane_of(Request("/mock"), {}, ("mocka", "v2")) == "v2"
    assert lane_map.lane_of(Request("/mock"), {}, None) is None


def test_the_header_that_the_gateway_set_tells_the_lane_of_a_weighted_request() -> None:
    lane_map = _map_of("workloads", "gateway-api")
    received = {"x-asm-prefer-tag": "v2"}
    assert lane_map.lane_of(Request("/mock"), received, ("mocka", "v1")) == "v2"


def _broken(tmp_path: Path, folder: str, edit: Callable[[dict[str, Any]], None]) -> LaneMap:
    documents = [one.body for one in read(K8S / name for name in (*LANES[folder], folder))]
    for document in documents:
        edit(document)
    write(tmp_path / "all.yaml", documents)
    return read_lane_map(load([tmp_path / "all.yaml"]))


def test_a_lane_whose_only_rule_is_missing_is_known_by_its_subset(tmp_path: Path) -> None:
    def drop_rule(document: dict[str, Any]) -> None:
        if document["kind"] == "VirtualService" and document["metadata"]["name"] == "mockb":
            del document["spec"]["http"][0]

    assert _owed(_broken(tmp_path, "istio/permissive", drop_rule)) == _PERMISSIVE


def test_a_subset_with_the_pods_of_another_lane_is_told_and_not_believed(tmp_path: Path) -> None:
    def turn(document: dict[str, Any]) -> None:
        if document["kind"] == "DestinationRule" and document["metadata"]["name"] == "mockc":
            document["spec"]["subsets"][1]["labels"]["version"] = "v1"

    lane_map = _broken(tmp_path, "istio/permissive", turn)
    assert _owed(lane_map) == _PERMISSIVE
    [told] = [note for note in lane_map.notes if note.fails]
    assert told.text == (
        "lane s2: rules and subsets lead to mockc(v1), which other lanes have;"
        " it is taken to be owed mockc(v2)"
    )
    assert told.source is not None
    assert told.source.name == "mockc"


def test_answers_without_pods_and_copies_enter_no_lane(tmp_path: Path) -> None:
    blue = {"request": {"set": {"x-lane": "blue"}}}
    by_query = {"queryParams": {"blue": {"exact": "1"}}}
    objects = [
        *pods(),
        named("mocka", base="v1", blue="v2", copies="v3"),
        named("mockb", base="v1", blue="v2"),
        enters(
            {"match": [{"uri": {"exact": "/moved"}}], "redirect": {"uri": "/mock"}},
            {"match": [by_query], "headers": blue, **by("mocka", "blue")},
            by("mocka", "base") | {"mirror": {"host": HOSTS["mocka"], "subset": "copies"}},
        ),
        calls("mockb", by("mockb", "blue", x_lane="blue"), by("mockb", "base")),
    ]
    write(tmp_path / "all.yaml", objects)
    lane_map = read_lane_map(load([tmp_path / "all.yaml"]))
    assert [str(one) for one in lane_map.entrances if one.weights == {"blue": 1}] == [
        "/mock?blue=1",
        "/mock with x-lane: blue",
    ]
    assert all(one.path != "/moved" for one in lane_map.entrances)
    assert lane_map.lane_of(Request("/mock?blue=1"), None, None) == "blue"
    assert lane_map.lane_of(Request("/mock?blue=2"), None, None) == "base"
    (copied,) = [note.text for note in lane_map.notes if "only copies" in note.text]
    assert copied.startswith("mocka(v3) gets no request: VirtualService mock (")


def test_a_caller_of_several_upstreams_calls_all_of_them(tmp_path: Path) -> None:
    workloads = trees.pods()
    urls = " http://users:8000/a%2Cb?c ,http://price:8000, http://shop.example.com/"
    set_env(workloads, "stock", upstream_url=urls)
    write(tmp_path / "all.yaml", [*workloads, *trees.strict()])
    topology = read_lane_map(load([tmp_path / "all.yaml"])).topology
    assert {app: topology.callees(app) for app in topology.apps} == {
        "web": ["orders", "users"],
        "orders": ["stock", "price"],
        "stock": ["users", "price"],
        "price": ["users"],
        "users": [],
    }
    # A hop sends a path as it is written.
    assert [call.path for call in topology.calls_of("stock", "v1")] == ["/a%2Cb?c", "/"]


def _without_calls_of(*apps: str) -> list[dict[str, Any]]:
    """Lane v2 of mocka -> mockb -> mockc, where some apps call nothing."""
    workloads = pods()
    for app in apps:
        set_env(workloads, app, upstream_url="")
    both = {"v1": "v1", "v2": "v2"}
    return [
        *workloads,
        *(named(app, **both) for app in ("mockb", "mockc")),
        enters(by("mocka", None)),
        *(calls(app, by(app, "v2", x_lane="v2"), by(app, "v1")) for app in ("mockb", "mockc")),
    ]


@pytest.mark.parametrize(
    ("silent", "unproved", "said"),
    [
        ((), (), None),
        (
            ("mockb",),
            ("mockc",),
            "mockc(v2), but no hop that requests get to calls mockc: name its",
        ),
        (
            ("mocka",),
            ("mockb", "mockc"),
            "mockb(v2) and mockc(v2), but no hop that requests get to calls mockb: name its",
        ),
        (
            ("mocka", "mockb"),
            ("mockb", "mockc"),
            "mockb(v2) and mockc(v2), but no hop that requests get to calls mockb or mockc:"
            " name their",
        ),
    ],
)
def test_lanes_that_no_request_gets_to_prove_nothing(
    silent: tuple[str, ...], unproved: tuple[str, ...], said: str | None, tmp_path: Path
) -> None:
    write(tmp_path / "all.yaml", _without_calls_of(*silent))
    lane_map = read_lane_map(load([tmp_path]))
    assert lane_map.unproved == unproved
    told = [note for note in lane_map.notes if note.fails]
    expected = [] if said is None else [f"lane v2 holds {said} callers with --calls"]
    assert [note.text for note in told] == expected
    assert all(note.source is not None and note.source.name == unproved[0] for note in told)


def test_a_caller_that_nothing_calls_is_named(tmp_path: Path) -> None:
    """Whose versions nothing tells apart: with it, requests get to all that it calls."""
    objects = _without_calls_of("mocka")
    objects = [one for one in objects if "mockb" not in one["metadata"]["name"]]
    objects += [
        service("mockb"),
        deployment("mockb", "v1", env={"upstream_url": "http://mockc:8000/"}),
    ]
    write(tmp_path / "all.yaml", objects)
    lane_map = read_lane_map(load([tmp_path]))
    assert lane_map.unproved == ("mockc",)
    (told,) = [note.text for note in lane_map.notes if note.fails]
    assert told.startswith("lane v2 holds mockc(v2), but no hop that requests get to calls mockb:")


def test_a_lane_whose_subsets_have_other_names_is_told_too(tmp_path: Path) -> None:
    """Subsets have other names than the header's value, and nobody calls them."""
    workloads = pods()
    set_env(workloads, "mocka", upstream_url="")
    objects = [
        *workloads,
        named("mockb", old="v1", new="v2"),
        enters(by("mocka", None)),
        calls("mockb", by("mockb", "new", x_lane="beta"), by("mockb", "old")),
    ]
    write(tmp_path / "all.yaml", objects)
    lane_map = read_lane_map(load([tmp_path]))
    (told,) = [note.text for note in lane_map.notes if note.fails]
    assert told == (
        "lane beta holds mockb(v2), but no hop that requests get to calls mockb:"
        " name its callers with --calls"
    )


@pytest.mark.parametrize(
    ("app", "told"),
    [
        ("mocka", "mockb"),
        ("mockb", "mockc"),
        # It calls nothing, and its callers' sidecars choose it.
        ("mockc", None),
        ("batch", None),
    ],
)
def test_pods_without_a_sidecar_fail_where_lanes_need_one(
    app: str, told: str | None, tmp_path: Path
) -> None:
    objects = [*_without_calls_of(), deployment("batch", "v1")]
    name = f"{app}-{'v1' if app == 'batch' else 'v2'}"
    (one,) = [one for one in objects if one["metadata"]["name"] == name]
    one["spec"]["template"]["metadata"]["annotations"] = {"sidecar.istio.io/inject": "false"}
    write(tmp_path / "all.yaml", objects)
    (note,) = [
        note for note in read_lane_map(load([tmp_path])).notes if "inject: false" in note.text
    ]
    said = "it has a sidecar here, and on a cluster none, so that no rule is for its calls"
    more = "" if told is None else f", and lanes tell the versions of {told} apart"
    assert note.text == f"Deployment {name}: sidecar.istio.io/inject: false: {said}{more}"
    assert note.fails is (told is not None)


def test_a_subset_without_pods_is_told_once() -> None:
    notes = read_lane_map(load([K8S / "workloads", K8S / "istio/permissive"])).notes
    about = [note.text for note in notes if "s3" in note.text]
    assert len(about) == 1
    assert about[0].startswith("subset s3 of mockb has no pods: ")


def test_without_rules_between_pods_there_are_no_lanes_and_a_note_says_so() -> None:
    lane_map = read_lane_map(
        load(
            [
                K8S / "workloads",
                K8S / "gateway-api" / "mock-route.yaml",
                K8S / "gateway-api" / "hop-versions.yaml",
            ]
        )
    )
    assert lane_map.lanes == ()
    assert [note.text for note in lane_map.notes] == [
        "no lanes: no rule between pods matches a header or a caller's labels"
    ]


def test_without_lanes_each_app_may_have_a_default_of_its_own(tmp_path: Path) -> None:
    """No subset is that of most apps: none of their names is that of the baseline."""
    objects = [
        *pods(),
        *(named(app, v1="v1", v2="v2", v3="v3") for app in HOSTS),
        enters(by("mocka", "v1")),
        calls("mockb", by("mockb", "v3")),
        calls("mockc", by("mockc", "v2")),
    ]
    write(tmp_path / "mock.yaml", objects)
    (lane,) = read_lane_map(load([tmp_path])).lanes
    assert {app: str(owed) for app, owed in lane.owed.items()} == {
        "mocka": "v1",
        "mockb": "v3",
        "mockc": "v2",
    }


def test_lanes_are_read_out_of_rules_of_what_nobody_calls_yet(tmp_path: Path) -> None:
    """It may just not be told yet who calls whom."""
    workloads = pods()
    set_env(workloads, "mocka", upstream_url="")
    objects = [
        *workloads,
        *(named(app, v1="v1", v2="v2", v3="v3") for app in HOSTS),
        enters(by("mocka", "v1")),
        calls("mockb", by("mockb", "v2", x_lane="blue"), by("mockb", "v1")),
    ]
    write(tmp_path / "all.yaml", objects)
    lane_map = read_lane_map(load([tmp_path / "all.yaml"]))
    assert [lane.name for lane in lane_map.lanes] == ["v1", "blue"]
    owed = {
        lane.name: (str(lane.owed["mocka"]), str(lane.owed["mockb"])) for lane in lane_map.lanes
    }
    assert owed == {"v1": ("v1", "v1"), "blue": ("v1", "v2")}


def test_everybody_is_owed_the_entrance_that_is_no_lanes_own(tmp_path: Path) -> None:
    """Strict lanes of a header, behind an entrance of versions that all lanes share."""
    objects = [
        *(one for one in pods() if one["metadata"]["name"] != "mocka-v2"),
        named("mockb", blue="v2"),
        enters({"route": [{"destination": {"host": HOSTS["mocka"]}}]}),
        calls("mockb", by("mockb", "blue", x_lane="blue")),
    ]
    write(tmp_path / "all.yaml", objects)
    (lane,) = read_lane_map(load([tmp_path / "all.yaml"])).lanes
    assert str(lane.owed["mocka"]) == "v1 or v3"
