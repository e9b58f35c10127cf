"""Whether what was seen on both sides is the same, but for chance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_ALARM: Final = 1e-8
"""How likely shares that are the same are told to be different, for one outcome."""


def are_same(theirs: Mapping[str, int], ours: Mapping[str, int]) -> bool:
    """Whether two counts of outcomes come from the same shares.

    What only one side shows is a difference if it is ours, as theirs is the larger count: whatever
    has a share of a fifth is among 240 outcomes. Shares are compared by Fisher's exact test.
    """
    if not ours.keys() <= theirs.keys():
        return False
    all_theirs, all_ours = sum(theirs.values()), sum(ours.values())
    return all(
        _fisher(count, all_theirs, ours.get(outcome, 0), all_ours) > _ALARM
        for outcome, count in theirs.items()
    )


def _fisher(one: int, of_one: int, other: int, of_other: int) -> float:
    """How likely shares are that are at least as far apart, if they are the same (two-sided)."""
    both = one + other
    least, most = max(0, both - of_other), min(both, of_one)

    def likelihood(count: int) -> float:
        return math.exp(
            _choices(of_one, count)
            + _choices(of_other, both - count)
            - _choices(of_one + of_other, both)
        )

    seen = likelihood(one)
    return sum(
        found for count in range(least, most + 1) if (found := likelihood(count)) <= seen * 1.000001
    )


def _choices(of: int, count: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(count + 1) - math.lgamma(of - count + 1)
