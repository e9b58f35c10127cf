"""A message suggests what exists, never what the manifest already has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mockservice.manifests.checks import check
from mockservice.manifests.documents import read
from mockservice.manifests.problems import one_of

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = st.text("abf/.", max_size=4)


@given(_NAMES, st.lists(_NAMES), st.dictionaries(_NAMES, _NAMES))
def test_what_was_written_is_never_suggested(
    written: str, known: list[str], aliases: dict[str, str]
) -> None:
    allowed = one_of(written, known, aliases)
    assert f"did you mean {written!r}?" != allowed
    if "did you mean" in allowed:
        assert any(allowed == f"did you mean {name!r}?" for name in known)


@pytest.mark.parametrize(
    ("written", "known", "aliases", "message"),
    [
        ("v2", [], {}, "there is none"),
        ("v2", ["v2"], {}, "there is none"),
        ("x", ["v1"], {}, "there is only v1"),
        ("x", ["v2", "v1"], {}, "must be one of v1, v2"),
        ("mokb", ["mocka", "mockb"], {}, "did you mean 'mockb'?"),
        ("gw", ["istio-system/gw"], {"gw": "istio-system/gw"}, "did you mean 'istio-system/gw'?"),
    ],
)
def test_the_allowed_values_are_named(
    written: str, known: list[str], aliases: dict[str, str], message: str
) -> None:
    assert one_of(written, known, aliases) == message


def _object(api_version: str, kind: str, namespace: str, **spec: object) -> dict[str, object]:
    metadata = {"name": spec.pop("name", "mock"), "namespace": namespace}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


def _front(namespace: str) -> list[dict[str, object]]:
    """The Service `front` and its Deployment."""
    labels = {"app": "front", "version": "v1"}
    pods = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "default"}]},
    }
    ports = [{"port": 80}]
    return [
        _object("v1", "Service", namespace, name="front", selector={"app": "front"}, ports=ports),
        _object(
            "apps/v1",
            "Deployment",
            namespace,
            name="front",
            selector={"matchLabels": labels},
            template=pods,
        ),
    ]


def _gateway(api_version: str, namespace: str) -> dict[str, object]:
    return _object(api_version, "Gateway", namespace, name="gateway")


def _route(*hosts: str, **spec: object) -> dict[str, object]:
    """A VirtualService in the namespace `shop`."""
    routes = [{"route": [{"destination": {"host": host}}]} for host in hosts]
    return _object("networking.istio.io/v1", "VirtualService", "shop", http=routes, **spec)


def _http_route(**spec: object) -> dict[str, object]:
    """An HTTPRoute in the namespace `shop`."""
    return _object("gateway.networking.k8s.io/v1", "HTTPRoute", "shop", **spec)


def _group(gateway_namespace: str, namespace: str) -> dict[str, object]:
    gateway = {"name": "gateway", "namespace": gateway_namespace, "type": "ASM"}
    return {
        "apiVersion": "istio.alibabacloud.com/v1",
        "kind": "ASMSwimLaneGroup",
        "metadata": {"name": "group"},
        "spec": {
            "services": [{"name": "front", "namespace": namespace}],
            "ingress": {"gateway": gateway},
        },
    }


def _lane(host: str) -> dict[str, object]:
    return {
        "apiVersion": "istio.alibabacloud.com/v1",
        "kind": "ASMSwimLane",
        "metadata": {"name": "v1", "labels": {"swimlane-group": "group"}},
        "spec": {
            "labelSelector": {"version": "v1"},
            "ingressRules": [{"name": "r", "route": {"destination": {"host": host}}}],
        },
    }


_FULL = "front.default.svc.cluster.local"
_ISTIO = "networking.istio.io/v1"


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        pytest.param(
            [*_front("default"), _route("front")],
            "spec.http[0].route[0].destination.host: "
            f"there is no Service 'front' in namespace shop; did you mean '{_FULL}'?",
            id="a short host",
        ),
        pytest.param(
            [*_front("default"), _route("frnt")],
            "spec.http[0].route[0].destination.host: "
            f"there is no Service 'frnt' in namespace shop; did you mean '{_FULL}'?",
            id="a misspelled short host",
        ),
        pytest.param(
            [*_front("default"), *_front("shop"), _route("frnt")],
            "spec.http[0].route[0].destination.host: "
            "there is no Service 'frnt' in namespace shop; did you mean 'front'?",
            id="a misspelled short host of the same namespace",
        ),
        pytest.param(
            [*_front("default"), _route(hosts=["front"])],
            f"spec.hosts[0]: there is no Service 'front' in namespace shop; "
            f"did you mean '{_FULL}'?",
            id="a VirtualService's own host",
        ),
        pytest.param(
            [*_front("default"), _object(_ISTIO, "DestinationRule", "shop", host="front")],
            f"spec.host: there is no Service 'front' in namespace shop; did you mean '{_FULL}'?",
            id="a DestinationRule's host",
        ),
        pytest.param(
            [_gateway(_ISTIO, "istio-system"), _route(gateways=["gateway"])],
            "spec.gateways[0]: there is no Gateway 'gateway' in namespace shop; "
            "did you mean 'istio-system/gateway'?",
            id="a Gateway",
        ),
        pytest.param(
            [_gateway(_ISTIO, "shop"), _route(gateways=["default/gateway"])],
            "spec.gateways[0]: there is no Gateway 'default/gateway'; did you mean 'gateway'?",
            id="a Gateway with its namespace",
        ),
        pytest.param(
            [
                *_front("default"),
                _http_route(rules=[{"backendRefs": [{"name": "front", "port": 80}]}]),
            ],
            "spec.rules[0].backendRefs[0].name: there is no Service 'front' in namespace shop; "
            "there is one in namespace default",
            id="an HTTPRoute's backend",
        ),
        pytest.param(
            [
                _gateway("gateway.networking.k8s.io/v1", "default"),
                _http_route(parentRefs=[{"name": "gateway"}]),
            ],
            "spec.parentRefs[0].name: there is no Gateway 'gateway' in namespace shop; "
            "there is one in namespace default",
            id="an HTTPRoute's Gateway",
        ),
        pytest.param(
            [
                *_front("default"),
                _gateway(_ISTIO, "shop"),
                _group("istio-system", "default"),
                _lane("front"),
            ],
            "spec.ingress.gateway.name: there is no Gateway 'gateway' in namespace istio-system; "
            "there is one in namespace shop",
            id="a lane group's gateway",
        ),
        pytest.param(
            [*_front("shop"), _gateway(_ISTIO, "shop"), _group("shop", "shop"), _lane("front")],
            "spec.ingressRules[0].route.destination.host: lane group group has no service 'front'; "
            "did you mean 'front.shop.svc.cluster.local'?",
            id="a lane's ingress rule",
        ),
        pytest.param(
            [
                *_front("default"),
                _object("v1", "Service", "shop", name="front", selector={"app": "front"}),
            ],
            "spec.selector: no pod in namespace shop has the label app",
            id="a selector of pods in another namespace",
        ),
    ],
)
def test_a_message_says_where_it_looked_and_what_exists(
    tmp_path: Path, objects: list[dict[str, object]], message: str
) -> None:
    file = tmp_path / "mock.yaml"
    file.write_text(yaml.dump_all(objects, Dumper=yaml.CSafeDumper))
    (problem,) = check(read([file]))
    assert str(problem).split(": ", 2)[2] == message
