"""Manifests -> mesh: what each field becomes, and that no field is ignored in silence."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mockservice.manifests.documents import read
from mockservice.mesh import kubernetes
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
)
from mockservice.mesh.translate import translate
from tests.lanes.building import (
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
    subsets,
    to,
    write,
)

if TYPE_CHECKING:
    from pathlib import Path

MOCKC = "mockc.default.svc.cluster.local"
TO_A = Destination(MOCKA)
_ANY = {"route": [to(MOCKA)]}
SERVICE_B = ("Service", "mockb")

PODS = chain(mocka="v1 v2", mockb="v1", mockc="v1")
BASE = [*PODS, gateway(), subsets(MOCKA, "v1", "v2")]


def mesh_of(folder: Path, *objects: dict[str, Any]) -> Mesh:
    """Write manifests, read and translate them."""
    return translate(read([write(folder / "mock.yaml", *objects)]))


def test_a_deployment_becomes_a_pod_for_each_replica(tmp_path: Path) -> None:
    env = {"upstream_url": "http://mockb:8000/", "port": "9000"}
    mesh = mesh_of(tmp_path, deployment("mocka", "v1", "east", replicas=2, env=env))
    labels = (("app", "mocka"), ("version", "v1"))
    variables = tuple(sorted({"app": "mocka", "version": "v1", **env}.items()))
    assert mesh.pods == (
        Pod("mocka-v1-0", "east", labels, variables, 9000),
        Pod("mocka-v1-1", "east", labels, variables, 9000),
    )


def test_a_service_is_known_by_its_full_name(tmp_path: Path) -> None:
    mesh = mesh_of(tmp_path, service("mocka", "east", port=80))
    (found,) = mesh.services
    assert found == Service("mocka", "east", (("app", "mocka"),), (80,))
    assert found.host == "mocka.east.svc.cluster.local"


def test_a_config_map_gives_variables_and_the_containers_own_win(tmp_path: Path) -> None:
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "more"},
        "data": {"version": "v9", "lane_headers": "x-a"},
    }
    pod = deployment("mocka", "v1")
    (container,) = pod["spec"]["template"]["spec"]["containers"]
    container["envFrom"] = [
        {"configMapRef": {"name": "more"}},
        {"configMapRef": {"name": "none", "optional": True}},
    ]
    mesh = mesh_of(tmp_path, config_map, pod)
    assert mesh.pods[0].env == (("app", "mocka"), ("lane_headers", "x-a"), ("version", "v1"))


@pytest.mark.parametrize(
    ("declared", "carries_http"),
    [
        ({"name": "http"}, True),
        ({"name": "web"}, True),
        ({"name": "GRPC-web"}, True),
        ({"name": "http2-a"}, True),
        ({"name": "tcp-a"}, False),
        ({"name": "tls"}, False),
        ({"name": "https-a"}, False),
        ({"name": "mongo-a"}, False),
        ({"name": "http", "appProtocol": "tcp"}, False),
        ({"name": "tcp", "appProtocol": "http"}, True),
        ({"name": "tcp", "appProtocol": "kubernetes.io/h2c"}, True),
        ({"name": "http", "appProtocol": "kubernetes.io/wss"}, False),
        ({"name": "web", "port": 3306}, False),
        ({"name": "http", "port": 3306}, True),
    ],
)
def test_rules_count_for_ports_of_http_only(
    declared: dict[str, Any], carries_http: bool, tmp_path: Path
) -> None:
    objects = deepcopy([*BASE, between_pods("mockb", {"route": [to(MOCKB)]})])
    service_b = next(one for one in objects if (one["kind"], one["metadata"]["name"]) == SERVICE_B)
    service_b["spec"]["ports"][0].update(declared)
    mesh = mesh_of(tmp_path, *objects)
    assert [table.hosts for table in mesh.calls] == ([(MOCKB,)] if carries_http else [])
    notes = [note.located.partition(": ")[2] for note in mesh.notes]
    port = declared.get("port", 8000)
    expected = (
        f"VirtualService mockb: no effect on calls of mockb: port {port} of the Service is declared"
        " not to carry HTTP, so calls are balanced over all pods"
    )
    assert notes == ([] if carries_http else [expected])


def request_changes(**changes: Any) -> Headers:
    """Headers of which the request's are changed."""
    return Headers(request=HeaderChanges(**changes))


