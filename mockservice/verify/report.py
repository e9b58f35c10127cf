"""What a verification came to: a table and problems for people, or one JSON document."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from mockservice.probe.report import console_for_data, plain

if TYPE_CHECKING:
    from mockservice.verify.verification import Verification

_COLOURS: Final = {"error": "red", "note": "yellow"}


def show(verification: Verification) -> None:
    """Print a line for each lane, then what is wrong."""
    console = console_for_data()
    table = Table("lane", "enters by", "requests", "chain", "", box=None, pad_edge=False)
    for lane in verification.lanes():
        word = Text("holds", "green") if lane.holds else Text("fails", "red")
        row = (lane.name, lane.enters_by, str(lane.requests), lane.chain or "-")
        table.add_row(*(Text(plain(one)) for one in row), word)
    if table.row_count:
        console.print(table)
    for problem in verification.problems():
        line = Text.assemble((problem.level, _COLOURS[problem.level]), f": {plain(problem.text)}")
        console.print(line)
    result = "the lanes hold" if verification.hold else "the lanes do not hold"
    console.print(Text(f"{result}: {verification.requests} requests, {verification.told()}"))


def show_json(verification: Verification) -> None:
    """Print everything as one JSON document."""
    sys.stdout.write(json.dumps(verification.to_json()) + "\n")
