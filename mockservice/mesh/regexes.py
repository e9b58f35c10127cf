"""Values that fit a regular expression, made up for the simple ones.

Simple are literals, alternatives, groups, classes of characters, `.`, and how often each comes.
Of the rest, such as looking ahead or the start of a word, nothing is made up.
"""

from __future__ import annotations

import re
from itertools import islice, product
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_VALUES: Final = 10
"""Values of one expression, at most."""
_MAX_SIZE: Final = 1000
"""Characters of an expression that is looked at."""
_MAX_VALUE: Final = 1000
"""Characters of a value."""
_ANY: Final = "x"
"""Stands for any character."""
# Alike in RE2 and in Python. Of other escapes, such as `\b`, nothing is made up.
_CLASSES: Final = {"d": "0", "w": "a", "s": " ", "D": _ANY, "W": "-", "S": _ANY}
_SPECIAL: Final = frozenset("|)*+?{")
_COUNT: Final = re.compile(r"\{([0-9]{1,4})(?:,[0-9]{0,4})?\}")
_GROUP: Final = re.compile(r"\((?:\?:|\?P?<[A-Za-z_]\w*>)?(?!\?)")
_RANGE: Final = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]")
_PLAIN: Final = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")


def values_of(pattern: str) -> list[str]:
    """Values that fit as a whole, one for each alternative; empty where none can be made up.

    Each can be sent as the value of a header.
    """
    flags = "(?i)" if pattern.startswith("(?i)") else ""
    if "[[" in pattern:
        # A class by its name, which Python does not know.
        return []
    try:
        whole = re.compile(pattern)
        made = _Pattern(pattern.removeprefix(flags)).values()
    except (re.error, OverflowError, RecursionError, _NotSimpleError):
        # Whether Envoy takes it, its RE2 says at start.
        return []
    fitting = (one for one in made if _PLAIN.fullmatch(one) and whole.fullmatch(one))
    return list(dict.fromkeys(fitting))


class _NotSimpleError(Exception):
    """An expression of which no value can be made up."""


class _Pattern:
    """Reads an expression from left to right."""

    def __init__(self, pattern: str) -> None:
        if len(pattern) > _MAX_SIZE:
            raise _NotSimpleError
        self._rest = pattern

    def values(self) -> list[str]:
        """Values of the whole expression."""
        values = self._alternatives()
        if self._rest:
            raise _NotSimpleError
        return values

    def _alternatives(self) -> list[str]:
        values = self._sequence()
        while self._takes("|"):
            values += self._sequence()
        return values[:MAX_VALUES]

    def _sequence(self) -> list[str]:
        values = [""]
        while self._rest and self._rest[0] not in "|)":
            if self._rest[0] in "^$":
                # The value is the whole anyway: where that is not so, it will not fit.
                self._rest = self._rest[1:]
                continue
            part = self._part()
            repeats = self._repeats()
            if repeats * max(map(len, part)) > _MAX_VALUE:
                raise _NotSimpleError
            joined = (f"{before}{one * repeats}" for before, one in product(values, part))
            values = list(dict.fromkeys(islice(joined, MAX_VALUES)))
        return values

    def _part(self) -> list[str]:
        """What repeats refer to: a group, a class or a character."""
        if group := self._match(_GROUP):
            values = self._alternatives()
            if not group or not self._takes(")"):
                raise _NotSimpleError
            return values
        first = self._rest[0]
        if first == "[":
            return list(self._of_range())
        self._rest = self._rest[1:]
        if first == "\\":
            return [self._escaped()]
        if first in _SPECIAL or first == "(":
            raise _NotSimpleError
        return [_ANY if first == "." else first]

    def _escaped(self) -> str:
        char, self._rest = self._rest[:1], self._rest[1:]
        if char in _CLASSES:
            return _CLASSES[char]
        if not char or char.isalnum():
            raise _NotSimpleError
        return char

    def _of_range(self) -> Iterator[str]:
        """Characters of a class: those that stand in it, else the first one that fits."""
        text = self._match(_RANGE)
        if text is None or "[" in text[1:]:
            raise _NotSimpleError
        named = text[1:-1]
        if re.fullmatch(r"[A-Za-z0-9]+", named):
            yield from named[:MAX_VALUES]
            return
        one = re.compile(text)
        fitting = (char for char in map(chr, (*b"ax0A", *range(32, 127))) if one.fullmatch(char))
        first = next(fitting, None)
        if first is None:
            raise _NotSimpleError
        yield first

    def _repeats(self) -> int:
        """How often the part before comes, which is as seldom as it may."""
        repeats = 1
        if count := _COUNT.match(self._rest):
            repeats, self._rest = int(count[1]), self._rest[count.end() :]
        elif self._takes("*") or self._takes("?"):
            repeats = 0
        elif not self._takes("+"):
            return 1
        # Whether it is greedy makes no difference.
        self._takes("?")
        return repeats

    def _takes(self, sign: str) -> bool:
        before = self._rest
        self._rest = before.removeprefix(sign)
        return self._rest != before

    def _match(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self._rest)
        if found is None:
            return None
        self._rest = self._rest[found.end() :]
        return found[0]
