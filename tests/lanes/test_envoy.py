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
    ConnectionPool,
    Cors,
    Destination,
    DirectResponse,
    Fault,
    HashOn,
    HeaderChanges,
    Headers,
    LaneCarrier,
    LoadBalancer,
    Match,
    Mesh,
    Mirror,
    OutlierDetection,
    Pod,
    Redirect,
    Retries,
    Route,
    RouteTable,
    Service,
    Subset,
    Text,
    TrafficPolicy,
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
    gateway_port=8000,
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
        (
            Match(uri=Text("prefix", "/A", ignores_case=True)),
            {"prefix": "/A", "case_sensitive": False},
        ),
        (Match(uri=Text("regex", "/A", ignores_case=True)), {"safe_regex": {"regex": "/A"}}),
        (
            Match(query=(("a", Text("exact", "1")), ("b", Text("present")))),
            {
                "prefix": "/",
                "query_parameters": [
                    {"name": "a", "string_match": {"exact": "1"}},
                    {"name": "b", "present_match": True},
                ],
            },
        ),
        (
            Match(authority=Text("prefix", "a."), scheme=Text("exact", "http")),
            {
                "prefix": "/",
                "headers": [
                    {"name": ":authority", "string_match": {"prefix": "a."}},
                    {"name": ":scheme", "string_match": {"exact": "http"}},
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
        (
            {"rewrite_regex": ("^/a", "/b")},
            {"regex_rewrite": {"pattern": {"regex": "^/a"}, "substitution": "/b"}},
        ),
        (
            {"mirrors": (Mirror(Destination(HOST, subset="v2"), 50),)},
            {
                "request_mirror_policies": [
                    {
                        "cluster": f"outbound|8000|v2|{HOST}",
                        "runtime_fraction": {
                            "default_value": {"numerator": 500000, "denominator": "MILLION"}
                        },
                        "disable_shadow_host_suffix_append": True,
                    }
                ]
            },
        ),
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
    ("route", "expected"),
    [
        (
            Route(redirect=Redirect(301, "https", "a", 8443, path="/b")),
            {
                "redirect": {
                    "response_code": "MOVED_PERMANENTLY",
                    "scheme_redirect": "https",
                    "host_redirect": "a",
                    "port_redirect": 8443,
                    "path_redirect": "/b",
                }
            },
        ),
        (
            Route(redirect=Redirect(302, keeps_port=True, prefix="/b")),
            {"redirect": {"response_code": "FOUND", "port_redirect": 8080, "prefix_rewrite": "/b"}},
        ),
        (
            Route(direct_response=DirectResponse(410, "gone")),
            {"direct_response": {"status": 410, "body": {"inline_string": "gone"}}},
        ),
        (Route(direct_response=DirectResponse(500)), {"direct_response": {"status": 500}}),
    ],
)
def test_an_answer_without_a_pod(route: Route, expected: dict[str, Any]) -> None:
    assert route_of(route) == {"match": {"prefix": "/"}, **expected}


def test_cors() -> None:
    cors = Cors((Text("exact", "http://a"),), ("GET", "PUT"), ("x-a", "x-b"), ("x-c",), 90.5, False)
    route = route_of(Route((Destination(HOST),), cors=cors))
    assert route["typed_per_filter_config"]["cors"] == {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": "http://a"}],
        "forward_not_matching_preflights": True,
        "allow_methods": "GET,PUT",
        "allow_headers": "x-a,x-b",
        "expose_headers": "x-c",
        "max_age": "90",
        "allow_credentials": False,
    }


@pytest.mark.parametrize(
    ("hash_on", "expected"),
    [
        (HashOn("header", "x-a"), {"header": {"header_name": "x-a"}}),
        (HashOn("query", "q"), {"query_parameter": {"name": "q"}}),
        (HashOn("source_ip"), {"connection_properties": {"source_ip": True}}),
        (
            HashOn("cookie", "user", "/a", 1.5),
            {"cookie": {"name": "user", "path": "/a", "ttl": "1.5s"}},
        ),
        (HashOn("cookie", "user"), {"cookie": {"name": "user"}}),
    ],
)
def test_requests_with_something_in_common_go_to_the_same_pod(
    hash_on: HashOn, expected: dict[str, Any]
) -> None:
    policy = TrafficPolicy(LoadBalancer("RING_HASH", hash_on, 64))
    mesh = replace(
        MESH,
        policies=((HOST, policy),),
        gateway=(RouteTable(("*",), (Route((Destination(HOST, subset="v1"),)),)),),
    )
    found = configuration(mesh, PLACES, (V1, V2), 8080)
    (route,) = found.routes["gateway"]["virtual_hosts"][0]["routes"]
    assert route["route"]["hash_policy"] == [expected]
    cluster = found.clusters[f"outbound|8000|v1|{HOST}"]
    assert cluster["lb_policy"] == "RING_HASH"
    assert cluster["ring_hash_lb_config"]["minimum_ring_size"] == 64


def test_a_policy_of_a_port_takes_nothing_over_and_that_of_a_subset_does() -> None:
    at_80 = TrafficPolicy(LoadBalancer("RANDOM"))
    whole = TrafficPolicy(LoadBalancer("ROUND_ROBIN"), ConnectionPool(7), ports=((80, at_80),))
    own = TrafficPolicy(LoadBalancer("MAGLEV", size=65537))
    subsets = (MESH.subsets[0], replace(MESH.subsets[1], policy=own))
    mesh = replace(MESH, subsets=subsets, policies=((HOST, whole),))
    clusters = configuration(mesh, PLACES, (), 8080).clusters

    def policy(name: str) -> tuple[str, int]:
        (thresholds,) = clusters[f"outbound|{name}|{HOST}"]["circuit_breakers"]["thresholds"]
        return clusters[f"outbound|{name}|{HOST}"]["lb_policy"], thresholds["max_connections"]

    assert policy("8000|v1") == ("ROUND_ROBIN", 7)
    assert policy("80|v1") == ("RANDOM", 2**32 - 1)
    assert policy("8000|v2") == ("MAGLEV", 7)
    assert policy("80|v2") == ("MAGLEV", 2**32 - 1)
    assert clusters[f"outbound|8000|v2|{HOST}"]["maglev_lb_config"] == {"table_size": 65537}


def test_a_connection_pool() -> None:
    policy = TrafficPolicy(pool=ConnectionPool(1, 2, 3, 4, 5, 1.5, 2.5, 3.5))
    mesh = replace(MESH, policies=((HOST, policy),))
    cluster = configuration(mesh, PLACES, (), 8080).clusters[ANY]
    assert cluster["circuit_breakers"]["thresholds"] == [
        {"max_connections": 1, "max_pending_requests": 2, "max_requests": 3, "max_retries": 4}
    ]
    assert cluster["connect_timeout"] == "1.5s"
    (options,) = cluster["typed_extension_protocol_options"].values()
    assert options["common_http_protocol_options"] == {
        "max_requests_per_connection": 5,
        "idle_timeout": "2.5s",
        "max_connection_duration": "3.5s",
    }


def test_a_port_at_which_no_pod_listens_has_no_pods() -> None:
    (service,) = MESH.services
    mesh = replace(MESH, services=(replace(service, unserved_ports=(80,)),))
    clusters = configuration(mesh, PLACES, (V1,), 8080).clusters
    for port, pods in ((8000, 1), (80, 0)):
        (group,) = clusters[f"outbound|{port}||{HOST}"]["load_assignment"]["endpoints"]
        assert len(group["lb_endpoints"]) == pods


def test_what_no_service_has_is_a_cluster_without_pods() -> None:
    routes = (Route((Destination("mocka.default", 90),), mirrors=(Mirror(Destination(HOST, 91)),)),)
    mesh = replace(MESH, gateway=(RouteTable(("*",), routes),))
    clusters = configuration(mesh, PLACES, (V1,), 8080).clusters
    for name in ("outbound|90||mocka.default", f"outbound|91||{HOST}"):
        assert clusters[name]["load_assignment"]["endpoints"] == [{"lb_endpoints": []}]


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
    own = OutlierDetection(
        consecutive_5xx=1,
        min_health_percent=20,
        splits_local_errors=True,
        consecutive_local_errors=3,
    )
    subsets = (MESH.subsets[0], replace(MESH.subsets[1], policy=TrafficPolicy(outliers=own)))
    whole = TrafficPolicy(outliers=OutlierDetection(0, 4, 5, 30, 50))
    mesh = replace(MESH, subsets=subsets, policies=((HOST, whole),))
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
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 3,
        "enforcing_consecutive_local_origin_failure": 100,
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
        clusters = [
            route["route"].get("cluster")
            or route["route"]["weighted_clusters"]["clusters"][0]["name"]
            for route in found
        ]
        # Who no rule is for calls all pods.
        version = "" if pod is V3 else pod.version
        assert clusters == [f"outbound|8000|{version}|{HOST}"]


def test_a_match_of_another_port_or_namespace_is_left_out() -> None:
    routes = tuple(
        Route((Destination(HOST, subset=version),), (match,))
        for version, match in (
            ("v1", Match(port=80)),
            ("v2", Match(source_namespace="default")),
            ("v3", Match(source_namespace="east")),
        )
    )
    mesh = replace(MESH, calls=(RouteTable((HOST,), routes),))
    known = configuration(mesh, PLACES, (V1, V2), 8080).routes
    hosts = known[sidecar_name(V1, PLACES[V1])]["virtual_hosts"]
    led = {
        host["name"]: [
            route["route"]["weighted_clusters"]["clusters"][0]["name"]
            for route in host["routes"][1:]
        ]
        for host in hosts[:2]
    }
    # A destination without a port leads to the port that is called.
    assert led == {
        f"{HOST}:8000": [f"outbound|8000|v2|{HOST}"],
        f"{HOST}:80": [f"outbound|80|v1|{HOST}", f"outbound|80|v2|{HOST}"],
    }


EVERYTHING = Route(
    (Destination(HOST, subset="v1", weight=70), Destination(HOST, 80, "v2", 30, fallback="v3")),
    (
        Match(Text("regex", "/a.*"), Text("exact", "GET")),
        Match(Text("segments", "/a"), headers=(("x-a", Text("present")),)),
        Match(without_headers=(("x-a", Text("regex", "1+")),), source_labels=(("app", "mocka"),)),
        Match(
            Text("exact", "/A", ignores_case=True),
            query=(("a", Text("exact", "1")), ("b", Text("present"))),
            authority=Text("prefix", "a."),
            scheme=Text("exact", "http"),
        ),
    ),
    Headers(HeaderChanges((("x-a", "1"),), (("x-b", "2"),), ("x-c",))),
    "/new",
    "other",
    1.5,
    Retries(3, 0.25, "5xx,429"),
    Fault(0.1, 10, 503, 0.5),
    mirrors=(Mirror(Destination(HOST, 80, "v2"), 12.5),),
    cors=Cors(
        (Text("exact", "http://a"), Text("prefix", "http://b"), Text("regex", "http://c+")),
        ("GET", "PUT"),
        ("x-a",),
        ("x-b",),
        90.5,
        True,
        False,
    ),
)
ANSWERS = (
    Route(redirect=Redirect(301, "https", "a.example.com", 8443, path="/new")),
    Route(
        matches=(Match(Text("segments", "/a")),),
        redirect=Redirect(308, keeps_port=True, prefix="/b"),
    ),
    Route(direct_response=DirectResponse(410, "gone")),
    Route((Destination(HOST, subset="v1"),), rewrite_regex=("^/a", "/b")),
)
POLICY = TrafficPolicy(
    LoadBalancer("RING_HASH", HashOn("header", "x-a"), 64),
    ConnectionPool(1, 2, 3, 4, 5, 1.5, 2.5, 3.5),
    OutlierDetection(0, 4, 5, 30, 50, 10, splits_local_errors=True, consecutive_local_errors=3),
)
BALANCERS = (
    LoadBalancer("RING_HASH", HashOn("cookie", "user", "/a", 0)),
    LoadBalancer("MAGLEV", HashOn("query", "q"), 65537),
    LoadBalancer("ROUND_ROBIN"),
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
        policies=((HOST, POLICY),),
        subsets=tuple(
            replace(one, policy=TrafficPolicy(balancer))
            for one, balancer in zip(MESH.subsets, BALANCERS, strict=True)
        ),
        gateway=(RouteTable(("*", "*.example.com"), (EVERYTHING, *ANSWERS)),),
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
