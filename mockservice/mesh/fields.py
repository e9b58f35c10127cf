"""Reads a manifest field by field, and refuses by name each field that no reader knows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from mockservice.manifests.problems import one_of
from mockservice.mesh.model import PERCENT_OF_ALL, Note, Pairs, pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from types import TracebackType

    from mockservice.manifests.documents import Document, Source

T = TypeVar("T")

_NOT_SUPPORTED: Final = "not supported by local lanes"

# The format of Go's time.ParseDuration, which Kubernetes and Istio use.
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|m|s))+")
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LEAST_DURATION: Final = 0.001
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class Fields:
    """The fields of one object of a manifest.

    Each getter marks its field as read and checks the type of the value. At the end of the `with`
    block, each unread field becomes a problem. Reading continues after a problem, so that the user
    sees all problems at once.
    """

    def __init__(
        self,
        document: Document,
        problems: list[str],
        notes: list[Note],
        body: Any,
        path: str = "",
    ) -> None:
        self._document = document
        self._problems = problems
        self._notes = notes
        self._path = path
        self._fields: dict[str, Any] = body if isinstance(body, dict) else {}
        self._unread = dict.fromkeys(self._fields)
        if not isinstance(body, dict):
            self._problems.append(f"{document.where(path)}: must be an object, not {body!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            for name in self._unread:
                self.refuse(name)

    def __contains__(self, name: str) -> bool:
        return self._fields.get(name) is not None

    @property
    def body(self) -> dict[str, Any]:
        """All of the object, for what is read without checks."""
        return self._fields

    @property
    def source(self) -> Source:
        """The place of this object."""
        return self._document.source(self._path)

    @property
    def document(self) -> Source:
        """The place of the whole document."""
        return self._document.source()

    def refuse(self, name: str, reason: str = _NOT_SUPPORTED) -> None:
        """Add a problem with one field, or with the whole object where the name is empty."""
        path = self._path_of(name) if name else self._path
        self._problems.append(f"{self._document.where(path)}: {reason}")

    def known(self, names: Collection[str]) -> None:
        """Accept what else there is of the fields of these names, and refuse all others."""
        for name in list(self._unread):
            if name not in names:
                self.refuse(name, f"unknown field; {one_of(name, names)}")
            self.ignore(name)

    def note(self, name: str, text: str) -> None:
        """Add a note on one field, or on the whole object where the name is empty."""
        path = self._path_of(name) if name else self._path
        source = self._document.source(path)
        self._notes.append(Note(f"{source.kind} {source.name}: {path}: {text}", source))

    def ignore(self, *names: str) -> None:
        """Accept fields that have no effect in local lanes."""
        for name in names:
            self._unread.pop(name, None)

    def text(self, name: str, default: str = "", allowed: tuple[str, ...] = ()) -> str:
        """Return a string. If `allowed` is given, it must be one of these."""
        value: str = self._take(name, default, str, "a string")
        if value and allowed and value not in allowed:
            self.refuse(name, f"{value!r}: {_NOT_SUPPORTED}; must be {' or '.join(allowed)}")
        return value

    def header(self, name: str) -> str:
        """Return a header name in lower case (RFC 9110 section 5.6.2)."""
        value = self.text(name)
        if value and not _HEADER_NAME.fullmatch(value):
            self.refuse(name, f"{value!r}: must be a header name")
            return ""
        return value.lower()

    def number(self, name: str, default: Any = None) -> Any:
        """Return an integer."""
        return self._take(name, default, int, "an integer")

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a boolean."""
        value = self._take(name, default, bool, "true or false")
        return bool(value)

    def scalar(self, name: str) -> str | int | None:
        """Return a string or an integer, such as a port's name or number."""
        value: str | int | None = self._take(name, None, (str, int), "a string or an integer")
        return value

    def percent(self, name: str, default: float) -> float:
        """Return an Istio `Percent`, which is an object with a `value` from 0 to 100."""
        if name not in self:
            self.ignore(name)
            return default
        with self.object(name) as fields:
            value = float(fields._take("value", 0, (int, float), "a number"))
            if not 0 <= value <= PERCENT_OF_ALL:
                fields.refuse("value", f"{value:g}: must be from 0 to 100")
            return value

    def seconds(self, name: str) -> float | None:
        """Return a duration such as `1.5s` or `1h30m`, in seconds."""
        value = self._take(name, None, str, "a duration")
        if value is None:
            return None
        if not _DURATION.fullmatch(value):
            self.refuse(name, f"{value!r}: must be a duration such as 500ms, 5s or 1m30s")
            return None
        parts = _DURATION_PART.findall(value)
        return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))

    def duration(self, name: str) -> float | None:
        """Return a duration that Istio's validation takes, in seconds."""
        seconds = self.seconds(name)
        if seconds is not None and seconds < _LEAST_DURATION:
            self.refuse(name, "must be at least 1ms")
        return seconds

    def pairs(self, name: str) -> Pairs:
        """Return an object with string values, such as labels."""
        mapping = self._take(name, {}, dict, "an object")
        for key, value in mapping.items():
            if not isinstance(value, str):
                self.refuse(f"{name}.{key}", f"must be a string, not {value!r}")
        return pairs({str(key): str(value) for key, value in mapping.items()})

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings."""
        return tuple(str(item) for item in self._take(name, [], list, "a list"))

    def object(self, name: str) -> Fields:
        """Return the fields of an object; no fields if the object is absent."""
        value = self._take(name, {}, dict, "an object")
        return self._inside(value, self._path_of(name))

    def objects(self, name: str) -> Iterator[Fields]:
        """Yield the fields of each object in a list."""
        for index, value in enumerate(self._take(name, [], list, "a list")):
            yield self._inside(value, f"{self._path_of(name)}[{index}]")

    def each(self, name: str, read: Callable[[Fields], T]) -> tuple[T, ...]:
        """Apply `read` to each object in a list."""
        return tuple(read(fields) for fields in self.objects(name))

    def optional(self, name: str, read: Callable[[Fields], T]) -> T | None:
        """Apply `read` to an object; None if the object is absent."""
        if name in self:
            return read(self.object(name))
        self.ignore(name)
        return None

    def named(self, name: str, read: Callable[[Fields], T]) -> tuple[tuple[str, T], ...]:
        """Apply `read` to each value of an object; return pairs of key and result."""
        with self.object(name) as fields:
            return tuple((key, read(fields.object(key))) for key in list(fields._unread))

    def _inside(self, value: Any, path: str) -> Fields:
        return Fields(self._document, self._problems, self._notes, value, path)

    def _path_of(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _take(self, name: str, default: Any, types: type | tuple[type, ...], expected: str) -> Any:
        self._unread.pop(name, None)
        value = self._fields.get(name)
        if value is None:
            return default
        # In Python a bool is an int too.
        if not isinstance(value, types) or (types is not bool and isinstance(value, bool)):
            self.refuse(name, f"must be {expected}, not {value!r}")
            return default
        return value
