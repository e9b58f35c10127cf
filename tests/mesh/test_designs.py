"""No sound design is called a leak: each runs behind a real Envoy and is verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mockservice.lanes.local import LocalLanes
from mockservice.verify import entering
from mockservice.verify.run import verify
from tests.lanes.building import write
from tests.mesh.designs import DESIGNS, pods

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


# One after the other in the same lanes: to move them is cheaper than to start them.
async def test_every_design_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A share that is off is not looked for here: a quarter of the requests will do.
    monkeypatch.setattr(entering, "TOLD", 0.2)
    first, *_ = DESIGNS.values()
    file = write(tmp_path / "all.yaml", *pods(), *first())
    wrong = {}
    async with LocalLanes([file]) as lanes:
        for name, design in DESIGNS.items():
            write(file, *pods(), *design())
            await lanes.reload()
            verification = await verify(lanes.gateway_url, lanes.lane_map)
            assert verification.requests > 0
            if not verification.hold:
                wrong[name] = [one.text for one in verification.problems() if one.level == "error"]
    assert wrong == {}
