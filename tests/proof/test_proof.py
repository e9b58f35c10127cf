"""The short versions of `make soak` and `make chaos`: counts, no timings."""

import random

import pytest

from tests.proof.finding import Extent, Prove
from tests.proof.grammar import Grammar
from tests.proof.reading import read
from tests.proof.rows import ROWS
from tests.shapes import ANSWERED, REFUSED, Row

_SEED = 1
_PROVED = {name: prove for rows in ROWS.values() for name, prove in rows.items()}


@pytest.mark.parametrize("prove", _PROVED.values(), ids=_PROVED)
def test_it_holds(prove: Prove) -> None:
    findings = list(prove(Extent(short=True, seed=_SEED)))
    assert findings
    assert [finding for finding in findings if not finding.holds] == []


@pytest.mark.parametrize("row", ANSWERED, ids=lambda row: row.rule)
def test_the_independent_reading_takes_what_is_answered(row: Row) -> None:
    behind_close = not row.stays and len(read(row.sent)) == 2
    assert len(read(row.sent)) == len(row.statuses) + behind_close


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
def test_the_independent_reading_takes_nothing_more(sent: bytes) -> None:
    # What the reading does not look at is only what ends no message: targets, versions, amounts.
    assert len(read(sent)) <= 1


def test_the_same_seed_makes_the_same_requests() -> None:
    first, second = (Grammar(random.Random(_SEED)) for _ in range(2))
    assert [first.stream() for _ in range(50)] == [second.stream() for _ in range(50)]