@pytest.mark.parametrize(
    ("manifest", "route"),
    [
        ({}, Route((TO_A,))),
        ({"name": "first"}, Route((TO_A,))),
        (
            {"match": [{"uri": {"exact": "/a"}}, {"uri": {"prefix": "/b"}}]},
            Route((TO_A,), (Match(uri=Text("exact", "/a")), Match(uri=Text("prefix", "/b")))),
        ),
        (
            {"match": [{"uri": {"regex": "/c.*"}, "method": {"exact": "GET"}}]},
            Route((TO_A,), (Match(uri=Text("regex", "/c.*"), method=Text("exact", "GET")),)),
        ),
        (
            {"match": [{"headers": {"x-a": {"prefix": "1"}, "x-b": {}}}]},
            Route(
                (TO_A,),
                (Match(headers=(("x-a", Text("prefix", "1")), ("x-b", Text("present")))),),
            ),
        ),
        (
            {"match": [{"withoutHeaders": {"x-a": {"exact": "1"}}}]},
            Route((TO_A,), (Match(without_headers=(("x-a", Text("exact", "1")),)),)),
        ),
        (
            {"match": [{"withoutHeaders": {"x-a": {"regex": "*"}}}]},
            Route((TO_A,), (Match(without_headers=(("x-a", Text("present")),)),)),
        ),
        (
            {"match": [{"uri": {"prefix": "/A"}, "ignoreUriCase": True, "statPrefix": "a"}]},
            Route((TO_A,), (Match(uri=Text("prefix", "/A", ignores_case=True)),)),
        ),
        (
            {"match": [{"queryParams": {"a": {"exact": "1"}, "b": {"regex": ".+"}}}]},
            Route((TO_A,), (Match(query=(("a", Text("exact", "1")), ("b", Text("regex", ".+")))),)),
        ),
        (
            {"match": [{"authority": {"prefix": "a."}, "scheme": {"exact": "http"}}]},
            Route((TO_A,), (Match(authority=Text("prefix", "a."), scheme=Text("exact", "http")),)),
        ),
        (
            {"route": [to(MOCKA, "v1", 70), to(MOCKA, "v2", 30)]},
            Route(
                (
                    Destination(MOCKA, subset="v1", weight=70),
                    Destination(MOCKA, subset="v2", weight=30),
                )
            ),
        ),
        (
            {"route": [to("mockb.default.svc.cluster.local", None, 100)]},
            Route((Destination(MOCKB),)),
        ),
        (
            {"route": [{"destination": {"host": MOCKA, "port": {"number": 8000}}}]},
            Route((Destination(MOCKA, port=8000),)),
        ),
        (
            {"route": [to(MOCKA, "v2", fallback={"target": {"host": MOCKA, "subset": "v1"}})]},
            Route((Destination(MOCKA, subset="v2", fallback="v1"),)),
        ),
        (
            {"route": [to(MOCKA, headers={"request": {"set": {"x-lane": "v1"}}})]},
            Route((Destination(MOCKA, headers=request_changes(set=(("x-lane", "v1"),))),)),
        ),
        (
            {"headers": {"request": {"add": {"x-a": "1"}, "remove": ["x-b"]}}},
            Route((TO_A,), headers=request_changes(add=(("x-a", "1"),), remove=("x-b",))),
        ),
        (
            {"headers": {"response": {"set": {"x-a": "1"}}}},
            Route((TO_A,), headers=Headers(response=HeaderChanges(set=(("x-a", "1"),)))),
        ),
        (
            {"rewrite": {"uri": "/new", "authority": "other"}},
            Route((TO_A,), rewrite_uri="/new", rewrite_authority="other"),
        ),
        (
            {"rewrite": {"uriRegexRewrite": {"match": "^/(a)", "rewrite": "/\\1"}}},
            Route((TO_A,), rewrite_regex=("^/(a)", "/\\1")),
        ),
        ({"route": [to(MOCKA, weight=7)]}, Route((TO_A,))),
        (
            {
                "mirror": {"host": "mockb.default.svc.cluster.local"},
                "mirrorPercentage": {"value": 5},
            },
            Route((TO_A,), mirrors=(Mirror(Destination(MOCKB), 5),)),
        ),
        (
            {
                "mirrors": [
                    {"destination": {"host": MOCKA, "subset": "v2"}},
                    {"destination": {"host": MOCKA}, "percentage": {"value": 0}},
                ],
            },
            Route((TO_A,), mirrors=(Mirror(Destination(MOCKA, None, "v2")),)),
        ),
        (
            {"route": [], "redirect": {"uri": "/b", "authority": "b", "redirectCode": 307}},
            Route(redirect=Redirect(307, authority="b", path="/b")),
        ),
        (
            {"route": [], "redirect": {"scheme": "https", "derivePort": "FROM_REQUEST_PORT"}},
            Route(redirect=Redirect(301, scheme="https", keeps_port=True)),
        ),
        (
            {"route": [], "directResponse": {"status": 410, "body": {"string": "gone"}}},
            Route(direct_response=DirectResponse(410, "gone")),
        ),
        (
            {"route": [], "directResponse": {"status": 200, "body": {"bytes": "b2s="}}},
            Route(direct_response=DirectResponse(200, "ok")),
        ),
        (
            {
                "corsPolicy": {
                    "allowOrigins": [{"exact": "http://a"}, {"regex": "http://b.*"}],
                    "allowMethods": ["GET"],
                    "allowHeaders": ["x-a"],
                    "exposeHeaders": ["x-b"],
                    "maxAge": "24h",
                    "allowCredentials": True,
                    "unmatchedPreflights": "IGNORE",
                }
            },
            Route(
                (TO_A,),
                cors=Cors(
                    (Text("exact", "http://a"), Text("regex", "http://b.*")),
                    ("GET",),
                    ("x-a",),
                    ("x-b",),
                    86400,
                    True,
                    False,
                ),
            ),
        ),
        ({"timeout": "1m1.5s"}, Route((TO_A,), timeout=61.5)),
        ({"retries": {"attempts": 0}}, Route((TO_A,), retries=Retries(0))),
        (
            {"retries": {"attempts": 3, "perTryTimeout": "250ms", "retryOn": "5xx,429"}},
            Route((TO_A,), retries=Retries(3, 0.25, "5xx,429")),
        ),
        (
            {"fault": {"delay": {"fixedDelay": "2s", "percentage": {"value": 0.5}}}},
            Route((TO_A,), fault=Fault(delay=2, delay_percent=0.5)),
        ),
        (
            {"fault": {"abort": {"httpStatus": 503, "percent": 30}}},
            Route((TO_A,), fault=Fault(abort_status=503, abort_percent=30)),
        ),
        (
            {"fault": {"abort": {"httpStatus": 503}, "delay": {"fixedDelay": "1s"}}},
            Route((TO_A,), fault=Fault(delay=1, delay_percent=0, abort_status=503)),
        ),
    ],
)
def test_a_virtual_services_route(manifest: dict[str, Any], route: Route, tmp_path: Path) -> None:
    manifest = {"route": [to(MOCKA)]} | manifest
    assert mesh_of(tmp_path, *BASE, at_gateway(manifest)).gateway == (RouteTable(("*",), (route,)),)
    between = mesh_of(tmp_path, *BASE, between_pods("mockb", manifest))
    assert between.calls == (RouteTable((MOCKB,), (route,)),)


def notes_of(mesh: Mesh) -> list[str]:
    """The notes of a mesh, without files and lines."""
    return [note.text for note in mesh.notes]


@pytest.mark.parametrize(
    ("asked", "at_the_gateway", "between"),
    [
        (
            {"sourceLabels": {"version": "v1", "app": "mocka"}},
            None,
            Match(source_labels=(("app", "mocka"), ("version", "v1"))),
        ),
        ({"sourceNamespace": "default"}, None, Match(source_namespace="default")),
        ({"sourceNamespace": "istio-system"}, Match(), Match(source_namespace="istio-system")),
        ({"port": 8000}, None, Match(port=8000)),
        ({"port": 80}, Match(), Match(port=80)),
        ({"gateways": ["mesh"], "sourceNamespace": "default"}, None, Match()),
        ({"gateways": ["istio-system/ingressgateway"], "port": 80}, Match(), None),
    ],
)
def test_what_the_place_of_a_route_decides(
    asked: dict[str, Any], at_the_gateway: Match | None, between: Match | None, tmp_path: Path
) -> None:
    service_of_both = at_gateway({"match": [asked], "route": [to(MOCKA)]}, host=MOCKB)
    service_of_both["spec"]["gateways"].append("mesh")
    mesh = mesh_of(tmp_path, *BASE, service_of_both)
    for tables, match in ((mesh.gateway, at_the_gateway), (mesh.calls, between)):
        routes = () if match is None else (Route((TO_A,), (match,)),)
        assert tables == (RouteTable((MOCKB,), routes),)


def test_weights_are_shares_of_their_sum(tmp_path: Path) -> None:
    route = {"route": [to(MOCKA, "v1", 60), to(MOCKA, "v2", 60), to(MOCKB)]}
    mesh = mesh_of(tmp_path, *BASE, at_gateway(route))
    assert [one.weight for one in mesh.gateway[0].routes[0].destinations] == [60, 60, 0]
    assert notes_of(mesh) == [
        "VirtualService mock: spec.http[0].route: weights 60 + 60 + 0 add up to 120: they are"
        " shares of that"
    ]


