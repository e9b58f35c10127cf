"""The split: what can be by chance fits, what cannot does not, and how many requests tell."""

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockservice.probe.split import LEVEL, POWER, binomial_p, requests_to_tell, split_of


@pytest.mark.parametrize(
    ("seen", "requests", "share", "p"),
    [
        # As R's binom.test says.
        (52, 100, 0.5, 0.7644),
        (60, 100, 0.5, 0.05689),
        (70, 100, 0.5, 7.85e-05),
        (5, 18, 0.5, 0.09625),
        # Mendel's peas, the example of R's manual (Conover 1971, page 97).
        (682, 925, 0.75, 0.3825),
        # By hand: both ends, and all counts but the likeliest.
        (0, 10, 0.5, 2 / 2**10),
        (10, 10, 0.9, 1 - 10 * 0.9**9 * 0.1),
        (7, 7, 1.0, 1.0),
        (6, 7, 1.0, 0.0),
        (0, 7, 0.0, 1.0),
        (1, 7, 0.0, 0.0),
        (0, 0, 0.5, 1.0),
    ],
)
def test_p_values_are_those_known(seen: int, requests: int, share: float, p: float) -> None:
    assert binomial_p(seen, requests, share) == pytest.approx(p, rel=1e-3)


@given(st.data(), st.integers(1, 60), st.integers(1, 99))
def test_p_values_are_the_sum_of_no_likelier_counts(
    data: st.DataObject, requests: int, percent: int
) -> None:
    seen = data.draw(st.integers(0, requests))
    share = Fraction(percent, 100)
    chances = [
        comb(requests, count) * share**count * (1 - share) ** (requests - count)
        for count in range(requests + 1)
    ]
    exact = sum(chance for chance in chances if chance <= chances[seen])
    assert binomial_p(seen, requests, percent / 100) == pytest.approx(float(exact), rel=1e-6)


@settings(max_examples=30)
@given(st.integers(1, 1_000_000), st.floats(0, 1), st.floats(0, 1))
def test_p_values_of_a_million_requests_are_chances(
    requests: int, part: float, share: float
) -> None:
    assert 0 <= binomial_p(round(requests * part), requests, share) <= 1


@pytest.mark.parametrize(
    ("seen", "weights", "fits"),
    [
        ("v1=52 v2=48", "v1=50 v2=50", True),
        ("v1=52 v2=48", "v1=1 v2=1", True),
        ("v1=60 v2=40", "v1=1 v2=1", True),
        ("v1=70 v2=30", "v1=1 v2=1", False),
        ("v1=30 v2=70", "v1=1 v2=1", False),
        ("v1=58 v2=33 v3=9", "v1=60 v2=30 v3=10", True),
        ("v1=50 v2=20 v3=30", "v1=60 v2=30 v3=10", False),
        ("v1=60 v2=30 v4=10", "v1=60 v2=30 v3=10", False),
        ("v1=60 v2=39 v4=1", "v1=60 v2=40", False),
        ("v1=100", "v1=100 v2=0", True),
        ("v1=99 v2=1", "v1=100 v2=0", False),
        ("v1=100", "v1=1", True),
        ("v1=100", "v1=1 v2=1", False),
        # Too few requests to tell anything by.
        ("v1=1", "v1=1 v2=1", True),
        ("v1=3", "v1=60 v2=30 v3=10", True),
        ("", "v1=1 v2=1", False),
        # Small shares, where the chi-squared test would be wrong.
        ("v1=999 v2=1", "v1=999 v2=1", True),
        ("v1=997 v2=3", "v1=999 v2=1", True),
        ("v1=990 v2=10", "v1=999 v2=1", False),
    ],
)
def test_shares_fit_as_far_as_chance_goes(seen: str, weights: str, fits: bool) -> None:
    assert split_of(_counts(seen), _counts(weights)).fits is fits


def test_what_is_off_is_named_with_the_least_likely_first() -> None:
    split = split_of(_counts("v1=60 v2=10 v3=30"), _counts("v1=60 v2=30 v3=10"))
    assert [share.lane for share in split.off] == ["v3", "v2"]


@pytest.mark.parametrize("weights", [(1, 1), (60, 30, 10), (97, 1, 1, 1)])
def test_a_right_split_is_refused_no_more_often_than_the_level_says(
    weights: tuple[int, ...],
) -> None:
    """The chance that one lane or another is off is at most that of each, added up."""
    requests = 200
    names = [f"v{number}" for number in range(len(weights))]
    level = split_of({names[0]: requests}, dict(zip(names, weights, strict=True))).level
    shares = {weight / sum(weights) for weight in weights}
    # Of two lanes one is the other's mirror.
    chances = [
        _chance_refused(requests, share, share, level) for share in shares if len(weights) > 2
    ] or [_chance_refused(requests, 0.5, 0.5, level)]
    assert 0 < sum(chances) <= LEVEL


@pytest.mark.parametrize(
    ("expected", "actual"), [(0.5, 0.7), (0.5, 0.45), (0.1, 0.15), (0.1, 0.3), (0.9, 0.8)]
)
def test_the_requests_that_it_takes_do_tell(expected: float, actual: float) -> None:
    requests = requests_to_tell(expected, actual)
    assert requests is not None
    # The exact power at the number that the approximation gives, and at half of it.
    assert abs(_chance_refused(requests, expected, actual, LEVEL) - POWER) < 0.06
    assert _chance_refused(requests // 2, expected, actual, LEVEL) < 0.7


def test_shares_that_are_the_same_are_never_told_apart() -> None:
    assert requests_to_tell(0.3, 0.3) is None


@given(st.integers(2, 5000))
def test_more_requests_tell_smaller_differences(requests: int) -> None:
    split = split_of({"v1": requests, "v2": requests}, {"v1": 1, "v2": 1})
    more = split_of({"v1": 4 * requests, "v2": 4 * requests}, {"v1": 1, "v2": 1})
    assert more.tells is not None
    assert split.tells is None or more.tells <= split.tells
    assert more.to_tell == split.to_tell


def _chance_refused(requests: int, expected: float, actual: float, level: float) -> float:
    share = Fraction(actual).limit_denominator(1000)
    return sum(
        float(comb(requests, count) * share**count * (1 - share) ** (requests - count))
        for count in range(requests + 1)
        if binomial_p(count, requests, expected) < level
    )


def _counts(text: str) -> dict[str, int]:
    return {lane: int(number) for lane, _, number in (part.partition("=") for part in text.split())}
