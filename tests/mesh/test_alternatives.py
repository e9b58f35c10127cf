"""A canary with a Service, or a namespace, of its own is a version of what it stands in for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mockservice.mesh.survey import read_lane_map
from tests.lanes.building import at_gateway, between_pods, gateway, to
from tests.mesh.test_workloads import mesh_of, service, shown, workload

if TYPE_CHECKING:
    from pathlib import Path

    from mockservice.mesh.lane_map import LaneMap
    from tests.mesh.test_workloads import Json

WEB = [
    workload("web", labels={"app": "web", "version": "v1"}),
    service("web"),
    gateway(),
    at_gateway({"route": [to("web.default.svc.cluster.local")]}),
]
CANARY = [
    workload("reviews"),
    workload("reviews-primary"),
    service("reviews", selector={"app": "reviews-primary"}),
    service("reviews-primary"),
    service("reviews-canary", selector={"app": "reviews"}),
]
"""As Flagger makes it."""
JASON = {"headers": {"end-user": {"exact": "jason"}}}


def rules(host: str, jason: list[Json], others: list[Json]) -> Json:
    return between_pods(host, {"match": [JASON], "route": jason}, {"route": others})


def split(primary: int) -> list[Json]:
    return [to("reviews-primary", weight=primary), to("reviews-canary", weight=100 - primary)]


def lane_map_of(folder: Path, *objects: Json, calls: str = "web=reviews") -> LaneMap:
    return read_lane_map(mesh_of(folder, *WEB, *objects, calls_of=(calls,)))


def owed(lane_map: LaneMap, app: str) -> dict[str, str]:
    return {lane.name: str(lane.owed[app]) for lane in lane_map.lanes}


def in_namespace(namespace: str, one: Json) -> Json:
    return one | {"metadata": one["metadata"] | {"namespace": namespace}}


def test_a_canary_with_a_service_of_its_own_is_a_version(tmp_path: Path) -> None:
    lane_map = lane_map_of(tmp_path, *CANARY, rules("reviews", split(0), split(100)))
    assert lane_map.topology.callees("web") == ["reviews"]
    assert owed(lane_map, "reviews") == {"reviews-primary": "reviews-primary", "jason": "reviews"}


def test_a_rule_that_splits_between_services_is_told(tmp_path: Path) -> None:
    lane_map = lane_map_of(tmp_path, *CANARY, rules("reviews", split(50), split(100)))
    assert owed(lane_map, "reviews")["jason"] == "reviews or reviews-primary"
    assert (
        "lane jason: a rule between pods splits its calls to reviews by weight,"
        " over reviews or reviews-primary"
    ) in [note.text for note in lane_map.notes]


def test_a_canary_at_the_entrance_is_a_version(tmp_path: Path) -> None:
    entrance = at_gateway(
        {"match": [JASON], "route": [to("reviews-canary.default.svc.cluster.local")]},
        {"route": [to("reviews-primary.default.svc.cluster.local")]},
    )
    mesh = mesh_of(tmp_path, *CANARY, gateway(), entrance)
    assert shown(mesh) == ["reviews(reviews)", "reviews(reviews-primary)"]


def test_a_path_of_some_users_at_the_gateway_is_an_app_of_its_own(tmp_path: Path) -> None:
    admin = {"match": [JASON | {"uri": {"prefix": "/admin"}}]}
    entrance = at_gateway(
        admin | {"route": [to("admin.default.svc.cluster.local")]},
        {"route": [to("web.default.svc.cluster.local")]},
    )
    mesh = mesh_of(tmp_path, *WEB[:3], workload("admin"), service("admin"), entrance)
    assert shown(mesh) == ["web(v1)", "admin(latest)"]


def reviews_here_and_in(namespace: str) -> list[Json]:
    own = [workload("reviews"), service("reviews")]
    return [*own, *(in_namespace(namespace, one) for one in own)]


def test_a_canary_in_another_namespace_is_a_version(tmp_path: Path) -> None:
    there = "reviews.canary.svc.cluster.local"
    lane_map = lane_map_of(
        tmp_path,
        *reviews_here_and_in("canary"),
        rules("reviews", [to(there)], [to("reviews")]),
    )
    assert owed(lane_map, "reviews") == {
        "reviews.default": "reviews.default",
        "jason": "reviews.canary",
    }


def test_apps_of_one_name_in_namespaces_that_no_rule_joins_are_two(tmp_path: Path) -> None:
    mesh = mesh_of(tmp_path, *reviews_here_and_in("other"))
    assert shown(mesh) == ["reviews.default(latest)", "reviews.other(latest)"]


def test_a_service_that_is_called_by_its_own_name_is_an_app(tmp_path: Path) -> None:
    apps = [one for name in ("reviews", "ratings") for one in (workload(name), service(name))]
    lane_map = lane_map_of(
        tmp_path,
        *apps,
        rules("reviews", [to("ratings")], [to("reviews")]),
        calls="web=reviews,ratings",
    )
    assert lane_map.topology.callees("web") == ["reviews", "ratings"]


def test_what_stands_in_for_several_apps_is_a_version_of_none(tmp_path: Path) -> None:
    names = ("reviews", "ratings", "sorry")
    lane_map = lane_map_of(
        tmp_path,
        *(one for name in names for one in (workload(name), service(name))),
        rules("reviews", [to("sorry")], [to("reviews")]),
        rules("ratings", [to("sorry")], [to("ratings")]),
        calls="web=reviews,ratings",
    )
    assert {f"{name}(latest)" for name in names} <= set(shown(lane_map.mesh))


def test_paths_of_one_host_may_lead_to_several_apps(tmp_path: Path) -> None:
    names = ("shop", "cart", "orders")
    by_path = [
        {"match": [{"uri": {"prefix": f"/{name}"}}], "route": [to(name)]}
        for name in ("cart", "orders")
    ]
    lane_map = lane_map_of(
        tmp_path,
        *(one for name in names for one in (workload(name), service(name))),
        between_pods("shop", *by_path, {"route": [to("shop")]}),
        calls="web=shop,shop/cart",
    )
    assert {f"{name}(latest)" for name in names} <= set(shown(lane_map.mesh))
    assert lane_map.topology.callees("web") == ["shop", "cart"]


def test_an_app_without_a_label_is_named_by_its_service(tmp_path: Path) -> None:
    mesh = mesh_of(
        tmp_path,
        workload("web-v1", labels={"svc": "web", "version": "v1"}),
        service("web", selector={"svc": "web"}),
    )
    assert shown(mesh) == ["web(v1)"]