def test_a_subset_without_pods_is_told(tmp_path: Path) -> None:
    idle = deployment("mocka", "v3", replicas=0)
    objects = [*PODS, gateway(), idle, subsets("mocka", "v1", "v3", "v4"), at_gateway(_ANY)]
    assert notes_of(mesh_of(tmp_path, *objects)) == [
        f"subset {name} of mocka has no pods: no pod of mocka has the label version={name}; must be"
        " one of v1, v2; requests to it get 503"
        for name in ("v3", "v4")
    ]


def delegate(name: str, *routes: dict[str, Any], namespace: str = "default") -> dict[str, Any]:
    """A VirtualService without hosts."""
    service = between_pods(name, *routes, namespace=namespace)
    del service["spec"]["hosts"]
    return service


def test_a_delegate_is_narrowed_and_completed_by_its_root(tmp_path: Path) -> None:
    root = {
        "match": [{"uri": {"prefix": "/a"}, "headers": {"x-a": {"exact": "1"}}}],
        "delegate": {"name": "part", "namespace": "default"},
        "timeout": "1s",
        "retries": {"attempts": 1},
    }
    own: list[dict[str, Any]] = [
        {"match": [{"uri": {"exact": "/a/1"}}], "route": [to(MOCKA, "v1")], "timeout": "2s"},
        {"match": [{"uri": {"prefix": "/b"}}], "route": [to(MOCKA, "v2")]},
        {"route": [to("mockb")]},
    ]
    mesh = mesh_of(tmp_path, *BASE, at_gateway(root), delegate("part", *own))
    header = ("x-a", Text("exact", "1"))
    assert mesh.gateway[0].routes == (
        Route(
            (Destination(MOCKA, subset="v1"),),
            (Match(uri=Text("exact", "/a/1"), headers=(header,)),),
            timeout=2,
            retries=Retries(1),
        ),
        Route(
            (Destination(MOCKB),),
            (Match(uri=Text("prefix", "/a"), headers=(header,)),),
            timeout=1,
            retries=Retries(1),
        ),
    )
    (note,) = notes_of(mesh)
    assert "VirtualService mock: spec.http[0].delegate: a route of VirtualService part (" in note
    assert note.endswith(" is left out: it matches more than this one")


def test_who_delegates_to_nobody_is_told_and_refused(tmp_path: Path) -> None:
    root = at_gateway({"delegate": {"name": "part", "namespace": "elsewhere"}})
    unused = delegate("part", _ANY)
    with pytest.raises(RefusedError, match=r"there is no VirtualService elsewhere/part"):
        mesh_of(tmp_path, *BASE, root, unused)
    assert notes_of(mesh_of(tmp_path, *BASE, at_gateway(_ANY), unused)) == [
        "VirtualService part: spec: no effect: it has no hosts, and nothing delegates to it"
    ]


def test_of_two_virtual_services_for_one_host_the_first_counts(tmp_path: Path) -> None:
    second = between_pods("mockb", {"route": [to(MOCKC)]})
    second["metadata"]["name"] = "second"
    mesh = mesh_of(tmp_path, *BASE, between_pods("mockb", _ANY), second)
    assert mesh.calls == (RouteTable((MOCKB,), (Route((TO_A,)),)),)
    assert notes_of(mesh) == [
        f"VirtualService second: no effect on calls of {MOCKB}: VirtualService mockb routes them; a"
        " cluster takes the older of the two, which may be this"
    ]


def test_a_virtual_service_counts_where_it_is_exported_to(tmp_path: Path) -> None:
    own = between_pods("mockb", {"match": [{"port": 8000}, {"sourceNamespace": "east"}], **_ANY})
    own["spec"]["exportTo"] = ["."]
    everybodys = between_pods("mockb.default.svc.cluster.local", {"route": [to(MOCKC)]})
    everybodys["metadata"]["name"] = "everybodys"
    everybodys["spec"]["exportTo"] = ["west"]
    others = [deployment("mocka", "v1", namespace) for namespace in ("east", "west")]
    mesh = mesh_of(tmp_path, *BASE, *others, own, everybodys)
    assert mesh.calls == (
        RouteTable(
            (MOCKB,),
            (
                Route((TO_A,), (Match(port=8000, source_namespace="default"),)),
                Route((Destination(MOCKC),), (Match(source_namespace="west"),)),
                Route((Destination(MOCKB),), (Match(source_namespace="east"),)),
            ),
        ),
    )
    assert notes_of(mesh) == []
    alone = mesh_of(tmp_path, *BASE, own)
    assert alone.calls[0].routes[0].matches[0] == Match(port=8000)


def test_what_is_not_exported_to_the_gateway_has_no_route_there(tmp_path: Path) -> None:
    hidden = {**at_gateway(_ANY), "metadata": {"name": "hidden", "namespace": "default"}}
    hidden["spec"]["exportTo"] = ["."]
    mesh = mesh_of(tmp_path, *BASE, hidden)
    assert mesh.gateway == ()
    assert notes_of(mesh) == [
        "VirtualService hidden: spec.exportTo: not seen from istio-system, where the gateway is: no"
        " route there"
    ]


def test_hosts_are_several_and_wildcards_and_never_completed(tmp_path: Path) -> None:
    several = between_pods("mockb", _ANY)
    several["spec"]["hosts"].append("mockc")
    wide = between_pods("*.cluster.local", {"route": [to(MOCKB)]})
    wide["metadata"]["name"] = "wide"
    assert mesh_of(tmp_path, *BASE, several, wide).calls == (
        RouteTable((MOCKB, MOCKC), (Route((TO_A,)),)),
        RouteTable((MOCKA,), (Route((Destination(MOCKB),)),)),
    )
    partial = between_pods("mockb.default", _ANY)
    mesh = mesh_of(tmp_path, *BASE, partial, subsets("mockc.default.svc", "v1"))
    assert mesh.calls == ()
    assert notes_of(mesh) == [
        "DestinationRule mockc: spec.host: 'mockc.default.svc': no effect, as Istio does not"
        f" complete it to {MOCKC}",
        "VirtualService mockb: spec.hosts: 'mockb.default': no effect on calls, as Istio does not"
        f" complete it to {MOCKB}",
    ]
    mesh = mesh_of(tmp_path, *BASE, between_pods("mockb", {"route": [to("mockc.default")]}))
    assert mesh.calls[0].routes[0].destinations == (Destination("mockc.default"),)
    assert notes_of(mesh) == [
        f"'mockc.default' is no Service: Istio does not complete it to {MOCKC}; requests to it"
        " get 503"
    ]
    everything = between_pods("*.local", {"route": [to(MOCKB)]})
    everything["metadata"]["name"] = "everything"
    assert mesh_of(tmp_path, *BASE, everything).calls[0].hosts == (MOCKA, MOCKB, MOCKC)
    assert mesh_of(tmp_path, *BASE, at_gateway(_ANY, host="mocka")).gateway[0].hosts == (
        "mocka.istio-system.svc.cluster.local",
    )
    # At a gateway a host may be any name.
    outside = at_gateway(_ANY, host="shop.example.com")
    outside["spec"]["gateways"].append("mesh")
    mesh = mesh_of(tmp_path, *BASE, outside)
    assert (mesh.calls, notes_of(mesh)) == ((), [])


