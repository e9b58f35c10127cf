"""The verdicts that issue 12 began with, on a shop of four services that runs behind a real Envoy.

One set of local lanes is moved from shop to shop, and to folders of `k8s/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from mockservice.lanes.local import LocalLanes
from mockservice.verify import entering
from mockservice.verify.cases import read_cases
from mockservice.verify.run import verify
from mockservice.verify.saving import saved
from tests.lanes.building import write
from tests.manifests.folders import together
from tests.verify.shop import (
    IN_BASE,
    IN_BLUE,
    shop,
    split_shop,
    without_blue_rule_of,
    without_lanes,
    without_rules_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from pathlib import Path
    from typing import Any

    from mockservice.verify.cases import Case
    from mockservice.verify.verification import Verification
    from tests.verify.shop import Json

    Verify = Callable[..., Coroutine[Any, Any, Verification]]

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def verified(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Verify]:
    """Takes manifests and cases, and returns what `verify` says of them."""
    file = write(tmp_path_factory.mktemp("lanes") / "shop.yaml", *shop())
    async with LocalLanes([file]) as lanes:

        async def verified(objects: list[Json], cases: Sequence[Case] = ()) -> Verification:
            write(file, *objects)
            await lanes.reload()
            return await verify(lanes.gateway_url, lanes.lane_map, cases)

        yield verified


def chains(verification: Verification) -> dict[str, list[str]]:
    """The chains by entrance."""
    return {
        str(one.entrance): sorted(chain for chain, _ in one.findings.tally.chains)
        for one in verification.entered
    }


async def test_the_sound_shop_holds(verified: Verify) -> None:
    verification = await verified(shop())
    assert verification.problems() == []
    assert chains(verification) == {
        "/shop": [IN_BASE],
        "/shop with x-lane: base": [IN_BASE],
        "/shop with x-lane: blue": [IN_BLUE],
    }
    assert [(lane.name, lane.holds) for lane in verification.lanes()] == [
        ("base", True),
        ("blue", True),
    ]


async def test_a_forgotten_virtual_service_is_told_in_both_lanes(verified: Verify) -> None:
    verification = await verified(without_rules_of("price"))
    assert (
        "front(base) -> cart(base) -> price(blue) -> stock(base)" in (chains(verification)["/shop"])
    )
    assert not verification.hold
    (problem,) = verification.problems()
    assert (problem.level, problem.about) == ("error", "isolation")
    assert "lane base is owed price(base) but got price(blue)" in problem.text
    assert "lane blue is owed price(blue) but got price(base)" in problem.text
    assert "no rule routes the calls of price, they are spread over all pods" in problem.text
    assert problem.source is not None
    assert (problem.source.kind, problem.source.name) == ("DestinationRule", "price")
    assert [lane.holds for lane in verification.lanes()] == [False, False]


async def test_a_dropped_rule_of_one_hop_for_one_lane_is_told_with_the_rule(
    verified: Verify,
) -> None:
    verification = await verified(without_blue_rule_of("price"))
    assert chains(verification)["/shop with x-lane: blue"] == [
        "front(base) -> cart(blue) -> price(base) -> stock(base)"
    ]
    assert not verification.hold
    (problem,) = verification.problems()
    assert problem.source is not None
    assert (problem.source.kind, problem.source.name) == ("VirtualService", "price")
    place = f"{problem.source.path}:{problem.source.line}"
    assert problem.text == (
        "lane blue is owed price(blue) but got price(base):"
        f" no rule of VirtualService price ({place}) matches x-lane: blue (20 requests)"
    )
    assert [lane.holds for lane in verification.lanes()] == [True, False]


async def test_a_weight_that_is_changed_by_20_points_is_told_by_the_saved_cases(
    verified: Verify, tmp_path: Path
) -> None:
    file = tmp_path / "cases.yaml"
    first = await verified(split_shop(blue=15))
    assert first.problems() == []
    file.write_text(saved(first))
    cases = read_cases(file)
    assert [case.shares for case in cases] == [{"base": 85, "blue": 15}, {}]
    changed = await verified(split_shop(blue=35), cases)
    assert not changed.hold
    (problem,) = changed.problems()
    assert problem.about == "cases"
    assert problem.text.startswith("case /shop: b")
    assert "VirtualService mock (" in problem.text


async def test_without_lanes_it_says_why_and_goes_by_what_looks_the_same(
    verified: Verify,
) -> None:
    verification = await verified(without_lanes())
    assert list(verification.lanes()) == []
    assert [(one.level, one.text.partition(":")[0]) for one in verification.problems()] == [
        ("note", "no lanes")
    ]
    assert chains(verification) == {"/shop": [IN_BASE]}


# One folder of each kind of entrance; `make mutants` verifies every folder twenty times.
@pytest.mark.parametrize("name", ["asm/permissive-baggage", "istio/permissive", "gateway-api"])
async def test_a_sound_folder_holds_and_so_do_its_saved_cases(
    name: str, verified: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A share that is off is not looked for here: a quarter of the requests will do.
    monkeypatch.setattr(entering, "TOLD", 0.2)
    file = tmp_path / "cases.yaml"
    objects = [document.body for document in together(name)]
    first = await verified(objects)
    assert [one.text for one in first.problems() if one.level == "error"] == []
    file.write_text(saved(first))
    again = await verified(objects, read_cases(file))
    assert again.hold
    assert len(again.cases) == len(first.entered)
    assert [one for one in again.cases if not one.holds] == []
    # They ask what the entrances ask: all are answered by the same requests.
    assert again.entered_for_cases == ()
