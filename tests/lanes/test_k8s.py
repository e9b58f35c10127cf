"""Every folder of k8s/ that runs lanes, run by a real Envoy: what its README line says is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mockservice.mesh.load import load
from mockservice.mesh.survey import read_lane_map
from mockservice.verify import entering
from mockservice.verify.run import verify
from tests.chance import is_plausible
from tests.lanes.running import K8S

if TYPE_CHECKING:
    from tests.lanes.conftest import MoveTo

pytestmark = pytest.mark.slow


def objects(*folders: str) -> list[dict[str, Any]]:
    """All that the files of these folders hold."""
    files = [file for folder in folders for file in sorted((K8S / folder).glob("*.yaml"))]
    loaded = (yaml.load_all(file.read_text(), yaml.CSafeLoader) for file in files)
    return [found for several in loaded for found in several if found]


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

TREE = "web({0}) -> [orders({1}) -> [stock({0}); price({0}) -> users({1})]; users({1})]"
# The versions of each lane: those of web, stock and price, and those of orders and users.
SHOP = {
    "shop/strict": {"v1": ("v1", "v1"), "v2": ("v2", "v2")},
    "shop/permissive": {"s1": ("v1", "v1"), "s2": ("v1", "v2")},
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
    running = move_to(*objects("workloads", "components/mockb-v3", name))
    for lane, versions in (("s1", "v1 v1 v1"), ("s2", "v2 v1 v2"), ("s3", "v1 v3 v1")):
        headers = {key: text.replace("LANE", lane) for key, text in PERMISSIVE[name].items()}
        assert running.share(20, **headers) == {versions: 20}


# In one test, as the pods run on from one folder to the other.
async def test_the_lanes_of_the_shop_hold_in_every_branch(
    move_to: MoveTo, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A share that is off is not looked for here: a quarter of the requests will do.
    monkeypatch.setattr(entering, "TOLD", 0.2)
    for name, lanes in SHOP.items():
        running = move_to(*objects("shop/workloads", name))
        verification = await verify(running.gateway, read_lane_map(load([running.path])))
        assert [one.text for one in verification.problems() if one.level == "error"] == []
        assert {lane.name: (lane.chain, lane.holds) for lane in verification.lanes()} == {
            lane: (TREE.format(*versions), True) for lane, versions in lanes.items()
        }
        calls = [event["calls"] for event in running.events if "calls" in event]
        assert calls[-1] == {
            "web": ["orders", "users"],
            "orders": ["stock", "price"],
            "price": ["users"],
        }


def test_the_table_of_folders_is_complete() -> None:
    routes = {path.parent.relative_to(K8S).as_posix() for path in K8S.rglob("*-route.yaml")}
    assert routes == WEIGHTED.keys() | PERMISSIVE.keys() | SHOP.keys()
