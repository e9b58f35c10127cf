"""What a row of the proof found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

_NO_HANG = 20.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table."""

    what: str
    amount: str
    """How much of it there was."""
    seen: str
    limit: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is to be proved."""

    short: bool
    """Counts, in seconds; timings are left out."""
    seed: int
    """What is random comes of this."""

    def within(self, seconds: float) -> float:
        """A limit in seconds; in short, one that proves no more than that nothing hangs."""
        return max(seconds, _NO_HANG) if self.short else seconds


Prove = Callable[[Extent], Iterator[Finding]]
"""A row: yields what it finds as it finds it."""
