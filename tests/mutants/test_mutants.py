"""A sample of `make mutants`: breakages are refused, told at the right hop, or change no answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.manifests.folders import K8S, LANES
from tests.mutants.run import running, sample

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

_SEED = 12


@pytest.mark.parametrize(
    ("folder", "count"),
    [("istio/permissive", 6), ("asm/permissive-header", 3)],
)
async def test_a_breakage_is_refused_or_told_at_the_right_hop(
    folder: str, count: int, tmp_path: Path
) -> None:
    async with running((K8S / one for one in (*LANES[folder], folder)), tmp_path) as sound:
        assert sound.verification.hold
        tried = [await sound.try_mutant(one) for one in sample(sound.mutants(), count, _SEED)]
    assert [one for one in tried if one.outcome == "missed"] == []
    # A sample that breaks nothing shows nothing.
    assert {"told", "noted"} & {one.outcome for one in tried}


async def test_a_hop_that_drops_the_lane_header_is_told(tmp_path: Path) -> None:
    folders = (*LANES["istio/permissive"], "istio/permissive")
    async with running((K8S / one for one in folders), tmp_path) as sound:
        tried = await sound.try_hop("mockb", "x-asm-prefer-tag")
    assert (tried.outcome, tried.changed) == ("told", "mockc")
    leak = "error: lane s2 is owed mockc(v2) but got mockc(v1): the call of mockb(v1) came without"
    assert any(line.startswith(leak) for line in tried.told)
