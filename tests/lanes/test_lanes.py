"""What lanes promise, seen through a real Envoy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.chance import is_plausible
from tests.lanes.building import (
    CHAIN,
    MOCKA,
    MOCKB,
    at_gateway,
    between_pods,
    chain,
    deployment,
    entrance,
    gateway,
    lane,
    lane_group,
    service,
    set_env,
    subsets,
    to,
)

if TYPE_CHECKING:
    from tests.lanes.conftest import MoveTo

pytestmark = pytest.mark.slow

TRACE_ID = {"traceHeader": "x-journey", "routeHeader": "x-journey-lane", "fallbackTarget": "s1"}
"""Names that no hop carries unless `lane_headers` has them."""


def permissive(mode: dict[str, Any], **spec: Any) -> list[dict[str, Any]]:
    """The lanes s1 (all at v1), s2 (mocka and mockc at v2) and s3 (mockb at v3)."""
    header = mode["routeHeader"]
    held = {"s1": ("v1", CHAIN), "s2": ("v2", ("mocka", "mockc")), "s3": ("v3", ("mockb",))}
    return [
        *chain(mocka="v1 v2", mockb="v1 v3", mockc="v1 v2"),
        gateway(),
        lane_group(isPermissive=True, permissiveModeConfiguration=mode, **spec),
        *(
            lane(name, version, *services, ingressRules=[entrance(name, header)])
            for name, (version, services) in held.items()
        ),
    ]


def test_a_strict_lane_with_a_hop_down_fails_and_does_not_leak(move_to: MoveTo) -> None:
    objects = [
        *chain(mocka="v1 v2", mockb="v1 v2", mockc="v1 v2"),
        gateway(),
        lane_group(),
        lane("v1", "v1", ingressRules=[entrance("v1", "x-lane")]),
        lane("v2", "v2", ingressRules=[entrance("v2", "x-lane")]),
    ]
    for item in objects:
        if item["metadata"]["name"] == "mockb-v2":
            item["spec"]["replicas"] = 0
    running = move_to(*objects)
    for _ in range(20):
        assert running.versions(x_lane="v1") == "v1 v1 v1"
        broken = running.get(x_lane="v2")
        assert broken.status == 503
        assert "mocka(version: v2" in broken.text
        assert "v1" not in broken.text
    assert running.get(x_lane="v3").status == 404


@pytest.mark.parametrize("carried", [True, False])
def test_an_app_that_drops_the_trace_header_loses_the_lane(carried: bool, move_to: MoveTo) -> None:
    objects = permissive(TRACE_ID)
    set_env(objects, "mocka", lane_headers="x-journey")
    if carried:
        set_env(objects, "mockb", lane_headers="x-journey")
    running = move_to(*objects)
    for number in range(10):
        seen = running.versions(x_journey=str(number), x_journey_lane="s2")
        assert seen == ("v2 v1 v2" if carried else "v2 v1 v1")
        assert running.versions(x_journey=f"{number}b", x_journey_lane="s3") == "v1 v3 v1"
    # What a trace has been in counts, not what the last request was in.
    assert running.versions(x_journey="1", x_journey_lane="s3") == "v1 v3 v1"
    assert running.get(x_journey="1").status == 404


def test_baggage_carries_the_lane_beside_what_else_is_in_it(move_to: MoveTo) -> None:
    mode = {"traceHeader": "baggage", "routeHeader": "my-lane", "fallbackTarget": "s1"}
    running = move_to(*permissive(mode))
    headers = {"my-lane": "s2", "baggage": "user=alice;since=2020,my-lane=s3"}
    response = running.get(**headers, accept="application/json")
    hops = json.loads(response.body)["hops"]
    assert [hop["version"] for hop in hops] == ["v2", "v1", "v2"]
    for hop in hops:
        baggage = hop["lane_headers"]["baggage"].replace(" ", "")
        assert baggage == "user=alice;since=2020,my-lane=s3,my-lane=s2"


def test_a_services_own_fallback_goes_before_that_of_its_group(move_to: MoveTo) -> None:
    mode = {
        "traceHeader": "my-trace-id",
        "routeHeader": "my-trace-id",
        "fallbackTarget": "s1",
        "serviceLevelFallbackTarget": {"default/mockb": "s3"},
    }
    running = move_to(*permissive(mode))
    assert running.share(10, my_trace_id="s2") == {"v2 v3 v2": 10}
    assert running.share(10, my_trace_id="s1") == {"v1 v1 v1": 10}


def test_a_lane_whose_pods_are_gone_falls_back_as_well(move_to: MoveTo) -> None:
    mode = {"traceHeader": "my-trace-id", "routeHeader": "my-trace-id", "fallbackTarget": "s1"}
    objects = permissive(mode)
    for item in objects:
        if item["metadata"]["name"] == "mockc-v2":
            item["spec"]["replicas"] = 0
    running = move_to(*objects)
    assert running.share(10, my_trace_id="s2") == {"v2 v1 v1": 10}


def test_the_ingress_weights_of_lanes_tag_what_enters(move_to: MoveTo) -> None:
    mode = {"traceHeader": "my-trace-id", "routeHeader": "x-asm-prefer-tag", "fallbackTarget": "s1"}
    objects = permissive(mode)
    weights = {"s1": 60, "s2": 20, "s3": 20}
    for item in objects:
        if item["kind"] == "ASMSwimLaneGroup":
            item["spec"]["ingress"]["ingressRouting"] = {
                "ingressRoutingStrategy": "weighted",
                "weightedRoutingRule": {"requestMatches": [{"uri": {"exact": "/mock"}}]},
            }
        if item["kind"] == "ASMSwimLane":
            del item["spec"]["ingressRules"]
            weight = weights[item["metadata"]["name"]]
            item["spec"]["ingressWeight"] = {"destination": {"host": MOCKA}, "weight": weight}
    running = move_to(*objects)
    seen = running.share(300)
    assert running.get("/other").status == 404
    assert set(seen) == {"v1 v1 v1", "v2 v1 v2", "v1 v3 v1"}
    assert is_plausible(seen["v1 v1 v1"], 300, 0.6), seen
    assert is_plausible(seen["v2 v1 v2"], 300, 0.2), seen


def test_services_are_found_across_namespaces_by_every_name_that_they_have(move_to: MoveTo) -> None:
    names = ("far", "far.east", "far.east.svc", "far.east.svc.cluster.local")
    objects = [
        service("near", port=80),
        gateway(),
        deployment("far", "v1", namespace="east"),
        service("far", namespace="east", port=80),
        # Callers in its own namespace may leave it out; the others mean their own Service.
        deployment("far", "v2"),
        service("far", port=80),
        at_gateway(
            *(
                {
                    "match": [{"headers": {"x-version": {"exact": f"v{number}"}}}],
                    "route": [to("near.default.svc.cluster.local", f"v{number}")],
                }
                for number in range(len(names))
            )
        ),
        subsets("near", *(f"v{number}" for number in range(len(names)))),
    ]
    for number, name in enumerate(names):
        objects.append(deployment("near", f"v{number}", env={"upstream_url": f"http://{name}/"}))
    running = move_to(*objects)
    assert running.versions(x_version="v0") == "v0 v2"
    assert running.versions(x_version="v1") == "v1 v1"
    assert running.versions(x_version="v2") == "v2 v1"
    assert running.versions(x_version="v3") == "v3 v1"


def test_a_service_without_routes_spreads_over_all_of_its_pods(move_to: MoveTo) -> None:
    objects = [
        *chain(mocka="v1", mockb="v1 v2", mockc="v1"),
        gateway(),
        at_gateway({"route": [to(MOCKA)]}),
    ]
    running = move_to(*objects)
    seen = running.share(100)
    assert set(seen) == {"v1 v1 v1", "v1 v2 v1"}
    assert is_plausible(seen["v1 v2 v1"], 100, 0.5), seen


def test_where_a_caller_has_routes_a_call_that_matches_none_fails(move_to: MoveTo) -> None:
    elsewhere = {"sourceLabels": {"version": "v2"}, "uri": {"exact": "/elsewhere"}}
    objects = [
        *chain(mocka="v1 v2 v3", mockb="v1", mockc="v1"),
        gateway(),
        subsets(MOCKA, "v1", "v2", "v3"),
        at_gateway(
            {"match": [{"uri": {"exact": "/1"}}], "route": [to(MOCKA, "v1")]},
            {"match": [{"uri": {"exact": "/2"}}], "route": [to(MOCKA, "v2")]},
            {"match": [{"uri": {"exact": "/3"}}], "route": [to(MOCKA, "v3")]},
        ),
        between_pods(
            "mockb",
            {"match": [{"sourceLabels": {"version": "v1"}}, elsewhere], "route": [to(MOCKB)]},
        ),
    ]
    running = move_to(*objects)
    assert running.versions("/1") == "v1 v1 v1"
    assert running.get("/2").status == 404
    assert "mocka(version: v2" in running.get("/2").text
    # Where no rule is for a caller at all, it calls as if there were none.
    assert running.versions("/3") == "v3 v1 v1"
