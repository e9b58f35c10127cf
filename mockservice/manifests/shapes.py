"""Shapes: the fields of an object and the types of their values.

A closed shape refuses unknown fields. An open one lists only the fields that the checks read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mockservice.manifests.problems import Problem, one_of, problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mockservice.manifests.problems import Placed


@dataclass(frozen=True, slots=True)
class String:
    """A string. If `allowed` is given, it must be one of these."""

    allowed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer from `minimum` to `maximum`."""

    minimum: int = 0
    maximum: int = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or false."""


@dataclass(frozen=True, slots=True)
class Anything:
    """Any value: nothing here reads it."""


@dataclass(frozen=True, slots=True)
class List:
    """A list of values that all have the same shape."""

    of: Shape
    empty: bool = True
    """Whether the list may be empty."""


@dataclass(frozen=True, slots=True)
class Map:
    """An object with keys that the user chooses, such as labels; the values have one shape."""

    of: Shape = field(default_factory=String)


@dataclass(frozen=True, slots=True)
class Object:
    """An object with known fields."""

    fields: Mapping[str, Shape]
    required: tuple[str, ...] = ()
    open: bool = False
    """Whether other fields are allowed."""
    single: bool = False
    """Whether exactly one of the fields must be set."""


Shape = String | Integer | Boolean | Anything | List | Map | Object

_EXPECTED: Final = {
    String: "a string",
    Integer: "an integer",
    Boolean: "true or false",
    List: "a list",
    Map: "an object",
    Object: "an object",
}


def violations(document: Placed, shape: Shape, value: Any, place: str = "") -> Iterator[Problem]:
    """Yield a problem for each part of a value that does not fit its shape.

    A field that is null counts as absent.
    """
    match shape, value:
        case (Anything(), _) | (String(allowed=()), str()) | (Boolean(), bool()):
            return
        case String(allowed=allowed), str():
            if value not in allowed:
                yield problem(document, place, f"{value!r}: {one_of(value, allowed)}")
        # In Python a bool is an int too.
        case Integer(minimum, maximum), int() if not isinstance(value, bool):
            if not minimum <= value <= maximum:
                yield problem(document, place, f"{value}: must be from {minimum} to {maximum}")
        case List(of=of, empty=empty), list():
            if not value and not empty:
                yield problem(document, place, "must not be empty")
            for index, item in enumerate(value):
                yield from violations(document, of, item, f"{place}[{index}]")
        case Map(of=of), dict():
            for name, item in value.items():
                yield from violations(document, of, item, _inside(place, name))
        case Object(), dict():
            yield from _field_violations(document, shape, value, place)
        case _:
            shown = "null" if value is None else repr(value)
            yield problem(document, place, f"must be {_EXPECTED[type(shape)]}, not {shown}")


def _field_violations(
    document: Placed, shape: Object, value: dict[str, Any], place: str
) -> Iterator[Problem]:
    present = {name: item for name, item in value.items() if item is not None}
    for name in value:
        if name not in shape.fields and not shape.open:
            known = one_of(name, shape.fields)
            yield problem(document, _inside(place, name), f"unknown field; {known}")
    for name in shape.required:
        if name not in present:
            yield problem(document, _inside(place, name), "must be set")
    if shape.single and len(present) != 1:
        yield problem(document, place, f"must have exactly one of {', '.join(shape.fields)}")
    for name, item in present.items():
        if name in shape.fields:
            yield from violations(document, shape.fields[name], item, _inside(place, name))


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
