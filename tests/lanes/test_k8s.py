"""Every folder of k8s/ that runs lanes, run by a real Envoy: what its README line says is seen."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mockservice.chain import Chain
from tests.chance import is_plausible
from tests.lanes.running import K8S

if TYPE_CHECKING:
    from tests.lanes.conftest import MoveTo
    from tests.lanes.running import RunningLanes

pytestmark = pytest.mark.slow


def objects(*folders: str) -> list[dict[str, Any]]:
    """All that the files of these folders hold."""
    files = [file for folder in folders for file in sorted((K8S / folder).glob("*.yaml"))]
    return [found for file in files for found in yaml.safe_load_all(file.read_text()) if found]


WEIGHTED = {
    "asm/strict": {"v1 v1 v1": 0.5, "v2 v2 v2": 0.5},
    "istio/strict": {"v1 v1 v1": 0.5, "v2 v2 v2": 0.5},
    "gateway-api": {"v1 v1 v1": 0.5, "v2 v2 v2": 0.5},
    "release-v3/asm": {"v1 v1 v1": 0.6, "v2 v2 v2": 0.3, "v3 v3 v3": 0.1},
    "release-v3/istio": {"v1 v1 v1": 0.6, "v2 v2 v2": 0.3, "v3 v3 v3": 0.1},
    "failing-v3/roll-back/asm": {"v1 v1 v1": 0.5, "v2 v2 v2": 0.5},
    "failing-v3/roll-back/istio": {"v1 v1 v1": 0.5, "v2 v2 v2": 0.5},
}

# The headers that put a request into lane LANE.
PERMISSIVE = {
    "asm/permissive-trace-id": {"my-trace-id": "trace of LANE", "x-asm-prefer-tag": "LANE"},
    "asm/permissive-header": {"my-trace-id": "LANE"},
    "asm/permissive-baggage": {"version": "LANE"},
    "istio/permissive": {"x-asm-prefer-tag": "LANE"},
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_weighted_folder_splits_requests_and_never_mixes_versions(
    name: str, move_to: MoveTo
) -> None:
    folders = ["workloads", name]
    if "v3/" in name:
        folders.append(f"{name.partition('/')[0]}/workloads")
    seen = move_to(*objects(*folders)).share(300)
    assert set(seen) == set(WEIGHTED[name])
    for versions, share in WEIGHTED[name].items():
        assert is_plausible(seen[versions], 300, share), seen


@pytest.mark.parametrize("name", PERMISSIVE)
def test_a_permissive_folder_falls_back_to_the_baseline_and_comes_back(
    name: str, move_to: MoveTo
) -> None:
    running = move_to(*objects("workloads", name))
    for lane, versions in (("s1", "v1 v1 v1"), ("s2", "v2 v1 v2"), ("s3", "v1 v3 v1")):
        headers = {key: text.replace("LANE", lane) for key, text in PERMISSIVE[name].items()}
        assert running.share(20, **headers) == {versions: 20}


# In one test, as its pods run on from one folder to the other.
def test_every_branch_of_the_shop_keeps_to_its_lane(move_to: MoveTo) -> None:
    running = move_to(*objects("shop/workloads", "shop/strict"))
    calls = [event["calls"] for event in running.events if "calls" in event]
    assert calls[-1] == {
        "web": ["orders", "users"],
        "orders": ["stock", "price"],
        "price": ["users"],
    }
    seen = Counter(shop_versions(running) for _ in range(40))
    assert set(seen) == {
        f"web {version}, orders {version}, stock {version}, price {version}, users {version}"
        for version in ("v1", "v2")
    }
    assert is_plausible(seen["web v1, orders v1, stock v1, price v1, users v1"], 40, 0.5), seen

    running = move_to(*objects("shop/workloads", "shop/permissive"))
    for lane, versions in (
        ("s1", "web v1, orders v1, stock v1, price v1, users v1"),
        ("s2", "web v1, orders v2, stock v1, price v1, users v2"),
    ):
        asked = [shop_versions(running, x_asm_prefer_tag=lane) for _ in range(20)]
        assert asked == [versions] * 20


def shop_versions(running: RunningLanes, **headers: str) -> str:
    """The version of each app in a tree, in call order; an app called twice shows one version."""
    response = running.get("/shop", **headers)
    assert response.status == 200, response.text
    hops = Chain.from_text(response.text).tree().hops
    assert [hop.app for hop in hops] == ["web", "orders", "stock", "price", "users", "users"]
    return ", ".join(dict.fromkeys(f"{hop.app} {hop.version}" for hop in hops))


def test_the_table_of_folders_is_complete() -> None:
    routes = {path.parent.relative_to(K8S).as_posix() for path in K8S.rglob("*-route.yaml")}
    assert routes == {*WEIGHTED, *PERMISSIVE, "shop/strict", "shop/permissive"}
