"""Every field of a VirtualService's route, as a caller of the gateway sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mockservice.mesh.load import load
from mockservice.mesh.matching import Request, first_route, gateway_route
from mockservice.mesh.topology import Topology
from tests.lanes.building import (
    at_gateway,
    between_pods,
    deployment,
    gateway,
    service,
    subsets,
    to,
)
from tests.running import Response, request, wait_until

if TYPE_CHECKING:
    from tests.lanes.conftest import MoveTo
    from tests.lanes.running import RunningLanes

pytestmark = pytest.mark.slow

HOP = "mocka.default.svc.cluster.local"
V1, V2, V3 = ([to(HOP, version)] for version in ("v1", "v2", "v3"))


def matching(route: list[dict[str, Any]], *matches: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A route of requests that match."""
    return {"match": list(matches), "route": route, **more}


_REGEX_REWRITE = {"match": "^/regex/(.*)$", "rewrite": "/\\1"}
_HASHED = {
    "name": "hashed",
    "labels": {"version": "v3"},
    "trafficPolicy": {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}},
}

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
    matching([to("mocka.default")], {"uri": {"exact": "/partial"}}),
    matching([to(HOP, "caller")], {"uri": {"exact": "/caller"}}),
    matching(V1, {"uri": {"prefix": "/query"}, "queryParams": {"a": {"exact": "1"}, "b": {}}}),
    matching(V2, {"uri": {"prefix": "/query"}, "queryParams": {"a": {"regex": "[0-9]+"}}}),
    matching(V3, {"uri": {"prefix": "/query"}}),
    matching(V1, {"uri": {"prefix": "/CaSe"}, "ignoreUriCase": True}),
    matching(V1, {"uri": {"prefix": "/authority"}, "authority": {"exact": "a.example.com"}}),
    matching(V2, {"uri": {"prefix": "/authority"}}),
    matching(V1, {"uri": {"prefix": "/scheme"}, "scheme": {"exact": "https"}}),
    matching(V2, {"uri": {"prefix": "/scheme"}, "scheme": {"prefix": "http"}}),
    matching(V1, {"uri": {"prefix": "/place"}, "port": 81}),
    matching(V1, {"uri": {"prefix": "/place"}, "gateways": ["mesh"]}),
    matching(V1, {"uri": {"prefix": "/place"}, "sourceNamespace": "default"}),
    matching(
        V2,
        {"uri": {"prefix": "/place"}, "gateways": ["istio-system/ingressgateway"], "port": 80},
    ),
    {
        "match": [{"uri": {"prefix": "/moved"}}],
        "redirect": {"uri": "/exact", "authority": "mock.example.com", "redirectCode": 308},
    },
    {
        "match": [{"uri": {"prefix": "/direct"}}],
        "directResponse": {"status": 410, "body": {"string": "gone"}},
    },
    matching(V1, {"uri": {"prefix": "/regex"}}, rewrite={"uriRegexRewrite": _REGEX_REWRITE}),
    matching(V1, {"uri": {"prefix": "/mirrored"}}, mirror={"host": HOP, "subset": "v2"}),
    matching(
        V1,
        {"uri": {"prefix": "/cors"}},
        corsPolicy={"allowOrigins": [{"exact": "http://a.example.com"}], "allowMethods": ["PUT"]},
    ),
    matching([to(HOP, "hashed")], {"uri": {"prefix": "/hashed"}}),
    matching([to(HOP, "v1", 2), to(HOP, "v2", 1)], {"uri": {"prefix": "/shares"}}),
]


def _calls(host: str, *routes: dict[str, Any], name: str) -> dict[str, Any]:
    """A VirtualService of calls; one without a host is for others to delegate to."""
    service_of_calls = between_pods(host, *routes)
    service_of_calls["metadata"]["name"] = name
    if not host:
        del service_of_calls["spec"]["hosts"]
    return service_of_calls


