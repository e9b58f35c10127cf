"""The shape of an object: which fields it has, and what they hold.

A shape is closed, and refuses fields that it does not know by their name; or open, and knows only
those that the checks look at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mockservice.manifests.problems import Problem, one_of, problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mockservice.manifests.documents import Document


@dataclass(frozen=True, slots=True)
class Text:
    """A text; one of `allowed` where that is given."""

    allowed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `least` to `most`."""

    least: int = 0
    most: int = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""


@dataclass(frozen=True, slots=True)
class Anything:
    """Whatever it is, nobody looks at it."""


@dataclass(frozen=True, slots=True)
class List:
    """A list of the same; of at least one where it must not be empty."""

    of: Shape
    empty: bool = True


@dataclass(frozen=True, slots=True)
class Map:
    """The same under names of the user's own, such as labels."""

    of: Shape = field(default_factory=Text)


@dataclass(frozen=True, slots=True)
class Object:
    """Fields by their names."""

    fields: Mapping[str, Shape]
    required: tuple[str, ...] = ()
    open: bool = False
    single: bool = False
    """Exactly one of the fields is set."""


Shape = Text | Whole | Flag | Anything | List | Map | Object

_EXPECTED: Final = {
    Text: "text",
    Whole: "a whole number",
    Flag: "true or false",
    List: "a list",
    Map: "an object",
    Object: "an object",
}


def misfits(document: Document, shape: Shape, value: Any, place: str = "") -> Iterator[Problem]:
    """What of a value does not fit its shape. A field that is null is one that is not there."""
    match shape, value:
        case (Anything(), _) | (Text(allowed=()), str()) | (Flag(), bool()):
            return
        case Text(allowed=allowed), str():
            if value not in allowed:
                yield problem(document, place, f"{value!r}: {one_of(value, allowed)}")
        case Whole(least=least, most=most), int() if not isinstance(value, bool):
            if not least <= value <= most:
                yield problem(document, place, f"{value}: must be from {least} to {most}")
        case List(of=of, empty=empty), list():
            if not value and not empty:
                yield problem(document, place, "must not be empty")
            for index, item in enumerate(value):
                yield from misfits(document, of, item, f"{place}[{index}]")
        case Map(of=of), dict():
            for name, item in value.items():
                yield from misfits(document, of, item, _inside(place, name))
        case Object(), dict():
            yield from _misfits_of_fields(document, shape, value, place)
        case _:
            shown = "nothing" if value is None else repr(value)
            yield problem(document, place, f"must be {_EXPECTED[type(shape)]}, not {shown}")


def _misfits_of_fields(
    document: Document, shape: Object, value: dict[str, Any], place: str
) -> Iterator[Problem]:
    present = {name: item for name, item in value.items() if item is not None}
    for name in value:
        if name not in shape.fields and not shape.open:
            known = one_of(name, shape.fields)
            yield problem(document, _inside(place, name), f"there is no such field; {known}")
    for name in shape.required:
        if name not in present:
            yield problem(document, _inside(place, name), "must be set")
    if shape.single and len(present) != 1:
        yield problem(document, place, f"must have exactly one of {', '.join(shape.fields)}")
    for name, item in present.items():
        if name in shape.fields:
            yield from misfits(document, shape.fields[name], item, _inside(place, name))


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
