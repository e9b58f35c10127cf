"""Local lanes answer as Istio did when `make truth` ran last."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mockservice.mesh.errors import RefusedError
from tests.truth.cases import CASES, Case, read_cases
from tests.truth.local import Local
from tests.truth.recorded import Recorded, read_recorded
from tests.truth.shares import are_same

_TIMES = 5
_TIMES_MIXED = 40
"""How often a request is sent for which Istio had several outcomes."""

_FILES = [path.stem for path in sorted(CASES.glob("*.yaml"))]
# To start an Envoy for each file would take longer.
_GROUPS = [_FILES[start::3] for start in range(3)]
DOCS = Path(__file__).parents[2] / "docs" / "lanes.md"


# Hundreds of cases take their time on a busy machine.
@pytest.mark.timeout(400)
@pytest.mark.slow
async def test_local_lanes_answer_as_istio_does() -> None:
    # Most of that time they wait: for Envoy to move, and for copies and late answers.
    found = await asyncio.gather(*(_differences(files) for files in _GROUPS))
    assert {name: one for differences in found for name, one in differences.items()} == {}


async def _differences(files: list[str]) -> dict[str, object]:
    """By case, what is not as recorded."""
    recorded = read_recorded()
    differences = {}
    async with Local() as local:
        for case in (case for file in files for case in read_cases(file)):
            if difference := await _difference(case, recorded[case.name], local):
                differences[case.name] = difference
    return differences


async def _difference(case: Case, theirs: Recorded, local: Local) -> object:
    """What is not as recorded; None where all is."""
    try:
        notes = await local.move_to(case.objects)
    except RefusedError as error:
        is_right = case.refused is not None or isinstance(theirs, str)
        return None if is_right else error.problems
    if case.refused is not None or isinstance(theirs, str):
        return "is not refused"
    times = {text: _TIMES_MIXED if len(seen) > 1 else _TIMES for text, seen in theirs.items()}
    ours = await local.hops.outcomes(case.requests, times, local.gateway)
    if ours.keys() != theirs.keys():
        return "was recorded with other requests: run `make truth`"
    found = {
        text: {"Istio": theirs[text], "local lanes": dict(seen)}
        for text, seen in ours.items()
        if not are_same(theirs[text], seen)
    }
    if case.noted is None:
        return found
    return None if found and notes else "is not noted"


def test_the_docs_tell_what_is_noted_and_refused() -> None:
    lines = [line for line in DOCS.read_text().splitlines() if line.startswith("| ")]
    rows = [line.strip("|").split("|") for line in lines]
    noted, refused = ("\n".join(row[cell] for row in rows if len(row) == 4) for cell in (2, 3))
    cases = read_cases()
    assert [case.noted for case in cases if case.noted and case.noted not in noted] == []
    assert [case.refused for case in cases if case.refused and case.refused not in refused] == []


def test_every_case_is_recorded() -> None:
    assert {case.name for case in read_cases()} == read_recorded().keys()


@pytest.mark.parametrize(
    ("theirs", "ours", "same"),
    [
        ({"a": 240}, {"a": 6}, True),
        ({"a": 240}, {"a": 5, "b": 1}, False),
        ({"a": 192, "b": 48}, {"a": 48, "b": 12}, True),
        ({"a": 192, "b": 48}, {"a": 40, "b": 20}, True),
        ({"a": 192, "b": 48}, {"a": 12, "b": 48}, False),
        ({"a": 120, "b": 120}, {"a": 60}, False),
    ],
)
def test_shares_are_the_same_but_for_chance(
    theirs: dict[str, int], ours: dict[str, int], same: bool
) -> None:
    assert are_same(theirs, ours) is same
