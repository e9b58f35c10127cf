"""Mesh -> Envoy's configuration: what each field becomes, and that Envoy takes all of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mockservice.lanes.addresses import Place
from mockservice.lanes.envoy import configuration, sidecar_name
from mockservice.lanes.processes import Processes
from mockservice.lanes.proxy import Proxy
from mockservice.mesh.errors import RefusedError
from mockservice.mesh.model import (
    Destination,
    Fault,
    HeaderChanges,
    Headers,
    LaneCarrier,
    Match,
    Mesh,
    OutlierDetection,
    Pod,
    Retries,
    Route,
    RouteTable,
    Service,
    Subset,
    Text,
    pairs,
)

if TYPE_CHECKING:
    from pathlib import Path

HOST = "mocka.default.svc.cluster.local"
V1, V2, V3 = (
    Pod(
        f"mocka-{version}-0",
        "default",
        pairs({"app": "mocka", "version": version}),
        pairs({"app": "mocka", "version": version}),
        8000,
    )
    for version in ("v1", "v2", "v3")
)
PLACES = {
    pod: Place(number, f"127.99.0.{number}", 8000, 15001, 15006)
    for number, pod in enumerate((V1, V2, V3), 1)
}
MESH = Mesh(
    pods=(V1, V2, V3),
    services=(Service("mocka", "default", (("app", "mocka"),), (8000, 80)),),
    subsets=tuple(Subset(HOST, name, (("version", name),)) for name in ("v1", "v2", "v3")),
)
ANY = f"outbound|8000||{HOST}"
RETRIES = {
    "retry_on": "connect-failure,refused-stream,unavailable,cancelled",
    "num_retries": 2,
    "retry_host_predicate": [
        {
            "name": "previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3"
                ".PreviousHostsPredicate"
            },
        }
    ],
    "host_selection_retry_max_attempts": 5,
}


def route_of(route: Route, ready: tuple[Pod, ...] = (V1, V2, V3)) -> dict[str, Any]:
    """What becomes of a route at the gateway."""
    mesh = replace(MESH, gateway=(RouteTable(("*",), (route,)),))
    (host,) = configuration(mesh, PLACES, ready, 8080).routes["gateway"]["virtual_hosts"]
    assert host["domains"] == ["*"]
    (found,) = host["routes"]
    result: dict[str, Any] = found
    return result


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (Match(), {"prefix": "/"}),
        (Match(uri=Text("exact", "/a")), {"path": "/a"}),
        (Match(uri=Text("prefix", "/a")), {"prefix": "/a"}),
        (Match(uri=Text("regex", "/a+")), {"safe_regex": {"regex": "/a+"}}),
        (Match(uri=Text("segments", "/a/")), {"path_separated_prefix": "/a"}),
        (Match(uri=Text("segments", "/")), {"prefix": "/"}),
        (
            Match(method=Text("exact", "GET")),
            {"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]},
        ),
        (
            Match(headers=(("x-a", Text("regex", "1+")), ("x-b", Text("present")))),
            {
                "prefix": "/",
                "headers": [
                    {"name": "x-a", "string_match": {"safe_regex": {"regex": "1+"}}},
                    {"name": "x-b", "present_match": True},
                ],
            },
        ),
        (
            Match(without_headers=(("x-a", Text("prefix", "1")), ("x-b", Text("present")))),
            {
                "prefix": "/",
                "headers": [
                    {
                        "name": "x-a",
                        "string_match": {"prefix": "1"},
                        "treat_missing_header_as_empty": True,
                        "invert_match": True,
                    },
                    {"name": "x-b", "present_match": True, "invert_match": True},
                ],
            },
        ),
    ],
)
def test_a_match(match: Match, expected: dict[str, Any]) -> None:
    assert route_of(Route((Destination(HOST),), (match,)))["match"] == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"timeout": "0s", "retry_policy": RETRIES}),
        ({"timeout": 1.5}, {"timeout": "1.5s"}),
        ({"rewrite_uri": "/new"}, {"prefix_rewrite": "/new"}),
        ({"rewrite_authority": "other"}, {"host_rewrite_literal": "other"}),
        ({"retries": Retries(0)}, {"retry_policy": RETRIES | {"num_retries": 0}}),
        (
            {"retries": Retries(3, 0.25, "5xx,429")},
            {
                "retry_policy": RETRIES
                | {
                    "num_retries": 3,
                    "retry_on": "5xx,retriable-status-codes",
                    "retriable_status_codes": [429],
                    "per_try_timeout": "0.25s",
                }
            },
        ),
    ],
)
def test_a_routes_action(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    action = route_of(Route((Destination(HOST),), **changes))["route"]
    assert expected.items() <= action.items()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            Fault(delay=2, delay_percent=100),
            {
                "delay": {
                    "fixed_delay": "2s",
                    "percentage": {"numerator": 1000000, "denominator": "MILLION"},
                }
            },
        ),
        (
            Fault(abort_status=503, abort_percent=0.5),
            {
                "abort": {
                    "http_status": 503,
                    "percentage": {"numerator": 5000, "denominator": "MILLION"},
                }
            },
        ),
    ],
)
def test_a_fault(fault: Fault, expected: dict[str, Any]) -> None:
    config = route_of(Route((Destination(HOST),), fault=fault))["typed_per_filter_config"]["fault"]
    assert {key: value for key, value in config.items() if key != "@type"} == expected


def test_header_changes_of_routes_and_destinations() -> None:
    request = HeaderChanges(set=(("x-a", "1"),), add=(("x-b", "2"),), remove=("x-c",))
    headers = Headers(request, HeaderChanges(remove=("x-d",)))
    expected = {
        "request_headers_to_add": [
            {
                "header": {"key": "x-a", "value": "1"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            },
            {"header": {"key": "x-b", "value": "2"}, "append_action": "APPEND_IF_EXISTS_OR_ADD"},
        ],
        "request_headers_to_remove": ["x-c"],
        "response_headers_to_remove": ["x-d"],
    }
    route = route_of(Route((Destination(HOST, headers=headers),), headers=headers))
    assert expected.items() <= route.items()
    (cluster,) = route["route"]["weighted_clusters"]["clusters"]
    assert cluster == {"name": ANY, "weight": 1, **expected}


@pytest.mark.parametrize(
    ("destination", "ready", "cluster"),
    [
        (Destination(HOST), (V1,), ANY),
        (Destination(HOST, 80), (V1,), f"outbound|80||{HOST}"),
        (Destination(HOST, subset="v2"), (), f"outbound|8000|v2|{HOST}"),
        (Destination(HOST, subset="v2", fallback="v1"), (V1, V2), f"outbound|8000|v2|{HOST}"),
        (Destination(HOST, subset="v2", fallback="v1"), (V1,), f"outbound|8000|v1|{HOST}"),
    ],
)
def test_a_destination_falls_back_when_its_subset_has_no_pod_that_is_ready(
    destination: Destination, ready: tuple[Pod, ...], cluster: str
) -> None:
    clusters = route_of(Route((destination,)), ready)["route"]["weighted_clusters"]["clusters"]
    assert clusters == [{"name": cluster, "weight": 1}]


def test_a_cluster_holds_the_pods_that_are_ready() -> None:
    clusters = configuration(MESH, PLACES, (V1, V3), 8080).clusters

    def ips(name: str) -> list[str]:
        (group,) = clusters[name]["load_assignment"]["endpoints"]
        return [
            one["endpoint"]["address"]["socket_address"]["address"] for one in group["lb_endpoints"]
        ]

    assert ips(ANY) == ["127.99.0.1", "127.99.0.3"]
    assert ips(f"outbound|8000|v1|{HOST}") == ["127.99.0.1"]
    assert ips(f"outbound|8000|v2|{HOST}") == []


def test_a_subsets_outlier_detection_goes_before_that_of_its_host() -> None:
    own = OutlierDetection(consecutive_5xx=1, min_health_percent=20)
    subsets = (MESH.subsets[0], replace(MESH.subsets[1], outliers=own))
    outliers = OutlierDetection(0, 4, 5, 30, 50)
    mesh = replace(MESH, subsets=subsets, outliers=((HOST, outliers),))
    clusters = configuration(mesh, PLACES, (), 8080).clusters
    assert clusters[f"outbound|8000|v1|{HOST}"]["outlier_detection"] == {
        "enforcing_success_rate": 0,
        "consecutive_5xx": 0,
        "enforcing_consecutive_5xx": 0,
        "consecutive_gateway_failure": 4,
        "enforcing_consecutive_gateway_failure": 100,
        "interval": "5s",
        "base_ejection_time": "30s",
        "max_ejection_percent": 50,
    }
    v2 = clusters[f"outbound|8000|v2|{HOST}"]
    assert v2["outlier_detection"] == {
        "enforcing_success_rate": 0,
        "consecutive_5xx": 1,
        "enforcing_consecutive_5xx": 100,
    }
    assert v2["common_lb_config"] == {"healthy_panic_threshold": {"value": 20}}


@pytest.mark.parametrize(("namespace", "short"), [("default", ["mocka:8000"]), ("elsewhere", [])])
def test_a_pod_knows_services_by_the_names_that_dns_would(namespace: str, short: list[str]) -> None:
    caller = replace(V1, namespace=namespace)
    known = configuration(MESH, {caller: PLACES[V1]}, (), 8080).routes
    hosts = known[sidecar_name(caller, PLACES[V1])]["virtual_hosts"]
    assert hosts[0]["domains"] == [
        "mocka.default.svc.cluster.local:8000",
        "mocka.default.svc:8000",
        "mocka.default:8000",
        *short,
    ]
    # The port that is meant where there is none.
    assert {"mocka.default", "mocka.default:80"} <= set(hosts[1]["domains"])


def test_a_match_of_other_callers_is_left_out() -> None:
    routes = tuple(
        Route((Destination(HOST, subset=version),), (Match(source_labels=(("version", version),)),))
        for version in ("v1", "v2")
    )
    mesh = replace(MESH, calls=(RouteTable((HOST,), routes),))
    known = configuration(mesh, PLACES, (V1, V2), 8080).routes
    for pod in (V1, V2, V3):
        found = known[sidecar_name(pod, PLACES[pod])]["virtual_hosts"][0]["routes"][1:]
        clusters = [route["route"]["weighted_clusters"]["clusters"][0]["name"] for route in found]
        assert clusters == ([] if pod is V3 else [f"outbound|8000|{pod.version}|{HOST}"])


EVERYTHING = Route(
    (Destination(HOST, subset="v1", weight=70), Destination(HOST, 80, "v2", 30, fallback="v3")),
    (
        Match(Text("regex", "/a.*"), Text("exact", "GET")),
        Match(Text("segments", "/a"), headers=(("x-a", Text("present")),)),
        Match(without_headers=(("x-a", Text("regex", "1+")),), source_labels=(("app", "mocka"),)),
    ),
    Headers(HeaderChanges((("x-a", "1"),), (("x-b", "2"),), ("x-c",))),
    "/new",
    "other",
    1.5,
    Retries(3, 0.25, "5xx,429"),
    Fault(0.1, 10, 503, 0.5),
)


async def accepted(mesh: Mesh, folder: Path) -> None:
    """Have Envoy look at what becomes of a mesh."""
    processes = Processes(folder / "files", lambda _name, _line: None)
    (folder / "files").mkdir()
    try:
        await Proxy(folder / "files", processes).validate(
            configuration(mesh, PLACES, (V1, V2), 8080)
        )
    finally:
        processes.close()


@pytest.mark.slow
async def test_envoy_takes_all_that_there_is(tmp_path: Path) -> None:
    mesh = replace(
        MESH,
        outliers=((HOST, OutlierDetection(0, 4, 5, 30, 50, 10)),),
        gateway=(RouteTable(("*", "*.example.com"), (EVERYTHING,)),),
        gateway_labels=(("app", "mocka"),),
        calls=(RouteTable((HOST,), (EVERYTHING,)),),
        carriers=(LaneCarrier("my-trace-id", "x-lane", (HOST,)), LaneCarrier("b", "c", ())),
    )
    await accepted(mesh, tmp_path)


@pytest.mark.slow
async def test_what_envoy_does_not_take_is_refused_with_its_reason(tmp_path: Path) -> None:
    route = Route((Destination(HOST),), (Match(Text("regex", "(")),))
    mesh = replace(MESH, gateway=(RouteTable(("*",), (route,)),))
    with pytest.raises(RefusedError, match=r"^Envoy rejects .*: missing \): \($"):
        await accepted(mesh, tmp_path)
