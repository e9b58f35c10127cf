"""What a verification came to: a table and problems for people, or one JSON document."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from mockservice.probe.report import console_for_data, plain
from mockservice.verify import github

if TYPE_CHECKING:
    from mockservice.verify.verification import Verification

_COLOURS: Final = {"error": "red", "note": "yellow"}
_UNSHOWN: Final = 2
"""The rank of problems that are no annotations: GitHub Actions shows only ten of a step."""
_WORDS: Final = {True: ("holds", "green"), False: ("fails", "red"), None: ("not entered", "yellow")}


def show(verification: Verification) -> None:
    """Print a line for each lane, then what is wrong, and what it all comes to.

    Where GitHub Actions runs this, what is wrong or may change lanes is printed as annotations.
    """
    console = console_for_data()
    table = Table("lane", "enters by", "requests", "chain", "", box=None, pad_edge=False)
    for lane in verification.lanes():
        row = (lane.name, lane.enters_by, str(lane.requests), lane.chain or "-")
        table.add_row(*(Text(plain(one)) for one in row), Text(*_WORDS[lane.holds]))
    if table.row_count:
        console.print(table)
    for problem in verification.problems():
        if github.is_running(os.environ) and problem.rank < _UNSHOWN:
            console.print(Text(github.annotation(problem)))
            continue
        level = (problem.level, _COLOURS[problem.level])
        console.print(Text.assemble(level, f": {plain(problem.located)}"))
    console.print(Text(_result(verification)))


def show_json(verification: Verification) -> None:
    """Print everything as one JSON document; annotations go to standard error."""
    if github.is_running(os.environ):
        for problem in verification.problems():
            if problem.rank < _UNSHOWN:
                sys.stderr.write(github.annotation(problem) + "\n")
    sys.stdout.write(json.dumps(verification.to_json()) + "\n")


def show_failure(problems: list[str]) -> None:
    """Print why there is no verification to standard error, a line for each problem."""
    for problem in problems:
        if github.is_running(os.environ):
            sys.stderr.write(github.annotation_of_refusal(problem) + "\n")
        else:
            sys.stderr.write(f"mockservice verify: {problem}\n")


def _result(verification: Verification) -> str:
    does = "hold" if verification.hold else "do not hold"
    parts = [f"the lanes {does}: {verification.requests} requests{verification.told()}"]
    if cases := verification.cases:
        held = sum(one.holds for one in cases)
        parts.append(f"{held} of {len(cases)} {'case' if len(cases) == 1 else 'cases'} held")
    return "; ".join(parts)
