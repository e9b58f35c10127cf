"""Faults on demand: the types, and their syntax in settings and in the `x-mock-fault` header.

Header: ``x-mock-fault: HOP; delay=SECONDS; abort=STATUS; percent=PERCENT``. At least one of `delay`
and `abort` is required, `percent` is optional. Several faults form a list (RFC 9110 section 5.6.1).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mockservice.propagation import FAULT_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

FAULT_KINDS: Final = ("delay", "abort")
MAX_DELAY: Final = 300.0
"""Cap on one delay, in seconds."""
MAX_FAULTS: Final = 16
"""Cap on the faults in the headers of one request."""
MAX_HEADER: Final = 2048
"""Cap on the `x-mock-fault` headers of one request, in bytes."""

_HEADER: Final = FAULT_HEADER.decode()
_NUMBER: Final = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_DELAY: Final = f"({_NUMBER})(?:-({_NUMBER}))?"
_STATUS: Final = r"[45][0-9]{2}"
_FORM: Final = "must be a hop, then delay=, abort= or both, and percent=, each once, between ';'"


class Delay(NamedTuple):
    """A delay in seconds, drawn evenly from a spread."""

    least: float
    most: float


class Fault(NamedTuple):
    """A delay, an abort, or a delay and then an abort, for `percent` of the requests of a hop."""

    hop: str
    """The `app` of the hop."""
    delay: Delay | None = None
    abort: int | None = None
    """The status to answer with."""
    percent: float = 100.0


# These three raise ValueError; its text says which values are allowed.


def read_delay(text: str) -> Delay:
    """Read seconds, or a spread of seconds."""
    if match := re.fullmatch(_DELAY, text):
        least = float(match[1])
        most = least if match[2] is None else float(match[2])
        if least <= most and 0 < most <= MAX_DELAY:
            return Delay(least, most)
    raise ValueError(
        f"seconds, more than 0 and at most {MAX_DELAY:g}, or a spread of them such as 0.2-0.8"
    )


def read_abort(text: str) -> int:
    """Read the status of an abort."""
    if re.fullmatch(_STATUS, text):
        return int(text)
    raise ValueError("a status from 400 to 599")


def read_percent(text: str) -> float:
    """Read a percentage."""
    if re.fullmatch(_NUMBER, text) and float(text) <= 100:
        return float(text)
    raise ValueError("a number from 0 to 100")


def is_hop_name(app: str) -> bool:
    """Whether the header can name a hop of this `app`."""
    return app == app.strip() and not set(app) & set(",;")


def read_header(values: Iterable[bytes]) -> list[Fault]:
    """Read the values of all `x-mock-fault` headers of a request.

    Raises:
        ValueError: the syntax is wrong, or there are too many faults; its text is one line.
    """
    joined = b",".join(values)
    if len(joined) > MAX_HEADER:
        raise ValueError(f"{_HEADER}: must be at most {MAX_HEADER} bytes")
    elements = [element.strip() for element in joined.decode("utf-8", "replace").split(",")]
    faults = [_read_fault(element) for element in elements if element]
    if len(faults) > MAX_FAULTS:
        raise ValueError(f"{_HEADER}: must be at most {MAX_FAULTS} faults")
    return faults


_READ: Final[Mapping[str, Callable[[str], Any]]] = {
    "delay": read_delay,
    "abort": read_abort,
    "percent": read_percent,
}


def _read_fault(text: str) -> Fault:
    hop, *rest = (part.strip() for part in text.split(";"))
    parameters: dict[str, Any] = {}
    for part in rest:
        name, _, value = part.partition("=")
        if name not in _READ or name in parameters:
            raise ValueError(f"{_HEADER}: {text!r}: {_FORM}")
        try:
            parameters[name] = _READ[name](value)
        except ValueError as error:
            raise ValueError(f"{_HEADER}: {text!r}: {name} must be {error}") from None
    if not hop or not parameters.keys() - {"percent"}:
        raise ValueError(f"{_HEADER}: {text!r}: {_FORM}")
    return Fault(hop, **parameters)
