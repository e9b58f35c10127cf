"""Reading a manifest field by field, so that what nobody reads is refused by name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from mockservice.mesh.model import Pairs, pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from mockservice.manifests.documents import Document, Source

T = TypeVar("T")

_NOT_SUPPORTED: Final = "not supported by local lanes"

# Go's time.ParseDuration, which Kubernetes' and Istio's durations are written for.
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|m|s))+")
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class Fields:
    """The fields of one object of a manifest.

    Every getter takes its field off the list; on leaving the `with` block, fields that nobody
    asked for become problems, as do values of another type than the one asked for. Reading goes
    on after a problem, so that all of them are told at once.
    """

    def __init__(self, document: Document, problems: list[str], body: Any, path: str = "") -> None:
        self._document = document
        self._problems = problems
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
    def source(self) -> Source:
        """Where this object stands."""
        return self._document.source(self._path)

    @property
    def document(self) -> Source:
        """Where the whole document stands."""
        return self._document.source()

    def refuse(self, name: str, reason: str = _NOT_SUPPORTED) -> None:
        """Note a problem with one field."""
        self._problems.append(f"{self._document.where(self._path_of(name))}: {reason}")

    def ignore(self, *names: str) -> None:
        """Accept fields that change nothing on one machine."""
        for name in names:
            self._unread.pop(name, None)

    def text(self, name: str, default: str = "", allowed: tuple[str, ...] = ()) -> str:
        """A text; one of `allowed` where that is given."""
        value: str = self._take(name, default, str, "text")
        if value and allowed and value not in allowed:
            self.refuse(name, f"{value!r} is {_NOT_SUPPORTED}, which know {', '.join(allowed)}")
        return value

    def header(self, name: str) -> str:
        """The name of a header, in lower case (RFC 9110 section 5.6.2)."""
        value = self.text(name)
        if value and not _HEADER_NAME.fullmatch(value):
            self.refuse(name, f"{value!r} is no name of a header")
            return ""
        return value.lower()

    def number(self, name: str, default: Any = None) -> Any:
        """A whole number, or the default."""
        return self._take(name, default, int, "a whole number")

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self._take(name, default, bool, "true or false")
        return bool(value)

    def scalar(self, name: str) -> str | int | None:
        """A name or a number, such as a port."""
        value: str | int | None = self._take(name, None, (str, int), "a name or a number")
        return value

    def percent(self, name: str, default: float) -> float:
        """Istio's `Percent`: an object with a `value` from 0 to 100."""
        if name not in self:
            self.ignore(name)
            return default
        with self.object(name) as fields:
            value = fields._take("value", 0, (int, float), "a number")
            return float(value)

    def seconds(self, name: str) -> float | None:
        """A duration such as `1.5s` or `1h30m`, in seconds."""
        value = self._take(name, None, str, "a duration")
        if value is None:
            return None
        if not _DURATION.fullmatch(value):
            self.refuse(name, f"{value!r} is no duration, such as 500ms, 5s or 1m30s")
            return None
        parts = _DURATION_PART.findall(value)
        return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))

    def pairs(self, name: str) -> Pairs:
        """Names and texts, such as labels."""
        mapping = self._take(name, {}, dict, "names and texts")
        for key, value in mapping.items():
            if not isinstance(value, str):
                self.refuse(f"{name}.{key}", f"must be text, not {value!r}")
        return pairs({str(key): str(value) for key, value in mapping.items()})

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(str(item) for item in self._take(name, [], list, "a list"))

    def object(self, name: str) -> Fields:
        """The fields of an object; of none where there is no such field."""
        value = self._take(name, {}, dict, "an object")
        return Fields(self._document, self._problems, value, self._path_of(name))

    def objects(self, name: str) -> Iterator[Fields]:
        """The fields of each object in a list."""
        for index, value in enumerate(self._take(name, [], list, "a list")):
            path = f"{self._path_of(name)}[{index}]"
            yield Fields(self._document, self._problems, value, path)

    def each(self, name: str, read: Callable[[Fields], T]) -> tuple[T, ...]:
        """Each object in a list, as `read` reads it."""
        return tuple(read(fields) for fields in self.objects(name))

    def optional(self, name: str, read: Callable[[Fields], T]) -> T | None:
        """An object as `read` reads it, or None where there is no such field."""
        if name in self:
            return read(self.object(name))
        self.ignore(name)
        return None

    def named(self, name: str, read: Callable[[Fields], T]) -> tuple[tuple[str, T], ...]:
        """The objects of an object, each under its own name."""
        with self.object(name) as fields:
            return tuple((key, read(fields.object(key))) for key in list(fields._unread))

    def _path_of(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _take(self, name: str, default: Any, types: type | tuple[type, ...], expected: str) -> Any:
        self._unread.pop(name, None)
        value = self._fields.get(name)
        if value is None:
            return default
        # To Python a truth value is a number as well.
        if not isinstance(value, types) or (types is not bool and isinstance(value, bool)):
            self.refuse(name, f"must be {expected}, not {value!r}")
            return default
        return value
