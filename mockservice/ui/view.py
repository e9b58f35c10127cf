"""The view: what a page shows, and what a page may ask of it."""

from __future__ import annotations

import json
import math
import re
from argparse import ArgumentTypeError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mockservice.probe import arguments
from mockservice.probe.load import MAX_CONCURRENCY, Load

if TYPE_CHECKING:
    from collections.abc import Mapping

MIN_RATE: Final = 0.1
MAX_RATE: Final = 100.0
"""Requests per second."""
MAX_HEADERS: Final = 16
"""Headers that a page may ask to send."""

_ALLOWED_RATE: Final = f"requests per second, from {MIN_RATE:g} to {MAX_RATE:g}"

HeaderFields = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class View:
    """What to call, and what is known of it. The URL is nobody's but the command line's."""

    url: str
    rate: float = 5.0
    """Requests per second, until a page asks for another."""
    headers: HeaderFields = ()
    """Header fields to send, by lower-case name, until a page asks for others; but for `host`,
    which belongs to the URL."""
    timeout: float = 10.0
    """Seconds for one answer."""
    baseline: str | None = None
    """The lane that serves what permissive lanes do not hold. None: lanes are strict."""
    weights: Mapping[str, float] | None = None
    """How often lanes are expected, relative to each other."""
    trace_url: str | None = None
    """Where a trace is shown, with `{id}` for its id."""

    def load(self, controls: Controls) -> Load:
        """What a page has asked for."""
        host = tuple(field for field in self.headers if field[0] == "host")
        return Load(
            self.url,
            concurrency=MAX_CONCURRENCY,
            rate=controls.rate,
            headers=(*host, *controls.headers),
            timeout=self.timeout,
        )

    def to_json(self) -> str:
        """What a page needs to know of it."""
        return json.dumps(
            {
                "type": "view",
                "url": self.url,
                "rate": self.rate,
                "minRate": MIN_RATE,
                "maxRate": MAX_RATE,
                "headers": [f"{name}: {value}" for name, value in self.headers if name != "host"],
                "baseline": self.baseline,
                "weights": self.weights,
                "traceUrl": self.trace_url,
            }
        )


@dataclass(frozen=True, slots=True)
class Controls:
    """What a page asks for."""

    rate: float = 0.0
    """Requests per second; 0 while paused."""
    headers: HeaderFields = ()

    @classmethod
    def from_json(cls, text: str) -> Controls:
        """Read `{"rate": 5, "paused": false, "headers": ["x-lane: v2"]}`.

        Raises:
            ValueError: something in it is not allowed; its text is one line for the user.
        """
        try:
            asked: dict[str, Any] = json.loads(text)
            rate, paused, lines = asked["rate"], asked["paused"], asked["headers"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ValueError("controls: must be an object of rate, paused and headers") from None
        if type(rate) not in (int, float) or not MIN_RATE <= rate <= MAX_RATE:
            raise ValueError(f"rate: {rate!r}: must be {_ALLOWED_RATE}")
        if not isinstance(lines, list) or len(lines) > MAX_HEADERS:
            raise ValueError(f"headers: must be a list of at most {MAX_HEADERS}")
        return cls(0.0 if paused else float(rate), tuple(map(_header, lines)))


def rate(text: str) -> float:
    """The argument `--rate`."""
    try:
        asked = float(text)
    except ValueError:
        asked = math.nan
    if not MIN_RATE <= asked <= MAX_RATE:
        raise arguments.refused(text, _ALLOWED_RATE)
    return asked


def host(text: str) -> str:
    """The argument `--host`; whether it can be listened at is seen then."""
    if re.fullmatch(r"[0-9A-Za-z._:-]*[A-Za-z:.][0-9A-Za-z._:-]*", text) is None:
        raise arguments.refused(text, "an address or a name of this machine")
    return text


def trace_url(text: str) -> str:
    """The argument `--trace-url`."""
    if "{id}" not in text:
        raise arguments.refused(text, "a URL with {id} in the place of the trace id")
    return arguments.url(text)


def _header(line: object) -> tuple[str, str]:
    try:
        field = arguments.header(str(line))
    except ArgumentTypeError as error:
        raise ValueError(f"header: {error}") from None
    if field[0] == "host":
        # Which host is asked is part of the URL.
        raise ValueError(f"header: {line!r}: must be given on the command line")
    return field