def several_ports(objects: list[dict[str, Any]], *names: str) -> None:
    """Give the Service mockb ports of these names, from 8000 on."""
    found = next(one for one in objects if (one["kind"], one["metadata"]["name"]) == SERVICE_B)
    found["spec"]["ports"] = [
        {"name": name, "port": port, "targetPort": 8000} for port, name in enumerate(names, 8000)
    ]


def test_rules_count_for_the_http_ports_of_a_service(tmp_path: Path) -> None:
    objects = deepcopy([*BASE, between_pods("mockb", _ANY)])
    several_ports(objects, "http-a", "http-b")
    mesh = mesh_of(tmp_path, *objects)
    assert mesh.services[1].ports == (8000, 8001)
    assert mesh.calls == (RouteTable((MOCKB,), (Route((TO_A,)),)),)
    several_ports(objects, "http-a", "tcp-b")
    mesh = mesh_of(tmp_path, *objects)
    assert mesh.calls == (
        RouteTable((MOCKB,), (Route((Destination(MOCKB),), (Match(port=8001),)), Route((TO_A,)))),
    )
    assert notes_of(mesh) == [
        "VirtualService mockb: no effect on calls of mockb: port 8001 of the Service is declared"
        " not to carry HTTP, so calls are balanced over all pods"
    ]


def test_a_port_for_something_else_is_told(tmp_path: Path) -> None:
    objects = deepcopy(BASE)
    several_ports(objects, "http", "http-metrics")
    ports = next(one for one in objects if (one["kind"], one["metadata"]["name"]) == SERVICE_B)
    ports["spec"]["ports"][1]["targetPort"] = 9090
    mesh = mesh_of(tmp_path, *objects)
    assert mesh.services[1].ports == (8000, 8001)
    assert mesh.services[1].unserved_ports == (8001,)
    assert notes_of(mesh) == [
        "Service mockb: spec.ports[1].targetPort: 9090: pods listen only at 8000 here; calls to it"
        " get 503"
    ]


def test_a_destination_without_a_port_is_the_port_that_is_called(tmp_path: Path) -> None:
    objects = deepcopy([*BASE, at_gateway({"route": [to(MOCKB)]})])
    several_ports(objects, "http-a", "http-b")
    mesh = mesh_of(tmp_path, *objects)
    assert mesh.gateway_port == 80
    assert notes_of(mesh) == [
        "a route to mockb names no port, so it leads to the port that is called, 80, which mockb"
        " lacks; requests to it get 503"
    ]


@pytest.mark.parametrize(
    ("served", "asked", "hosts"),
    [
        ("*", "*", ("*",)),
        ("*", "a.example.com", ("a.example.com",)),
        ("*.example.com", "*", ("*.example.com",)),
        ("*.example.com", "a.example.com", ("a.example.com",)),
        ("a.example.com", "*.example.com", ("a.example.com",)),
        ("istio-system/a.example.com", "a.example.com", ("a.example.com",)),
        ("./a.example.com", "a.example.com", ("a.example.com",)),
        ("*/a.example.com", "a.example.com", ("a.example.com",)),
    ],
)
def test_a_gateways_routes_are_for_the_hosts_that_both_name(
    served: str, asked: str, hosts: tuple[str, ...], tmp_path: Path
) -> None:
    objects = [*PODS, gateway(served), at_gateway({"route": [to(MOCKA)]}, host=asked)]
    assert mesh_of(tmp_path, *objects).gateway[0].hosts == hosts


def test_a_destination_rule_becomes_subsets_with_their_outlier_detection(tmp_path: Path) -> None:
    rule = subsets("mocka", "v1", "v2")
    rule["spec"]["trafficPolicy"] = {
        "outlierDetection": {
            "consecutive5xxErrors": 3,
            "consecutiveGatewayErrors": 2,
            "interval": "5s",
            "baseEjectionTime": "30s",
            "maxEjectionPercent": 50,
            "minHealthPercent": 10,
            "splitExternalLocalOriginErrors": True,
            "consecutiveLocalOriginFailures": 4,
        }
    }
    own = {"outlierDetection": {"consecutive5xxErrors": 1}}
    rule["spec"]["subsets"][1]["trafficPolicy"] = own
    mesh = mesh_of(tmp_path, *PODS, rule)
    whole = TrafficPolicy(outliers=OutlierDetection(3, 2, 5, 30, 50, 10, True, 4))
    own_policy = TrafficPolicy(outliers=OutlierDetection(1))
    assert mesh.policies == ((MOCKA, whole),)
    assert mesh.subsets == (
        Subset(MOCKA, "v1", (("version", "v1"),)),
        Subset(MOCKA, "v2", (("version", "v2"),), own_policy),
    )


@pytest.mark.parametrize(
    ("manifest", "policy"),
    [
        ({"loadBalancer": {"simple": "RANDOM"}}, TrafficPolicy(LoadBalancer("RANDOM"))),
        ({"loadBalancer": {"simple": "LEAST_CONN"}}, TrafficPolicy(LoadBalancer("LEAST_REQUEST"))),
        (
            {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}},
            TrafficPolicy(LoadBalancer("RING_HASH", HashOn("header", "x-user"))),
        ),
        (
            {
                "loadBalancer": {
                    "consistentHash": {
                        "httpCookie": {"name": "user", "path": "/a", "ttl": "0s"},
                        "ringHash": {"minimumRingSize": 64},
                    }
                }
            },
            TrafficPolicy(LoadBalancer("RING_HASH", HashOn("cookie", "user", "/a", 0), 64)),
        ),
        (
            {
                "loadBalancer": {
                    "consistentHash": {
                        "httpQueryParameterName": "q",
                        "maglev": {"tableSize": 65537},
                    }
                }
            },
            TrafficPolicy(LoadBalancer("MAGLEV", HashOn("query", "q"), 65537)),
        ),
        (
            {"loadBalancer": {"consistentHash": {"useSourceIp": True, "minimumRingSize": 9}}},
            TrafficPolicy(LoadBalancer("RING_HASH", HashOn("source_ip"), 9)),
        ),
        (
            {
                "connectionPool": {
                    "tcp": {
                        "maxConnections": 1,
                        "connectTimeout": "2s",
                        "maxConnectionDuration": "3s",
                        "tcpKeepalive": {"probes": 1},
                    },
                    "http": {
                        "http1MaxPendingRequests": 4,
                        "http2MaxRequests": 5,
                        "maxRetries": 6,
                        "maxRequestsPerConnection": 7,
                        "idleTimeout": "8s",
                        "h2UpgradePolicy": "UPGRADE",
                    },
                }
            },
            TrafficPolicy(pool=ConnectionPool(1, 4, 5, 6, 7, 2, 8, 3)),
        ),
        ({"tls": {"mode": "ISTIO_MUTUAL"}}, TrafficPolicy()),
        (
            {
                "portLevelSettings": [
                    {"port": {"number": 8000}, "loadBalancer": {"simple": "RANDOM"}}
                ]
            },
            TrafficPolicy(ports=((8000, TrafficPolicy(LoadBalancer("RANDOM"))),)),
        ),
    ],
)
def test_a_traffic_policy(manifest: dict[str, Any], policy: TrafficPolicy, tmp_path: Path) -> None:
    rule = subsets("mocka", "v1", trafficPolicy=manifest)
    rule["spec"]["subsets"][0]["trafficPolicy"] = manifest
    mesh = mesh_of(tmp_path, *PODS, rule)
    assert mesh.policies == ((MOCKA, policy),)
    assert mesh.subsets[0].policy == policy


