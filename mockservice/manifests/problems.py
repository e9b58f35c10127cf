"""What is wrong with manifests, one line for each."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mockservice.manifests.documents import Document


@dataclass(frozen=True, slots=True)
class Problem:
    """A field that cannot work, as one line for the user."""

    place: str
    """The file, the line, the object and the field."""
    reason: str
    """The value, and what is expected."""

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


def problem(document: Document, place: str, reason: str) -> Problem:
    """A problem with the field of a document that `place` names."""
    return Problem(document.where(place), reason)


def one_of(name: str, known: Iterable[str]) -> str:
    """Say what a name must be: one of those that there are, the likely one first."""
    names = sorted(set(known))
    if not names:
        return "there is none"
    if meant := get_close_matches(name, names, n=1):
        return f"did you mean {meant[0]!r}?"
    return f"must be one of {', '.join(names)}" if len(names) > 1 else f"there is only {names[0]}"
