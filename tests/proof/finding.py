"""What a row of the proof found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Self

_NO_HANG = 20.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table."""

    what: str
    amount: str
    """How much of it there was."""
    seen: str
    limit: str
    holds: bool | None
    """None: cannot be told on this machine."""


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


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of two throughputs, from pairs of rounds that were measured one after the other."""

    median: float
    spread: float
    """From the lower to the upper quartile of the pairs."""

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float]]) -> Self:
        """The ratio of the first throughputs of the pairs to the second ones."""
        ratios = [one / other for one, other in pairs]
        lower, _, upper = quantiles(ratios, n=4, method="inclusive")
        return cls(median(ratios), upper - lower)

    def is_at_least(self, least: float) -> bool | None:
        """Whether the ratio is one that counts as the same.

        Args:
            least: the least such ratio, below 1.

        Returns:
            None where it is less, but other pairs differ by more than it may fall short of 1.
        """
        if self.median >= least:
            return True
        return None if self.spread > 1 - least else False


Prove = Callable[[Extent], Iterator[Finding]]
"""A row: yields what it finds as it finds it."""