def test_the_most_specific_destination_rule_counts(tmp_path: Path) -> None:
    wide = subsets("*.default.svc.cluster.local", "v1")
    wide["metadata"]["name"] = "wide"
    wider = subsets("*.local", "v1", "v2")
    wider["metadata"]["name"] = "wider"
    mesh = mesh_of(tmp_path, *PODS, wide, wider, subsets("mocka", "v2"))
    assert [(one.host, one.name) for one in mesh.subsets] == [
        (MOCKA, "v2"),
        (MOCKB, "v1"),
        (MOCKC, "v1"),
    ]


def test_strict_lanes_are_decided_by_the_callers_labels(tmp_path: Path) -> None:
    lanes = [lane("one", "v1"), lane("two", "v2")]
    mesh = mesh_of(tmp_path, *PODS, gateway(), lane_group(), *lanes)
    assert [table.hosts for table in mesh.calls] == [(MOCKA,), (MOCKB,), (MOCKC,)]
    assert mesh.calls[1].routes == (
        Route((Destination(MOCKB, subset="one"),), (Match(source_labels=(("version", "v1"),)),)),
        Route((Destination(MOCKB, subset="two"),), (Match(source_labels=(("version", "v2"),)),)),
        Route((Destination(MOCKB),)),
    )
    assert Subset(MOCKB, "two", (("version", "v2"),)) in mesh.subsets
    assert mesh.carriers == ()
    assert mesh.lane_of(mesh.pods[0]) == "one"


def test_permissive_lanes_are_decided_by_the_route_header(tmp_path: Path) -> None:
    mode = {
        "traceHeader": "My-Trace-Id",
        "routeHeader": "X-Asm-Prefer-Tag",
        "fallbackTarget": "s1",
        "serviceLevelFallbackTarget": {"default/mocka": "s2"},
    }
    objects = [
        lane_group(isPermissive=True, permissiveModeConfiguration=mode),
        lane("s1", "v1"),
        lane("s2", "v2", "mocka", ingressRules=[entrance("s2", "x-asm-prefer-tag")]),
    ]
    mesh = mesh_of(tmp_path, *PODS, gateway(), *objects)

    def by_header(name: str) -> tuple[Match, ...]:
        return (Match(headers=(("x-asm-prefer-tag", Text("exact", name)),)),)

    assert mesh.calls == (
        RouteTable(
            (MOCKA,),
            (
                Route((Destination(MOCKA, subset="s1", fallback="s2"),), by_header("s1")),
                Route((Destination(MOCKA, subset="s2", fallback="s2"),), by_header("s2")),
                Route((Destination(MOCKA, subset="s2"),)),
            ),
        ),
        *(
            RouteTable(
                (host,),
                (
                    Route((Destination(host, subset="s1", fallback="s1"),), by_header("s1")),
                    Route((Destination(host, subset="s1"),), by_header("s2")),
                    Route((Destination(host, subset="s1"),)),
                ),
            )
            for host in (MOCKB, MOCKC)
        ),
    )
    tagged = request_changes(set=(("x-asm-prefer-tag", "s2"),))
    (entered,) = mesh.gateway[0].routes
    assert entered.destinations == (Destination(MOCKA, subset="s2", fallback="s2", headers=tagged),)
    carried = LaneCarrier("my-trace-id", "x-asm-prefer-tag", (MOCKA, MOCKB, MOCKC))
    assert mesh.carriers == (carried,)


def test_an_ingress_rule_that_is_offline_is_left_out(tmp_path: Path) -> None:
    rule = entrance("v1", "x-lane") | {"online": False}
    objects = [lane_group(), lane("v1", "v1", ingressRules=[rule]), lane("v2", "v2")]
    assert mesh_of(tmp_path, *PODS, gateway(), *objects).gateway == ()


def api_gateway(**listener: Any) -> dict[str, Any]:
    """Gateway API's Gateway."""
    listener = {"name": "http", "port": 80, "protocol": "HTTP"} | listener
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "ingressgateway", "namespace": "default"},
        "spec": {"gatewayClassName": "istio", "listeners": [listener]},
    }


