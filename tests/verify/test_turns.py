"""The order of requests of several kinds."""

from __future__ import annotations

from itertools import pairwise, permutations

import pytest

from mockservice.verify.turns import in_turn


@pytest.mark.parametrize("kinds", range(2, 11))
def test_each_kind_comes_after_each_other_one(kinds: int) -> None:
    order = list(in_turn([20] * kinds))
    assert [order.count(kind) for kind in range(kinds)] == [20] * kinds
    assert set(permutations(range(kinds), 2)) <= set(pairwise(order))


def test_each_kind_gets_its_requests() -> None:
    order = list(in_turn([3, 1, 0, 2]))
    assert sorted(order) == [0, 0, 0, 1, 3, 3]
    assert set(order[:3]) == {0, 1, 3}
    assert list(in_turn([])) == []
