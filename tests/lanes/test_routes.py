"""Every field of a VirtualService's route, as a caller of the gateway sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.lanes.building import at_gateway, deployment, gateway, service, subsets, to
from tests.running import request

if TYPE_CHECKING:
    from tests.lanes.conftest import MoveTo
    from tests.lanes.running import RunningLanes

pytestmark = pytest.mark.slow

HOP = "mocka.default.svc.cluster.local"
V1, V2, V3 = ([to(HOP, version)] for version in ("v1", "v2", "v3"))


def matching(route: list[dict[str, Any]], *matches: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A route of requests that match."""
    return {"match": list(matches), "route": route, **more}


ROUTES = [
    matching(V1, {"uri": {"exact": "/exact"}}),
    matching(V2, {"uri": {"prefix": "/pre"}}),
    matching(V3, {"uri": {"regex": "/r[0-9]+"}}),
    matching(V1, {"uri": {"prefix": "/method"}, "method": {"exact": "POST"}}),
    matching(V2, {"uri": {"prefix": "/method"}}),
    matching(V1, {"uri": {"prefix": "/header"}, "headers": {"x-a": {"exact": "1"}}}),
    matching(V2, {"uri": {"prefix": "/header"}, "headers": {"x-a": {"prefix": "2"}}}),
    matching(V3, {"uri": {"prefix": "/header"}, "headers": {"x-a": {"regex": "3+"}}}),
    matching(V1, {"uri": {"prefix": "/header"}, "headers": {"x-b": {}}}),
    matching(V1, {"uri": {"prefix": "/without"}, "withoutHeaders": {"x-a": {}}}),
    matching(V2, {"uri": {"prefix": "/without"}, "withoutHeaders": {"x-a": {"exact": "1"}}}),
    matching(V3, {"uri": {"prefix": "/without"}}),
    matching(V1, {"uri": {"prefix": "/either"}}, {"headers": {"x-either": {"exact": "1"}}}),
    matching(
        [
            to(HOP, "v1", headers={"request": {"set": {"x-lane": "own"}, "remove": ["x-env"]}}),
        ],
        {"uri": {"prefix": "/changes"}},
        headers={"request": {"add": {"x-version": "2"}}, "response": {"set": {"x-seen": "yes"}}},
    ),
    matching(V1, {"uri": {"prefix": "/old"}}, rewrite={"uri": "/healthz"}),
    matching([to(HOP, "slow")], {"uri": {"prefix": "/timeout"}}, timeout="100ms"),
    matching(
        V1,
        {"uri": {"prefix": "/abort"}},
        fault={"abort": {"httpStatus": 418, "percentage": {"value": 100}}},
    ),
    # Without a percentage, no request is hit.
    matching(V1, {"uri": {"prefix": "/never"}}, fault={"abort": {"httpStatus": 418}}),
    matching(
        V1,
        {"uri": {"prefix": "/half"}},
        fault={"abort": {"httpStatus": 418, "percentage": {"value": 50}}},
    ),
    matching(
        V1,
        {"uri": {"prefix": "/delay"}},
        timeout="5s",
        fault={"delay": {"fixedDelay": "300ms", "percentage": {"value": 100}}},
    ),
    matching([to(HOP, "v1", 100), to(HOP, "v2", 0)], {"uri": {"prefix": "/nothing-for-v2"}}),
    matching([to(HOP, "none", fallback={"target": {"subset": "v2"}})], {"uri": {"exact": "/none"}}),
    matching([to(HOP, "none")], {"uri": {"exact": "/empty"}}),
]


