"""The tables that the tests print, a line as soon as it is known."""

from __future__ import annotations

import sys
from typing import Final

_PROBLEM: Final = 500
"""Characters of a problem that are shown."""


class Table:
    """Columns of text, and a verdict behind them.

    Args:
        columns: the headings, each with the width of its column.
    """

    def __init__(self, **columns: int) -> None:
        self.failures = 0
        """How many lines fail."""
        self._widths = tuple(columns.values())
        self._print(*columns, "verdict")

    def row(self, *cells: object, problems: list[str]) -> None:
        """Print a line, which holds if there are no problems, and the problems below it."""
        self._print(*map(str, cells), "FAILS" if problems else "holds")
        for problem in problems:
            sys.stdout.write(f"    {problem[:_PROBLEM]}\n")
        sys.stdout.flush()
        self.failures += bool(problems)

    def _print(self, *cells: str) -> None:
        *columns, verdict = cells
        padded = [cell.ljust(width) for cell, width in zip(columns, self._widths, strict=True)]
        sys.stdout.write("  ".join((*padded, verdict)) + "\n")
        sys.stdout.flush()