_CALL = {
    "queryParams": {"x": {"exact": "1"}},
    "authority": {"exact": "called:8000"},
}
_TCP = service("tcp", version="v1")
_TCP["spec"]["ports"][0]["name"] = "tcp"
CALLS = [
    service("called", app="mocka"),
    subsets("called", "v1", "v2", "v3"),
    _calls(
        "*.default.svc.cluster.local",
        {"directResponse": {"status": 410}},
        name="less-specific-than-others",
    ),
    _calls(
        "called",
        matching([to("called", "v1")], {"port": 8001}),
        matching([to("called", "v1")], {"sourceNamespace": "elsewhere"}),
        matching([to("called", "v1")], {"gateways": ["istio-system/ingressgateway"]}),
        {"match": [_CALL], "delegate": {"name": "part"}},
        {"route": [to("called", "v1")]},
        name="called",
    ),
    _calls(
        "",
        matching([to("called", "v3")], {"uri": {"prefix": "/b"}}),
        matching([to("called", "v2")], {"uri": {"prefix": "/A"}, "ignoreUriCase": False}),
        matching(
            [to("called", "v2")],
            {"uri": {"prefix": "/a"}, "port": 8000, "sourceNamespace": "default"},
        ),
        name="part",
    ),
    _TCP,
    _calls("tcp", {"directResponse": {"status": 410}}, name="tcp"),
]


def _replaced(path: str, old: str, **filters: Any) -> dict[str, Any]:
    """A rule that replaces a prefix."""
    modifier = {"type": "ReplacePrefixMatch", "replacePrefixMatch": path}
    (name,) = filters
    return {
        "matches": [{"path": {"value": old}}],
        "filters": [
            {"type": name[0].upper() + name[1:], name: {"path": modifier, **filters[name]}}
        ],
    }


BACKENDS = {"backendRefs": [{"name": "mocka-api", "port": 8000}]}
RULES = [
    {**_replaced("/", "/api/stripped", urlRewrite={}), **BACKENDS},
    {**_replaced("/healthz", "/api/renamed", urlRewrite={}), **BACKENDS},
    _replaced("/", "/api/moved", requestRedirect={}),
    _replaced("/b", "/api/gone", requestRedirect={"scheme": "https", "hostname": "b"}),
    {"matches": [{"path": {"value": "/api/nobody"}}]},
    {
        "matches": [{"path": {"value": "/api"}, "queryParams": [{"name": "a", "value": "1"}]}],
        "filters": [
            {
                "type": "ResponseHeaderModifier",
                "responseHeaderModifier": {"set": [{"name": "x-seen", "value": "yes"}]},
            }
        ],
        **BACKENDS,
    },
]
API = [
    {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "api", "namespace": "default"},
        "spec": {
            "gatewayClassName": "istio",
            "listeners": [
                {"name": "http", "port": 80, "protocol": "HTTP", "hostname": "api.example.org"}
            ],
        },
    },
    {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "api", "namespace": "default"},
        "spec": {"parentRefs": [{"name": "api"}], "rules": RULES},
    },
    service("mocka-api", version="v1"),
]


@pytest.fixture(scope="module")
def running(move_to: MoveTo) -> RunningLanes:
    rule = subsets(HOP, "v1", "v2", "v3", "slow", "none", "caller")
    rule["spec"]["subsets"].append(_HASHED)
    objects = [
        service("mocka"),
        *(deployment("mocka", version) for version in ("v1", "v2")),
        deployment("mocka", "v3", replicas=2),
        # A chain that runs against a wall: its upstream never answers.
        deployment(
            "mocka", "slow", env={"upstream_url": "http://hole:8000/", "upstream_timeout": "1"}
        ),
        deployment("mocka", "none", replicas=0),
        *CALLS,
        deployment(
            "mocka", "caller", env={"upstream_url": "http://called:8000/a?x=1,http://tcp:8000"}
        ),
        service("hole"),
        deployment("hole", "v1"),
        gateway("*.example.com", "*"),
        rule,
        at_gateway(*ROUTES),
        *API,
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
        ("/query?a=1&b=", {}, "v1"),
        ("/query?b=x&a=1&a=2", {}, "v1"),
        ("/query?a=1", {}, "v2"),
        ("/query?a=12", {}, "v2"),
        ("/query?a=%31&b", {}, "v3"),
        ("/query?c=a=1&b", {}, "v3"),
        ("/query", {}, "v3"),
        ("/cAsE/more", {}, "v1"),
        ("/authority", {"host": "a.example.com"}, "v1"),
        ("/authority", {"host": "b.example.com"}, "v2"),
        ("/authority", {}, "v2"),
        ("/scheme", {}, "v2"),
        ("/place", {}, "v2"),
        ("/mirrored", {}, "v1"),
    ],
)
def test_the_first_route_that_matches_wins(
    running: RunningLanes, path: str, headers: dict[str, str], version: str
) -> None:
    assert [running.versions(path, **headers) for _ in range(3)] == [version] * 3
    # The lane map follows requests through the same routes.
    host = headers.get("host", "127.0.0.1").partition(":")[0]
    fields = {name.lower(): value for name, value in headers.items()}
    route = gateway_route(load([running.path]), Request(path, headers=fields, host=host))
    assert route is not None
    led = route.destinations[0]
    assert (led.fallback or led.subset) == version


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
    host = headers.get("host", "127.0.0.1")
    request_there = Request(path, headers=headers, host=host)
    assert gateway_route(load([running.path]), request_there) is None


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


