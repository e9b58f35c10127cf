"""The split: whether the lanes seen fit the weights of the gateway, or cannot be by chance.

Each lane's count is held against its share by the two-sided exact binomial test: the chance of a
count that is at most as likely as the one seen. With more than two lanes there is one such test
for each of them, and the smallest of their p-values is corrected for their number (Bonferroni).
Unlike the chi-squared test that holds for few requests and for small shares too, and it says which
lane is off.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from math import ceil, exp, inf, lgamma, log, log1p, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LEVEL: Final = 0.001
"""The chance that a split which is as expected is refused."""
POWER: Final = 0.9
"""The chance that a split which is not as expected is told, where a number of requests says so."""
POINT: Final = 0.05
"""The difference of a share that people care about."""

# Rounding makes counts that are equally likely differ by less than this; R's binom.test has it too.
_TIE: Final = 1e-7


@dataclass(frozen=True, slots=True)
class Share:
    """One lane's part of the requests."""

    lane: str
    seen: int
    expected: float
    """Share of the requests, 0 to 1."""
    p: float
    """How likely the count is, or one that is no likelier, if the share is as expected."""


@dataclass(frozen=True, slots=True)
class Split:
    """The shares of all lanes, seen or expected, and what they come to."""

    requests: int
    """Those whose lane is known."""
    shares: tuple[Share, ...]
    p: float
    """Of all shares together."""
    level: float
    """For one share, so that it is `LEVEL` for all together."""
    tells: float | None
    """The difference of a share that this number of requests tells; None: of none, or needless."""
    to_tell: int | None
    """The requests that it takes to tell a difference of `POINT` for any lane; None: needless."""
    to_tell_seen: int | None
    """The requests that it takes to tell the shares seen from those expected; None: needless."""

    @property
    def fits(self) -> bool:
        """Whether the shares seen can be by chance, at `LEVEL`."""
        return self.requests > 0 and not self.off

    @property
    def off(self) -> tuple[Share, ...]:
        """The shares that cannot be by chance, the least likely first."""
        off = (share for share in self.shares if share.p < self.level)
        return tuple(sorted(off, key=lambda share: share.p))


def split_of(seen: Mapping[str, int], weights: Mapping[str, float]) -> Split:
    """Hold the lanes seen against weights, which are relative to each other."""
    total = sum(seen.values())
    weight = sum(weights.values())
    expected = {lane: weights.get(lane, 0) / weight for lane in sorted({*weights, *seen})}
    shares = tuple(
        Share(lane, seen.get(lane, 0), share, binomial_p(seen.get(lane, 0), total, share))
        for lane, share in expected.items()
    )
    uncertain = [share for share in shares if 0 < share.expected < 1]
    # Two lanes are one test: what the one has too much the other has too little.
    tests = 1 if len(uncertain) <= 2 else len(uncertain)
    level = LEVEL / tests
    refused = not total or any(share.p < level for share in shares)
    return Split(
        total,
        shares,
        p=min(1.0, tests * min((share.p for share in shares), default=1.0)),
        level=level,
        tells=_tells(total, [share.expected for share in uncertain], level),
        to_tell=_most(_requests_for(share.expected, POINT, level) for share in uncertain),
        to_tell_seen=None
        if refused
        else _least(
            requests_to_tell(share.expected, share.seen / total, level) for share in uncertain
        ),
    )


def binomial_p(seen: int, requests: int, share: float) -> float:
    """The two-sided p-value of the exact binomial test.

    Args:
        seen: the requests in question, 0 to `requests`.
        requests: all requests.
        share: the share expected, 0 to 1.
    """
    if share in (0, 1):
        return float(seen == requests * share)

    def log_chance(count: int) -> float:
        ways = lgamma(requests + 1) - lgamma(count + 1) - lgamma(requests - count + 1)
        return ways + count * log(share) + (requests - count) * log1p(-share)

    def tail(counts: Iterable[int]) -> float:
        """The chance of counts that get less likely one by one."""
        total = 0.0
        for count in counts:
            chance = exp(log_chance(count))
            total += chance
            if chance <= total * 1e-16:
                break
        return total

    mode = min(requests, int((requests + 1) * share))
    limit = log_chance(seen) + _TIE
    if limit >= log_chance(mode):
        return 1.0
    # From the mode on both sides fall: the first count on either that is no likelier than `seen`.
    above = range(mode, requests + 1)
    below = range(mode, -1, -1)
    start_above = bisect_left(above, -limit, key=lambda count: -log_chance(count))
    start_below = bisect_left(below, -limit, key=lambda count: -log_chance(count))
    return min(1.0, tail(above[start_above:]) + tail(below[start_below:]))


def requests_to_tell(expected: float, actual: float, level: float = LEVEL) -> int | None:
    """About how many requests tell two shares apart at a level, with `POWER`.

    By the normal approximation (Fleiss, Levin, Paik: Statistical Methods for Rates and Proportions,
    section 2.4). None where the shares are the same.
    """
    difference = abs(expected - actual)
    if difference < 1e-9:
        return None
    at_level = NormalDist().inv_cdf(1 - level / 2) * sqrt(expected * (1 - expected))
    with_power = NormalDist().inv_cdf(POWER) * sqrt(actual * (1 - actual))
    return ceil(((at_level + with_power) / difference) ** 2)


def requests_for(weights: Mapping[str, float], difference: float) -> int | None:
    """About how many requests tell that a lane's share is off, at `LEVEL`, with `POWER`.

    Args:
        weights: of the lanes, relative to each other.
        difference: of any share, 0 to 1.

    Returns:
        The number; None where there is nothing to tell, as there is one lane only.
    """
    shares = [weight / sum(weights.values()) for weight in weights.values() if weight]
    tests = 1 if len(shares) <= 2 else len(shares)
    return _most(_requests_for(share, difference, LEVEL / tests) for share in shares if share < 1)


def _requests_for(share: float, difference: float, level: float) -> int | None:
    """What it takes to tell a share that is off by `difference`, up or down."""
    actual = (share - difference, share + difference)
    return _most(requests_to_tell(share, one, level) for one in actual if 0 <= one <= 1)


def _tells(requests: int, shares: list[float], level: float) -> float | None:
    """The least difference, in whole points, that `requests` tell for each of the shares."""
    for points in range(1, 100):
        needed = [_requests_for(share, points / 100, level) for share in shares]
        if needed and all((one or inf) <= requests for one in needed):
            return points / 100
    return None


def _most(numbers: Iterable[int | None]) -> int | None:
    return max((number for number in numbers if number is not None), default=None)


def _least(numbers: Iterable[int | None]) -> int | None:
    return min((number for number in numbers if number is not None), default=None)
