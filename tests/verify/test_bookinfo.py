"""A real application's manifests, none of them made for mockservice: the shape of Bookinfo."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mockservice.lanes.local import LocalLanes
from mockservice.mesh.overrides import Overrides, calls
from mockservice.verify.command import main
from mockservice.verify.run import verify

if TYPE_CHECKING:
    from mockservice.verify.verification import Verification

pytestmark = pytest.mark.slow

BOOKINFO = Path(__file__).parents[1] / "bookinfo"
CALLS = BOOKINFO / "calls.txt"
WITHOUT_STARS = "productpage(v1) -> [details(v1); reviews(v1)]"
WITH_STARS = "productpage(v1) -> [details(v1); reviews({}) -> ratings(v1)]"


def seen(verification: Verification) -> dict[str, set[str]]:
    """The chains that came back, by lane."""
    found: dict[str, set[str]] = {}
    for one in verification.entered:
        for (chain, _), seen in one.findings.tally.chains.items():
            found.setdefault(seen.lane or "-", set()).add(chain)
    return found


async def test_its_lanes_are_those_of_its_routes(tmp_path: Path) -> None:
    """One set of lanes for all routes, which are put in place one after the other."""
    route = tmp_path / "route.yaml"

    def put(name: str) -> None:
        shutil.copy(BOOKINFO / "routes" / f"{name}.yaml", route)

    put("all-v1")
    overrides = Overrides(calls(str(CALLS)))
    async with LocalLanes([BOOKINFO, tmp_path], overrides=overrides) as lanes:
        assert sorted({one.place.port for one in lanes.pods}) == [9080]
        verification = await verify(lanes.gateway_url, lanes.lane_map)
        assert verification.hold
        assert seen(verification) == {"v1": {WITHOUT_STARS}}

        put("reviews-80-20")
        await lanes.reload()
        verification = await verify(lanes.gateway_url, lanes.lane_map)
        assert verification.hold
        assert seen(verification) == {"v1": {WITHOUT_STARS, WITH_STARS.format("v2")}}

        put("reviews-by-user")
        await lanes.reload()
        verification = await verify(lanes.gateway_url, lanes.lane_map)
        assert verification.hold
        assert seen(verification) == {
            "v1": {WITHOUT_STARS},
            "jason": {WITH_STARS.format("v2")},
        }

        # Nothing keeps calls of reviews to a version.
        route.write_text("# none\n")
        await lanes.reload()
        verification = await verify(lanes.gateway_url, lanes.lane_map)
        assert not verification.hold
        assert len(seen(verification)["-"]) == 3
        (error,) = [one.text for one in verification.problems() if one.level == "error"]
        assert error.startswith("after productpage(v1), reviews is v")
        assert error.endswith("requests: no rule keeps the lane at reviews")


def test_it_is_verified_from_standard_input_and_by_a_file_of_calls(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    files = [*sorted(BOOKINFO.glob("*.yaml")), BOOKINFO / "routes" / "reviews-by-user.yaml"]
    together = tmp_path / "all.yaml"
    together.write_text("---\n".join(file.read_text() for file in files))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    with together.open() as piped:
        monkeypatch.setattr("sys.stdin", piped)
        assert main(["-", "--calls", str(CALLS)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "the lanes hold: 80 requests"
    assert (
        "note: Deployment reviews-v2: runs as the mock reviews(v2), by labels app and version;"
        " calls ratings, by --calls; port 9080, by Service reviews"
    ) in lines
    # What is well, and what is left out without a change of lanes, is not annotated.
    assert any(line.startswith("note: ServiceAccount bookinfo-details, ") for line in lines)
    warned = [line for line in lines if line.startswith("::")]
    assert warned
    assert [
        line
        for line in warned
        if not re.match(r"::warning title=.* (has no pods|gets no request): ", line)
    ] == []