@pytest.mark.parametrize("path", ["/empty", "/partial"])
def test_what_has_no_pods_is_unavailable(running: RunningLanes, path: str) -> None:
    assert running.get(path).status == 503


def test_a_redirect_and_a_direct_response_need_no_pod(running: RunningLanes) -> None:
    moved = running.get("/moved/more?a=1")
    assert moved.status == 308
    assert moved.headers["location"] == "http://mock.example.com/exact?a=1"
    gone = running.get("/direct")
    assert (gone.status, gone.text) == (410, "gone")


def test_the_path_is_rewritten_by_a_regular_expression(running: RunningLanes) -> None:
    assert running.get("/regex/healthz").text == "alive"


def test_a_mirror_gets_a_copy(running: RunningLanes) -> None:
    def received() -> str:
        pods = running.events[-1]["pods"]
        address = next(pod["address"] for pod in pods if pod["name"] == "mocka-v2-0")
        metrics = request(f"http://{address}/metrics").text
        lines = [line for line in metrics.splitlines() if "duration_seconds_count" in line]
        return "\n".join(line for line in lines if line.startswith("http_server"))

    before = received()
    assert running.versions("/mirrored") == "v1"
    wait_until(lambda: received() != before)


def test_pages_of_other_origins_may_see_answers(running: RunningLanes) -> None:
    allowed = running.get("/cors", origin="http://a.example.com")
    assert allowed.headers["access-control-allow-origin"] == "http://a.example.com"
    assert "access-control-allow-origin" not in running.get("/cors", origin="http://b").headers
    headers = {"origin": "http://a.example.com", "access-control-request-method": "PUT"}
    preflight = request(f"{running.gateway}/cors", headers, method="OPTIONS")
    assert (preflight.status, preflight.text) == (200, "")
    assert preflight.headers["access-control-allow-methods"] == "PUT"


def test_requests_of_one_user_go_to_one_pod(running: RunningLanes) -> None:
    pods = {}
    for user in map(str, range(12)):
        (pods[user],) = {running.get("/hashed", x_user=user).text for _ in range(3)}
    assert len(set(pods.values())) == 2


def test_calls_between_pods_take_their_routes(running: RunningLanes) -> None:
    assert [running.versions("/caller") for _ in range(3)] == ["caller v2 v1"] * 3
    mesh = load([running.path])
    topology = Topology(mesh)
    led = {}
    for call in topology.calls("mocka"):
        table = topology.table(call.service)
        route = None if table is None else first_route(table.routes, call.request())
        led[call.service.name] = route and [one.subset for one in route.destinations]
    assert led == {"hole": [None], "called": ["v2"], "tcp": None}


def test_the_rules_of_an_http_route(running: RunningLanes) -> None:
    def get(path: str) -> Response:
        return running.get(path, host="api.example.org")

    assert get("/api/stripped/healthz").text == "alive"
    assert get("/api/renamed").text == "alive"
    assert get("/api/nobody").status == 500
    seen = get("/api/more?a=1")
    assert (seen.status, seen.headers["x-seen"]) == (200, "yes")
    assert get("/api/more").status == 404
    port = running.gateway.rpartition(":")[2]
    for path, location in (
        ("/api/moved/a?b=1", f"http://api.example.org:{port}//a?b=1"),
        ("/api/moved", f"http://api.example.org:{port}/"),
        ("/api/gone/a", "https://b/b/a"),
    ):
        response = get(path)
        assert (response.status, response.headers["location"]) == (302, location)


def test_weights_are_relative(running: RunningLanes) -> None:
    versions = [running.versions("/shares") for _ in range(60)]
    assert 5 < versions.count("v2") < 40
