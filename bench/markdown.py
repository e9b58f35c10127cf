"""Tables and paragraphs of RESULTS.md."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH: Final = 100


def table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table. The first row is the head; the first `left` columns are text, the others numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rules = [
        "-" * width if column < left else "-" * (width - 1) + ":"
        for column, width in enumerate(widths)
    ]
    head, *others = rows
    return "\n".join(_line(row, widths, left) for row in (head, rules, *others))


def paragraph(text: str) -> str:
    """`text` wrapped at 100 characters."""
    return textwrap.fill(
        " ".join(text.split()), _WIDTH, break_long_words=False, break_on_hyphens=False
    )


def count(number: int, what: str) -> str:
    """A number and a noun: `1 round`, `5 rounds`."""
    return f"{number} {what}{'s' * (number != 1)}"


def _line(cells: Sequence[str], widths: Sequence[int], left: int) -> str:
    padded = [
        cell.ljust(width) if column < left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |"
