"""The table "To reach": the goals, and whether the hop reaches them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import markdown

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Goal:
    """One row: a value and its target."""

    what: str
    value: float
    target: float
    at_least: bool = False
    """Whether the target is a minimum, not a maximum."""
    percent: bool = False

    @property
    def reached(self) -> bool:
        """Whether the value meets the target."""
        return self.value >= self.target if self.at_least else self.value <= self.target


def section(goals: Sequence[Goal]) -> str:
    """The table."""
    rows = [["", "value", "target", ""]]
    for goal in goals:
        bound = "at least" if goal.at_least else "at most"
        rows.append(
            [
                goal.what,
                f"{goal.value:{'.1%' if goal.percent else '.3g'}}",
                f"{bound} {goal.target:{'.0%' if goal.percent else '.4g'}}",
                "reached" if goal.reached else "not reached",
            ]
        )
    return f"## To reach\n\n{markdown.table(rows)}"
