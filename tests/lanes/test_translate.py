"""Manifests -> mesh: what each field becomes, and that no field is ignored in silence."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from mockservice.manifests.documents import read
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
    service_b = next(
        one for one in objects if (one["kind"], one["metadata"]["name"]) == ("Service", "mockb")
    )
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
            {"match": [{"sourceLabels": {"version": "v1", "app": "mocka"}}]},
            Route((TO_A,), (Match(source_labels=(("app", "mocka"), ("version", "v1"))),)),
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


@pytest.mark.parametrize(
    ("served", "asked", "hosts"),
    [
        ("*", "*", ("*",)),
        ("*", "a.example.com", ("a.example.com",)),
        ("*.example.com", "*", ("*.example.com",)),
        ("*.example.com", "a.example.com", ("a.example.com",)),
        ("a.example.com", "*.example.com", ("a.example.com",)),
        ("default/a.example.com", "a.example.com", ("a.example.com",)),
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
        }
    }
    own = {"outlierDetection": {"consecutive5xxErrors": 1}}
    rule["spec"]["subsets"][1]["trafficPolicy"] = own
    mesh = mesh_of(tmp_path, *PODS, rule)
    assert mesh.outliers == ((MOCKA, OutlierDetection(3, 2, 5, 30, 50, 10)),)
    assert mesh.subsets == (
        Subset(MOCKA, "v1", (("version", "v1"),)),
        Subset(MOCKA, "v2", (("version", "v2"),), OutlierDetection(1)),
    )


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


def test_a_gateway_without_listeners_serves_no_host(tmp_path: Path) -> None:
    empty = {**api_gateway(), "spec": {"gatewayClassName": "istio", "listeners": []}}
    route = http_route("one", {"backendRefs": [backend("mocka")]})
    assert mesh_of(tmp_path, *PODS, empty, route).gateway == ()


def test_an_http_route_of_a_service_is_for_the_calls_between_pods(tmp_path: Path) -> None:
    parents = [{"kind": "Service", "group": "", "name": "mockb", "port": 8000}]
    route = http_route("one", {"backendRefs": [backend("mockc")]}, parentRefs=parents)
    mesh = mesh_of(tmp_path, *PODS, route)
    assert mesh.gateway == ()
    assert mesh.calls == (RouteTable((MOCKB,), (Route((Destination(MOCKC, 8000),), (Match(),)),)),)


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
        ("Deployment", "spec.paused", True),
        ("Deployment", "spec.replicas", 21),
        ("Deployment", "spec.template.spec.hostNetwork", True),
        ("Deployment", "spec.template.spec.initContainers", [{"name": "init"}]),
        ("Deployment", f"{_CONTAINER}.command", ["sleep"]),
        ("Deployment", f"{_CONTAINER}.args", ["serve"]),
        ("Deployment", f"{_CONTAINER}.env[0].valueFrom", {"fieldRef": {"fieldPath": "x"}}),
        ("Deployment", f"{_CONTAINER}.envFrom", [{"secretRef": {"name": "x"}}]),
        ("Service", "spec.sessionAffinity", "ClientIP"),
        ("Service", "spec.externalName", "example.com"),
        ("Service", "spec.ports[0].protocol", "UDP"),
        ("Service", "spec.ports[0].targetPort", 9000),
        ("Gateway", "spec.servers[0].tls", {"mode": "SIMPLE"}),
        ("Gateway", "spec.servers[0].port.protocol", "HTTPS"),
        ("VirtualService", "spec.exportTo", ["."]),
        ("VirtualService", "spec.tls", [{}]),
        ("VirtualService", "spec.http[0].mirror", {"host": MOCKB}),
        ("VirtualService", "spec.http[0].redirect", {"uri": "/"}),
        ("VirtualService", "spec.http[0].corsPolicy", {"maxAge": "1s"}),
        ("VirtualService", "spec.http[0].delegate", {"name": "other"}),
        ("VirtualService", "spec.http[0].rewrite", {"uriRegexRewrite": {"match": "a"}}),
        ("VirtualService", "spec.http[0].retries", {"attempts": 1, "backoff": "1s"}),
        ("VirtualService", "spec.http[0].fault", {"abort": {"grpcStatus": "OK"}}),
        ("VirtualService", "spec.http[0].timeout", "soon"),
        ("VirtualService", "spec.http[0].match[0].ignoreUriCase", True),
        ("VirtualService", "spec.http[0].match[0].queryParams", {"a": {"exact": "1"}}),
        ("VirtualService", "spec.http[0].match[0].uri", {"suffix": "/a"}),
        ("VirtualService", "spec.http[0].match[0].headers", {"x-a": {"exact": "1", "not": "2"}}),
        ("VirtualService", "spec.http[0].route[0].weight", "all"),
        ("DestinationRule", "spec.trafficPolicy", {"loadBalancer": {"simple": "RANDOM"}}),
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
        ("HTTPRoute", "spec.rules[0].matches[0].queryParams", [{"name": "a", "value": "b"}]),
        ("HTTPRoute", "spec.rules[0].filters", [{"type": "RequestMirror", "requestMirror": {}}]),
        ("HTTPRoute", "spec.rules[0].sessionPersistence", {"type": "Cookie"}),
        ("HTTPRoute", "spec.rules[0].timeouts", {"backendRequest": "1s"}),
        ("HTTPRoute", "spec.parentRefs[0].sectionName", "http"),
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
        "Service mocka: spec.b: not supported by local lanes",
    ]


def test_another_kind_is_refused_and_what_only_a_cluster_needs_is_not(tmp_path: Path) -> None:
    more: list[dict[str, Any]] = [
        {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "spec": {}}
        for api_version, kind in (
            ("v1", "Namespace"),
            ("v1", "ServiceAccount"),
            ("policy/v1", "PodDisruptionBudget"),
            ("networking.istio.io/v1", "ServiceEntry"),
        )
    ]
    with pytest.raises(RefusedError) as refused:
        mesh_of(tmp_path, *ALL, *more)
    (problem,) = refused.value.problems
    assert problem.endswith("ServiceEntry x: kind: not supported by local lanes")


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (between_pods("nobody", {"route": [to(MOCKA)]}), "there is no Service nobody.default"),
        (between_pods("mockb", {"route": [to("nobody")]}), "there is no Service nobody.default"),
        (between_pods("mockb", {"route": [to(MOCKA, "v9")]}), "there is no subset v9 of Service"),
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
