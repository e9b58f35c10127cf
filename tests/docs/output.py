"""Is what a command printed what its page shows?

Lines are compared in any order, since tables and reasons are sorted by what chance decides; so a
verdict and the reason behind it count as two lines. Whatever differs
from run to run may differ: addresses, times, ids and numbers. Names that contain digits, ports
behind an address, and HTTP statuses (whole numbers from 400 to 599) must be the same. Runs of
spaces count as one. A line `...` stands for any lines, and `...` in a line for any text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_ANY: Final = "..."
_NUMBER: Final = r"\d+(?:\.\d+)?(?:e-\d+)?"
_DIFFERENT: Final = {
    r"\d{4}-\d\d-\d\dT[\d:.]+Z": r"\d{4}-\d\d-\d\dT[\d:.]+Z",
    r"\b[0-9a-f]{32}\b": "[0-9a-f]{32}",
    r"\b[0-9a-f]{16}\b": "[0-9a-f]{16}",
    r"\b\d+\.\d+\.\d+\.\d+\b": r"\d+\.\d+\.\d+\.\d+",
    # Counts side by side, such as 45:55.
    rf"(?<![\w.:-]){_NUMBER}(?::{_NUMBER})+(?![\w.:])": rf"{_NUMBER}(?::{_NUMBER})+",
    # No part of a name such as v1 or mocka-v1-0, no port, no status.
    rf"(?<![\w.:-])(?![45]\d\d\b(?!\.)){_NUMBER}(?![\w.])": _NUMBER,
    r"\.\.\.": ".*",
    r"\s+": r"\s+",
}
_PARTS: Final = re.compile("|".join(f"({one})" for one in _DIFFERENT))


def unlike(shown: Iterable[str], printed: str) -> list[str]:
    """What tells the two apart, a line for each; empty if they are alike."""
    left = _lines(printed)
    lines = _lines("\n".join(shown))
    missing = []
    for line in lines:
        if line == _ANY:
            continue
        pattern = _pattern(line)
        found = next((one for one in left if pattern.fullmatch(one)), None)
        if found is None:
            missing.append(f"not printed: {line}")
        else:
            left.remove(found)
    if _ANY in lines:
        return missing
    return [*missing, *(f"not shown: {line}" for line in left)]


def _lines(text: str) -> list[str]:
    lines = re.sub(r"^(\w+ +(?:holds|fails|unknown))  +", r"\1\n", text, flags=re.MULTILINE)
    return [line.strip() for line in lines.splitlines() if line.strip()]


def _pattern(line: str) -> re.Pattern[str]:
    """What matches a line of a page, with what may differ."""
    pattern, end = "", 0
    for part in _PARTS.finditer(line):
        assert part.lastindex is not None
        pattern += re.escape(line[end : part.start()])
        pattern += list(_DIFFERENT.values())[part.lastindex - 1]
        end = part.end()
    return re.compile(pattern + re.escape(line[end:]))