@pytest.fixture(scope="module")
def running(move_to: MoveTo) -> RunningLanes:
    objects = [
        service("mocka"),
        *(deployment("mocka", version) for version in ("v1", "v2", "v3")),
        # A chain that runs against a wall: its upstream never answers.
        deployment(
            "mocka", "slow", env={"upstream_url": "http://hole:8000/", "upstream_timeout": "1"}
        ),
        deployment("mocka", "none", replicas=0),
        service("hole"),
        deployment("hole", "v1"),
        gateway("*.example.com", "*"),
        subsets(HOP, "v1", "v2", "v3", "slow", "none"),
        at_gateway(*ROUTES),
        {
            **at_gateway(matching(V3, {"uri": {"prefix": "/exact"}}), host="mock.example.com"),
            "metadata": {"name": "by-host", "namespace": "istio-system"},
        },
        {
            "apiVersion": "networking.istio.io/v1beta1",
            "kind": "VirtualService",
            "metadata": {"name": "hole", "namespace": "default"},
            "spec": {
                "hosts": ["hole"],
                "http": [
                    {
                        "route": [to("hole")],
                        "fault": {"delay": {"fixedDelay": "60s", "percent": 100}},
                    },
                ],
            },
        },
    ]
    return move_to(*objects)


@pytest.mark.parametrize(
    ("path", "headers", "version"),
    [
        ("/exact", {}, "v1"),
        ("/exact?with=query", {}, "v1"),
        ("/exact", {"host": "mock.example.com"}, "v3"),
        ("/exact", {"host": "mock.example.com:8080"}, "v3"),
        ("/prefixed", {}, "v2"),
        ("/r12", {}, "v3"),
        ("/method", {}, "v2"),
        ("/header", {"x-a": "1"}, "v1"),
        ("/header", {"X-A": "1"}, "v1"),
        ("/header", {"x-a": "21"}, "v2"),
        ("/header", {"x-a": "33"}, "v3"),
        ("/header", {"x-b": "anything"}, "v1"),
        ("/without", {}, "v1"),
        ("/without", {"x-a": "2"}, "v2"),
        ("/without", {"x-a": "1"}, "v3"),
        ("/either", {}, "v1"),
        ("/elsewhere", {"x-either": "1"}, "v1"),
        ("/nothing-for-v2", {}, "v1"),
        ("/none", {}, "v2"),
    ],
)
def test_the_first_route_that_matches_wins(
    running: RunningLanes, path: str, headers: dict[str, str], version: str
) -> None:
    assert [running.versions(path, **headers) for _ in range(3)] == [version] * 3


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/exact/more", {}),
        ("/r", {}),
        ("/r1x", {}),
        ("/header", {}),
        ("/header", {"x-a": "343"}),
        ("/elsewhere", {}),
        ("/prefixed", {"host": "mock.example.com"}),
    ],
)
def test_what_matches_no_route_is_not_found(
    running: RunningLanes, path: str, headers: dict[str, str]
) -> None:
    assert running.get(path, **headers).status == 404


def test_the_method_decides(running: RunningLanes) -> None:
    assert "v1" in request(f"{running.gateway}/method", method="POST").text


def test_headers_are_set_added_and_removed(running: RunningLanes) -> None:
    headers = {"accept": "application/json", "x-lane": "mine", "x-env": "dev", "x-version": "1"}
    response = running.get("/changes", **headers)
    (hop,) = json.loads(response.body)["hops"]
    assert hop["lane_headers"]["x-lane"] == "own"
    assert hop["lane_headers"]["x-version"].replace(" ", "") == "1,2"
    assert "x-env" not in hop["lane_headers"]
    assert response.headers["x-seen"] == "yes"


def test_the_path_is_rewritten(running: RunningLanes) -> None:
    assert running.get("/old").text == "alive"


def test_a_timeout_ends_the_request(running: RunningLanes) -> None:
    assert running.get("/timeout").status == 504


def test_faults_abort_and_delay(running: RunningLanes) -> None:
    assert running.get("/abort").status == 418
    assert {running.get("/never").status for _ in range(20)} == {200}
    assert {running.get("/half").status for _ in range(25)} == {200, 418}
    assert running.versions("/delay") == "v1"


def test_a_subset_without_pods_is_unavailable(running: RunningLanes) -> None:
    assert running.get("/empty").status == 503