def http_route(name: str, *rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """An HTTPRoute at the gateway."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"parentRefs": [{"name": "ingressgateway"}], "rules": list(rules), **spec},
    }


def backend(name: str, **more: Any) -> dict[str, Any]:
    """A backend of an HTTPRoute."""
    return {"name": name, "port": 8000, **more}


def test_http_routes_are_put_in_gateway_apis_order(tmp_path: Path) -> None:
    def rule(*matches: dict[str, Any]) -> dict[str, Any]:
        return {"matches": list(matches), "backendRefs": [backend("mocka")]}

    mesh = mesh_of(
        tmp_path,
        *PODS,
        api_gateway(),
        http_route("one", rule({"path": {"value": "/a"}}), rule({"path": {"value": "/a/long"}})),
        http_route(
            "two",
            rule(
                {"path": {"value": "/a"}, "headers": [{"name": "X-A", "value": "1"}]},
                {"path": {"type": "Exact", "value": "/"}},
            ),
            rule({"path": {"value": "/a"}, "method": "GET"}),
        ),
    )
    a, one = Text("segments", "/a"), ("x-a", Text("exact", "1"))
    assert [route.matches[0] for route in mesh.gateway[0].routes] == [
        Match(Text("exact", "/")),
        Match(Text("segments", "/a/long")),
        Match(a, method=Text("exact", "GET")),
        Match(a, headers=(one,)),
        Match(a),
    ]


def test_http_routes_split_change_headers_and_time_out(tmp_path: Path) -> None:
    filters = [
        {
            "type": "RequestHeaderModifier",
            "requestHeaderModifier": {"set": [{"name": "x-lane", "value": "v1"}]},
        }
    ]
    rule = {
        "backendRefs": [backend("mocka", weight=3, filters=filters), backend("mockb")],
        "timeouts": {"request": "2s"},
    }
    mesh = mesh_of(tmp_path, *PODS, api_gateway(), http_route("one", rule))
    assert mesh.gateway == (
        RouteTable(
            ("*",),
            (
                Route(
                    (
                        Destination(MOCKA, 8000, None, 3, request_changes(set=(("x-lane", "v1"),))),
                        Destination(MOCKB, 8000),
                    ),
                    (Match(),),
                    timeout=2,
                ),
            ),
        ),
    )


TO_A_PORT = Destination(MOCKA, 8000)


def _whole(path: str) -> dict[str, str]:
    return {"type": "ReplaceFullPath", "replaceFullPath": path}


def _prefix(path: str) -> dict[str, str]:
    return {"type": "ReplacePrefixMatch", "replacePrefixMatch": path}


def filtered(**named: Any) -> dict[str, Any]:
    """A filter of an HTTPRoute, or of one of its backends."""
    (name,) = named
    return {"type": name[0].upper() + name[1:], **named}


_AT_A = [{"path": {"value": "/a"}}]
_A = (Match(Text("segments", "/a")),)


@pytest.mark.parametrize(
    ("rule", "route"),
    [
        (
            {"matches": [{"queryParams": [{"name": "A", "value": "1"}], "method": "PUT"}]},
            Route(
                (TO_A_PORT,),
                (
                    Match(
                        Text("segments", "/"),
                        Text("exact", "PUT"),
                        query=(("A", Text("exact", "1")),),
                    ),
                ),
            ),
        ),
        (
            {"timeouts": {"request": "3s", "backendRequest": "2s"}},
            Route((TO_A_PORT,), (Match(),), timeout=2),
        ),
        ({"timeouts": {"request": "0s"}}, Route((TO_A_PORT,), (Match(),))),
        (
            {"backendRefs": [backend("mocka", weight=3), backend("mockb", weight=0)]},
            Route((replace(TO_A_PORT, weight=3), Destination(MOCKB, 8000, weight=0)), (Match(),)),
        ),
        ({"backendRefs": []}, Route((), (Match(),), direct_response=DirectResponse(500))),
        (
            {"backendRefs": [backend("mocka", weight=0)]},
            Route((), (Match(),), direct_response=DirectResponse(500)),
        ),
        (
            {
                "filters": [
                    filtered(
                        responseHeaderModifier={
                            "add": [{"name": "x-a", "value": "1"}],
                            "remove": ["x-b"],
                        }
                    )
                ]
            },
            Route(
                (TO_A_PORT,),
                (Match(),),
                Headers(response=HeaderChanges(add=(("x-a", "1"),), remove=("x-b",))),
            ),
        ),
        (
            {
                "filters": [
                    filtered(requestMirror={"backendRef": backend("mockb"), "percent": 5}),
                    filtered(
                        requestMirror={
                            "backendRef": backend("mockc"),
                            "fraction": {"numerator": 1, "denominator": 8},
                        }
                    ),
                    filtered(requestMirror={"backendRef": backend("mockc"), "percent": 0}),
                ]
            },
            Route(
                (TO_A_PORT,),
                (Match(),),
                mirrors=(
                    Mirror(Destination(MOCKB, 8000), 5),
                    Mirror(Destination(MOCKC, 8000), 12.5),
                ),
            ),
        ),
        (
            {
                "backendRefs": [],
                "filters": [filtered(requestRedirect={"hostname": "b", "statusCode": 301})],
            },
            Route((), (Match(),), redirect=Redirect(301, None, "b", keeps_port=True)),
        ),
        (
            {"filters": [filtered(requestRedirect={"scheme": "https", "path": _whole("/b")})]},
            Route((), (Match(),), redirect=Redirect(302, "https", path="/b")),
        ),
        (
            {
                "matches": _AT_A,
                "filters": [filtered(requestRedirect={"port": 81, "path": _prefix("/b/")})],
            },
            Route((), _A, redirect=Redirect(302, port=81, prefix="/b/")),
        ),
        (
            {
                "matches": _AT_A,
                "filters": [filtered(requestRedirect={"port": 81, "path": _prefix("/")})],
            },
            Route((), _A, redirect=Redirect(302, port=81, prefix="/")),
        ),
        (
            {
                "matches": _AT_A,
                "filters": [filtered(urlRewrite={"hostname": "b", "path": _prefix("/b")})],
            },
            Route((TO_A_PORT,), _A, rewrite_uri="/b", rewrite_authority="b"),
        ),
        (
            {"matches": _AT_A, "filters": [filtered(urlRewrite={"path": _prefix("/")})]},
            Route((TO_A_PORT,), _A, rewrite_regex=("^/a(/?)(.*)", r"/\2")),
        ),
        (
            {"filters": [filtered(urlRewrite={"path": _prefix("/b")})]},
            Route((TO_A_PORT,), (Match(),), rewrite_uri="/b"),
        ),
        (
            {"filters": [filtered(urlRewrite={"path": _whole("/b")})]},
            Route((TO_A_PORT,), (Match(),), rewrite_regex=("/.*", "/b")),
        ),
    ],
)
def test_a_rule_of_an_http_route(rule: dict[str, Any], route: Route, tmp_path: Path) -> None:
    rule = {"backendRefs": [backend("mocka")]} | rule
    mesh = mesh_of(tmp_path, *PODS, api_gateway(), http_route("one", rule))
    assert mesh.gateway == (RouteTable(("*",), (route,)),)
    answered = [
        "HTTPRoute one: spec.rules[0]: no backend has a weight: requests are answered with 500"
    ]
    assert notes_of(mesh) == (answered if route.direct_response else [])


def test_more_query_parameters_go_before_fewer(tmp_path: Path) -> None:
    queries: list[list[dict[str, str]]] = [
        [],
        [{"name": "a", "value": "1"}],
        [{"name": "a", "value": "1"}, {"name": "b", "value": "2", "type": "RegularExpression"}],
    ]
    rule = {"matches": [{"queryParams": one} for one in queries], "backendRefs": [backend("mocka")]}
    mesh = mesh_of(tmp_path, *PODS, api_gateway(), http_route("one", rule))
    assert [len(route.matches[0].query) for route in mesh.gateway[0].routes] == [2, 1, 0]
    assert mesh.gateway[0].routes[0].matches[0].query[1] == ("b", Text("regex", "2"))


@pytest.mark.parametrize(
    ("parent", "hosts"),
    [
        ({"sectionName": "b"}, ("b.example.com",)),
        ({"port": 80}, ("a.example.com", "b.example.com")),
        ({"sectionName": "c"}, None),
        ({"port": 81}, None),
    ],
)
def test_a_route_may_ask_for_one_listener(
    parent: dict[str, Any], hosts: tuple[str, ...] | None, tmp_path: Path
) -> None:
    both = api_gateway(name="a", hostname="a.example.com")
    both["spec"]["listeners"] += api_gateway(name="b", hostname="b.example.com")["spec"][
        "listeners"
    ]
    parents = [{"name": "ingressgateway", **parent}]
    route = http_route("one", {"backendRefs": [backend("mocka")]}, parentRefs=parents)
    if hosts is None:
        with pytest.raises(RefusedError, match="accepts routes from namespace default at this li"):
            mesh_of(tmp_path, *PODS, both, route)
        return
    mesh = mesh_of(tmp_path, *PODS, both, route)
    assert tuple(host for table in mesh.gateway for host in table.hosts) == hosts


def test_a_gateway_without_listeners_serves_no_host(tmp_path: Path) -> None:
    empty = {**api_gateway(), "spec": {"gatewayClassName": "istio", "listeners": []}}
    route = http_route("one", {"backendRefs": [backend("mocka")]})
    assert mesh_of(tmp_path, *PODS, empty, route).gateway == ()


def test_an_http_route_of_a_service_is_for_the_calls_between_pods(tmp_path: Path) -> None:
    parents = [{"kind": "Service", "group": "", "name": "mockb", "port": 8000}]
    route = http_route("one", {"backendRefs": [backend("mockc")]}, parentRefs=parents)
    mesh = mesh_of(tmp_path, *PODS, route)
    assert mesh.gateway == ()
    at_port = Route((Destination(MOCKC, 8000),), (Match(port=8000),))
    assert mesh.calls == (RouteTable((MOCKB,), (at_port,)),)


ALL = [
    *BASE,
    at_gateway({"match": [{}], "route": [to(MOCKA)]}),
    lane_group(),
    lane("v1", "v1"),
    api_gateway(),
    http_route("route", {"matches": [{}], "backendRefs": [backend("mocka")]}),
]
_CONTAINER = "spec.template.spec.containers[0]"


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("Deployment", "spec.replica", 1),
        ("Deployment", "spec.template.spec.initContainer", []),
        ("Deployment", f"{_CONTAINER}.arguments", ["serve"]),
        ("Deployment", f"{_CONTAINER}.ports[0].port", 8000),
        ("Service", "spec.ports[0].targetport", 8000),
        ("Service", "spec.ports[0].protocol", "QUIC"),
        ("Deployment", "spec.replicas", 21),
        ("Deployment", f"{_CONTAINER}.env[0].valueFrom", {"fieldRef": {"fieldPath": "x"}}),
        ("Service", "spec.ports[0].targetPort", 9000),
        ("Gateway", "spec.servers[0].tls", {"mode": "SIMPLE"}),
        ("Gateway", "spec.servers[0].port.protocol", "TLS"),
        ("VirtualService", "spec.tls", [{}]),
        ("VirtualService", "spec.http[0].mirror", {"host": MOCKB, "weight": 1}),
        ("VirtualService", "spec.http[0].route", []),
        ("VirtualService", "spec.http[0].corsPolicy", {"maxage": "1s"}),
        ("VirtualService", "spec.http[0].rewrite", {"uriRegexRewrite": {"matches": "a"}}),
        ("VirtualService", "spec.http[0].retries", {"attempts": 1, "backOff": "1s"}),
        ("VirtualService", "spec.http[0].fault", {"abort": {"grpcStatus": "OK"}}),
        ("VirtualService", "spec.http[0].timeout", "soon"),
        ("VirtualService", "spec.http[0].match[0].ignoreUriCase", "yes"),
        ("VirtualService", "spec.http[0].match[0].queryParams", {"a": {"exactly": "1"}}),
        ("VirtualService", "spec.http[0].match[0].ignoreCase", True),
        ("VirtualService", "spec.gateways", ["istio-system/other"]),
        ("VirtualService", "spec.http[0].match[0].uri", {"suffix": "/a"}),
        ("VirtualService", "spec.http[0].match[0].headers", {"x-a": {"exact": "1", "not": "2"}}),
        ("VirtualService", "spec.http[0].route[0].weight", "all"),
        ("DestinationRule", "spec.exportTo", ["."]),
        ("DestinationRule", "spec.trafficPolicy", {"loadBalancer": {"simple": "PASSTHROUGH"}}),
        ("DestinationRule", "spec.trafficPolicy", {"tls": {"mode": "SIMPLE"}}),
        ("DestinationRule", "spec.trafficPolicy", {"connectionPool": {"tcp": {"max": 1}}}),
        ("DestinationRule", "spec.trafficPolicy", {"outlierDetection": {"consecutiveErrors": 1}}),
        ("DestinationRule", "spec.workloadSelector", {"matchLabels": {"a": "b"}}),
        ("ASMSwimLaneGroup", "spec.more", 1),
        ("ASMSwimLaneGroup", "spec.ingress.gateway.type", "Other"),
        ("ASMSwimLaneGroup", "spec.ingress.gateway.name", "other"),
        ("ASMSwimLaneGroup", "spec.isPermissive", "yes"),
        ("ASMSwimLaneGroup", "spec.permissiveModeConfiguration", {"traceHeader": 'a"b'}),
        ("ASMSwimLane", "spec.more", 1),
        ("Gateway", "spec.selector", {"istio": "egressgateway"}),
        ("Gateway", "spec.selector", {"istio": "ingressgateway", "team": "shop"}),
        ("VirtualService", "spec.http[0].timeout", "0s"),
        ("VirtualService", "spec.http[0].timeout", "0.5ms"),
        ("VirtualService", "spec.http[0].fault.delay.fixedDelay", "0s"),
        ("VirtualService", "spec.http[0].retries.perTryTimeout", "0s"),
        ("ASMSwimLane", "spec.ingressRules", [{"match": {"uri": {"exact": "/"}, "port": 80}}]),
        ("HTTPRoute", "spec.rules[0].matches[0].queryParams", [{"name": "a", "values": "b"}]),
        ("HTTPRoute", "spec.rules[0].filters", [{"type": "ExtensionRef", "extensionRef": {}}]),
        ("HTTPRoute", "spec.rules[0].filters", [{"requestRedirect": {"statusCode": 300}}]),
        ("HTTPRoute", "spec.rules[0].backendRefs[0].filters", [{"urlRewrite": {}}]),
        ("HTTPRoute", "spec.rules[0].sessionPersistence", {"type": "Cookie"}),
        ("HTTPRoute", "spec.rules[0].timeouts", {"idle": "1s"}),
        ("HTTPRoute", "spec.parentRefs[0].name", "other"),
    ],
)
def test_a_field_that_is_not_carried_out_is_refused_by_name(
    kind: str, field: str, value: Any, tmp_path: Path
) -> None:
    objects = deepcopy(ALL)
    changed = next(item for item in objects if item["kind"] == kind)
    _set(changed, field, value)
    with pytest.raises(RefusedError) as refused:
        mesh_of(tmp_path, *objects)
    named = f"{kind} {changed['metadata']['name']}: {field}"
    assert all(problem.startswith(f"{tmp_path}/mock.yaml:") for problem in refused.value.problems)
    assert any(named in problem for problem in refused.value.problems), refused.value.problems
    # A wrong port of a Service is wrong for each of the Deployments behind it.
    assert len(refused.value.problems) <= 2


def test_all_refused_fields_are_told_at_once(tmp_path: Path) -> None:
    objects = deepcopy(ALL)
    _set(objects[-1], "spec.a", 1)
    _set(objects[0], "spec.b", 1)
    with pytest.raises(RefusedError) as refused:
        mesh_of(tmp_path, *objects)
    assert sorted(p.partition(": ")[2] for p in refused.value.problems) == [
        "HTTPRoute route: spec.a: not supported by local lanes",
        "Service mocka: spec.b: unknown field; must be one of " + ", ".join(kubernetes.SERVICE),
    ]


def test_another_kind_is_refused_and_what_only_a_cluster_needs_is_not(tmp_path: Path) -> None:
    more: list[dict[str, Any]] = [
        {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "spec": {}}
        for api_version, kind in (
            ("v1", "Namespace"),
            ("v1", "ServiceAccount"),
            ("policy/v1", "PodDisruptionBudget"),
            ("networking.istio.io/v1", "ServiceEntries"),
        )
    ]
    with pytest.raises(RefusedError) as refused:
        mesh_of(tmp_path, *ALL, *more)
    (problem,) = refused.value.problems
    assert problem.endswith("ServiceEntries x: kind: not supported by local lanes")


def test_what_means_nothing_here_is_told_once_a_kind(tmp_path: Path) -> None:
    names: list[tuple[str, str, str]] = [
        ("v1", "ServiceAccount", "a"),
        *(("v1", "ServiceAccount", name) for name in ("b", "c", "d")),
        ("v1", "Namespace", "a"),
        ("v1", "Secret", "a"),
        ("v1", "ConfigMap", "a"),
        ("autoscaling/v2", "HorizontalPodAutoscaler", "a"),
        ("policy/v1", "PodDisruptionBudget", "a"),
        ("security.istio.io/v1", "PeerAuthentication", "a"),
        ("security.istio.io/v1", "AuthorizationPolicy", "a"),
        ("networking.istio.io/v1alpha3", "EnvoyFilter", "a"),
        ("networking.istio.io/v1", "ServiceEntry", "a"),
        ("example.com/v1", "Anything", "a"),
    ]
    more = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": {"any": 1}}
        for version, kind, name in names
    ]
    del more[6]["spec"]
    mesh = mesh_of(tmp_path, *ALL, *more)
    assert notes_of(mesh) == [
        "ServiceAccount a, b, c and 1 more: left out; it changes no lanes",
        "Secret a: left out; it changes no lanes",
        "ConfigMap a: left out; no pod takes variables from it",
        "HorizontalPodAutoscaler a: left out; it changes no lanes",
        "PodDisruptionBudget a: left out; it changes no lanes",
        "PeerAuthentication a: left out; it changes no lanes",
        "AuthorizationPolicy a: left out; on a cluster it may change lanes",
        "EnvoyFilter a: left out; on a cluster it may change lanes",
        "ServiceEntry a: left out; on a cluster it may change lanes",
        "Anything a: left out; it changes no lanes",
    ]


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        ("apps/v1", "StatefulSett"),
        ("networking.istio.io/v1", "VirtualServise"),
        ("v1", "Deployment"),
        ("v1", "Pods"),
    ],
)
def test_what_lanes_cannot_do_without_is_refused(
    api_version: str, kind: str, tmp_path: Path
) -> None:
    more = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}}
    with pytest.raises(RefusedError, match=rf"{kind} x: kind: not supported by local lanes"):
        mesh_of(tmp_path, *ALL, more)


def test_hosts_with_certificates_are_served_by_plain_http(tmp_path: Path) -> None:
    both = gateway("a.example.com")
    plain = both["spec"]["servers"][0]
    plain["tls"] = {"httpsRedirect": True}
    tls = {"mode": "SIMPLE", "credentialName": "shop"}
    port = {"number": 443, "name": "https", "protocol": "HTTPS"}
    both["spec"]["servers"].append({"port": port, "hosts": ["b.example.com"], "tls": tls})
    mesh = mesh_of(tmp_path, *PODS, both, at_gateway(_ANY))
    assert mesh.gateway[0].hosts == ("a.example.com", "b.example.com")
    assert mesh.gateway_port == 80
    named = "Gateway ingressgateway: spec"
    plainly = "local lanes serve these hosts by plain HTTP"
    assert notes_of(mesh) == [
        f"{named}.servers[0].tls: the redirect to HTTPS is left out: {plainly}",
        f"{named}.servers[1].tls: certificates are left out: {plainly}",
    ]
    terminated = {"mode": "Terminate", "certificateRefs": [{"name": "shop"}]}
    api = api_gateway(protocol="HTTPS", port=443, tls=terminated)
    rule = {"backendRefs": [backend("mocka")]}
    mesh = mesh_of(tmp_path, *PODS, api, http_route("one", rule))
    assert mesh.gateway_port == 443
    assert notes_of(mesh) == [f"{named}.listeners[0].tls: certificates are left out: {plainly}"]


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (between_pods("nobody", {"route": [to(MOCKA)]}), "there is no Service nobody.default"),
        (between_pods("mockb", {"route": [to("nobody")]}), "there is no Service nobody.default"),
        (between_pods("mockb", {"route": [to(MOCKA, "v9")]}), "there is no subset v9 of Service"),
        (
            between_pods("mockb", {"match": [{"gateways": ["other"]}], **_ANY}),
            "there is no Gateway 'default/other'",
        ),
        (
            between_pods("mockb", {"route": [to({}, None)]}),
            "spec.http[0].route[0].destination.host: must be a string",
        ),
        (
            http_route("lost", {"backendRefs": [backend("mocka", port=1)]}),
            "there is no port 1 of Service mocka",
        ),
        (
            between_pods("mocka", {"route": [to(MOCKA)]}),
            "ASMSwimLaneGroup mock: spec: conflicts with VirtualService mocka, which already routes"
            " mocka.default",
        ),
        (
            http_route("far", parentRefs=[{"name": "ingressgateway", "namespace": "east"}]),
            "no Gateway east/ingressgateway accepts routes from namespace default",
        ),
    ],
)
def test_what_routes_name_must_exist(extra: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as refused:
        mesh_of(tmp_path, *ALL[:-2], api_gateway(), extra)
    assert reason in "\n".join(refused.value.problems)


def _set(target: Any, field: str, value: Any) -> None:
    """Set a field such as `spec.http[0].timeout`."""
    *path, last = field.replace("[", ".[").split(".")
    for step in path:
        is_index = step.startswith("[")
        target = target[int(step[1:-1])] if is_index else target.setdefault(step, {})
    target[last] = value


def test_two_subsets_of_one_name_are_refused(tmp_path: Path) -> None:
    rule = next(item for item in ALL if item["kind"] == "DestinationRule")
    second = deepcopy(rule)
    second["metadata"]["name"] = "second"
    with pytest.raises(RefusedError) as refused:
        mesh_of(tmp_path, *ALL, second)
    names = [subset["name"] for subset in rule["spec"]["subsets"]]
    assert len(refused.value.problems) == len(names)
    for name, problem in zip(names, refused.value.problems, strict=True):
        assert f"DestinationRule second: spec: duplicate subset {name!r} of " in problem
