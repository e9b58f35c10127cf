"""The compose file of the shop runs the hops of its manifests as `compose.yaml` runs a chain."""

from __future__ import annotations

from typing import Any

import yaml

from tests.manifests.folders import COMPOSE, K8S, documents

_SHOP = yaml.safe_load((K8S / "shop" / COMPOSE).read_text())
_CHAIN = yaml.safe_load((K8S.parent / COMPOSE).read_text())


def test_its_hops_are_those_of_the_workloads() -> None:
    hops = {
        app: service["environment"]
        for app, service in _SHOP["services"].items()
        if "extends" not in service
    }
    assert hops == {env["app"]: _SHOP["x-settings"] | env for env in _environments()}


def _environments() -> list[dict[str, str]]:
    """The environment of v1 of each hop in the manifests."""
    return [
        {variable["name"]: variable["value"] for variable in container["env"]}
        for document in documents("shop/workloads")
        if document.kind == "Deployment" and document.name.endswith("-v1")
        for container in document.body["spec"]["template"]["spec"]["containers"]
    ]


def test_each_hop_waits_for_its_upstreams() -> None:
    for service in _SHOP["services"].values():
        upstreams = service.get("environment", {}).get("upstream_url", "")
        waits_for = service.get("depends_on", {})
        assert ", ".join(f"http://{app}:8000/" for app in waits_for) == upstreams
        assert all(one == {"condition": "service_healthy"} for one in waits_for.values())


def test_all_else_is_as_in_the_chain() -> None:
    assert (K8S / "shop" / _SHOP["x-hop"]["build"]["context"]).resolve() == K8S.parent
    assert _SHOP["x-settings"] == _CHAIN["x-settings"]
    for name, service in _SHOP["services"].items():
        if "extends" not in service:
            like = _CHAIN["services"]["mocka" if name == "web" else "mockc"]
            assert _plain(service) == _plain(like)


def test_what_is_no_hop_is_that_of_the_chain() -> None:
    chain = "../../compose.yaml"
    assert (K8S / "shop" / chain).resolve() == K8S.parent / COMPOSE
    extended = {name: one for name, one in _SHOP["services"].items() if "extends" in one}
    assert extended == {
        name: {"extends": {"file": chain, "service": name}}
        for name in _CHAIN["services"]
        if name not in ("mocka", "mockb", "mockc")
    }


def _plain(service: dict[str, Any]) -> dict[str, Any]:
    """A service without what tells hops apart."""
    plain = {key: one for key, one in service.items() if key not in ("environment", "depends_on")}
    if "build" in plain:
        plain["build"] = plain["build"] | {"context": "the repository"}
    return plain
