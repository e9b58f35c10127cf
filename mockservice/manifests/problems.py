"""Problems in manifests: one line each."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Placed(Protocol):
    """What knows where its fields are written: a `Document`, for one."""

    def where(self, place: str = "") -> str:
        """Where a field is, as a message to the user starts."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A field with a value that cannot work, as one line for the user."""

    place: str
    """The file, the line, the object and the field."""
    reason: str
    """The value and what is allowed."""

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


def problem(document: Placed, place: str, reason: str) -> Problem:
    """Make a problem with the field `place` of a document."""
    return Problem(document.where(place), reason)


def one_of(written: str, known: Iterable[str], aliases: Mapping[str, str] | None = None) -> str:
    """Say which values are allowed: the one that resembles `written`, or else all of them.

    Args:
        written: what the manifest has. It is never suggested.
        known: the values that exist.
        aliases: other spellings, each with the known value that it stands for.
    """
    names = sorted(set(known) - {written})
    if not names:
        return "there is none"
    spellings = {**(aliases or {}), **{name: name for name in names}}
    for spelling in get_close_matches(written, spellings, n=len(spellings)):
        if spellings[spelling] in names:
            return f"did you mean {spellings[spelling]!r}?"
    return f"must be one of {', '.join(names)}" if len(names) > 1 else f"there is only {names[0]}"
