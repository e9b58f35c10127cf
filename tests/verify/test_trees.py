"""The shop whose calls are a tree, behind a real Envoy: sound lanes hold, slips are told.

One set of local lanes is moved from shop to shop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from mockservice.lanes.local import LocalLanes
from mockservice.verify.cases import read_cases
from mockservice.verify.run import verify
from mockservice.verify.saving import saved
from tests.lanes.building import write
from tests.mesh.trees import permissive, pods, strict, strict_by_labels, without_rule

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from pathlib import Path
    from typing import Any

    from mockservice.verify.cases import Case
    from mockservice.verify.verification import Verification
    from tests.mesh.trees import Json

    Verify = Callable[..., Coroutine[Any, Any, Verification]]

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

IN = "web({0}) -> [orders({0}) -> [stock({0}); price({0}) -> users({0})]; users({0})]"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def verified(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Verify]:
    """Takes rules and cases, and returns what `verify` says of the shop with them."""
    file = write(tmp_path_factory.mktemp("lanes") / "shop.yaml", *pods(), *permissive())
    async with LocalLanes([file]) as lanes:

        async def verified(rules: list[Json], cases: Sequence[Case] = ()) -> Verification:
            write(file, *pods(), *rules)
            await lanes.reload()
            return await verify(lanes.gateway_url, lanes.lane_map, cases)

        yield verified


def errors(verification: Verification) -> list[str]:
    return [one.text for one in verification.problems() if one.level == "error"]


@pytest.mark.parametrize("rules", [permissive, strict, strict_by_labels])
async def test_a_sound_tree_holds_and_so_do_its_saved_cases(
    verified: Verify, tmp_path: Path, rules: Callable[[], list[Json]]
) -> None:
    first = await verified(rules())
    assert errors(first) == []
    assert {lane.name: (lane.chain, lane.holds) for lane in first.lanes()} == {
        name: (IN.format(name), True) for name in ("v1", "v2")
    }
    file = tmp_path / "cases.yaml"
    file.write_text(saved(first))
    again = await verified(rules(), read_cases(file))
    assert errors(again) == []
    assert len(again.cases) == len(first.entered)


async def test_a_dropped_rule_is_told_with_each_branch_that_it_is_about(verified: Verify) -> None:
    (error,) = errors(await verified(without_rule(permissive(), "users", "v2")))
    for after in ("web", "web -> orders -> price"):
        assert f"lane v2 is owed users(v2) but got users(v1) after {after}" in error
    assert "no rule of VirtualService users" in error
    # Each request has both leaks.
    assert error.endswith("matches x-lane: v2 (20 requests)")


async def test_dropped_rules_of_sister_branches_are_both_told(verified: Verify) -> None:
    rules = without_rule(without_rule(permissive(), "stock", "v2"), "price", "v2")
    for app, error in zip(
        ("stock", "price"), sorted(errors(await verified(rules)))[::-1], strict=True
    ):
        assert error.startswith(
            f"lane v2 is owed {app}(v2) but got {app}(v1) after web -> orders: "
        )


async def test_a_hop_that_no_rule_leads_to_is_told_as_missing(verified: Verify) -> None:
    """Envoy answers in the branch; the others are well."""
    verification = await verified(without_rule(strict(), "stock", "v2"))
    (error,) = errors(verification)
    assert error.startswith("lane v2 is owed stock(v2) but got no answer after web -> orders: ")
    lane = list(verification.lanes())[1]
    assert lane.chain == IN.format("v2").replace("stock(v2)", "(no hop)") + ": 404"
