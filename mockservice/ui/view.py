"""The view of a page, and the controls that a page may set."""

from __future__ import annotations

import json
import math
import re
from argparse import ArgumentTypeError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mockservice.probe import arguments
from mockservice.probe.judge import ByVersion
from mockservice.probe.load import Load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mockservice.probe.judge import Judge

MIN_RATE: Final = 0.1
MAX_RATE: Final = 100.0
"""Requests per second."""
MAX_HEADERS: Final = 16
"""Headers that a page may set."""
MAX_NOTES: Final = 100
"""Notes on the manifests that a page shows."""

_ALLOWED_RATE: Final = f"requests per second, from {MIN_RATE:g} to {MAX_RATE:g}"

HeaderFields = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class View:
    """What a page shows: the URL to call and what is known about its lanes.

    Only the command line sets the URL; a page cannot change it.
    """

    url: str
    rate: float = 5.0
    """Requests per second, until the page sets another rate."""
    headers: HeaderFields = ()
    """Header fields to send, with lower-case names, until the page sets others.

    The page cannot change `host`, which belongs to the URL.
    """
    timeout: float = 10.0
    """Timeout of one request, in seconds."""
    judge: Judge = field(default_factory=ByVersion)
    """Tells the lane of a request and the hops that are not what it is owed."""
    expected: Mapping[str, float] | None = None
    """The expected weight of each lane, relative to the others; None to ask the judge."""
    trace_url: str | None = None
    """The URL of a trace, with `{id}` for the trace id."""

    def weights(self, controls: Controls) -> Mapping[str, float] | None:
        """The weights of the lanes that requests with these controls enter."""
        return self.judge.weights(self.load(controls)) if self.expected is None else self.expected

    @property
    def notes(self) -> list[dict[str, Any]]:
        """What is to be told of the manifests: first the notes that make lanes fail."""
        told = (note for note in self.judge.notes or () if not note.informs)
        notes = sorted(told, key=lambda note: not note.fails)
        return [{"text": str(note), "fails": note.fails} for note in notes[:MAX_NOTES]]

    def load(self, controls: Controls) -> Load:
        """Return the load for a page's controls."""
        host = tuple(field for field in self.headers if field[0] == "host")
        return Load(
            self.url,
            concurrency=arguments.MAX_CONCURRENCY,
            rate=controls.rate,
            headers=(*host, *controls.headers),
            timeout=self.timeout,
        )

    def to_json(self, controls: Controls | None = None) -> str:
        """Return the message that tells a page about this view.

        Args:
            controls: of the page; None if it has not set any yet.
        """
        own = tuple(field for field in self.headers if field[0] != "host")
        controls = controls or Controls(headers=own)
        return json.dumps(
            {
                "type": "view",
                "url": self.url,
                "rate": self.rate,
                "minRate": MIN_RATE,
                "maxRate": MAX_RATE,
                "headers": [f"{name}: {value}" for name, value in own],
                "baseline": self.judge.baseline,
                "weights": self.weights(controls),
                # What a chain of several versions is where nobody can tell.
                "untold": self.judge.untold,
                "notes": self.notes,
                "traceUrl": self.trace_url,
            }
        )


@dataclass(frozen=True, slots=True)
class Controls:
    """The controls of a page."""

    rate: float = 0.0
    """Requests per second; 0 while the page is paused."""
    headers: HeaderFields = ()

    @classmethod
    def from_json(cls, text: str) -> Controls:
        """Read `{"rate": 5, "paused": false, "headers": ["x-lane: v2"]}`.

        Raises:
            ValueError: a value is not allowed. The text is one line for the user.
        """
        try:
            controls: dict[str, Any] = json.loads(text)
            rate, paused, lines = controls["rate"], controls["paused"], controls["headers"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ValueError("controls: must be an object with rate, paused and headers") from None
        if type(rate) not in (int, float) or not MIN_RATE <= rate <= MAX_RATE:
            raise ValueError(f"rate: {rate!r}: must be {_ALLOWED_RATE}")
        if not isinstance(lines, list) or len(lines) > MAX_HEADERS:
            raise ValueError(f"headers: must be a list of at most {MAX_HEADERS}")
        return cls(0.0 if paused else float(rate), tuple(map(_header, lines)))


def rate(text: str) -> float:
    """Parse the argument `--rate`."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not MIN_RATE <= number <= MAX_RATE:
        raise arguments.refused(text, _ALLOWED_RATE)
    return number


def host(text: str) -> str:
    """Parse the argument `--host`; the server finds out whether it can listen there."""
    if re.fullmatch(r"[0-9A-Za-z._:-]*[A-Za-z:.][0-9A-Za-z._:-]*", text) is None:
        raise arguments.refused(text, "an address or a name of this machine")
    return text


def trace_url(text: str) -> str:
    """Parse the argument `--trace-url`."""
    if "{id}" not in text:
        raise arguments.refused(text, "a URL with {id} in place of the trace id")
    return arguments.url(text)


def _header(line: object) -> tuple[str, str]:
    try:
        field = arguments.header(str(line))
    except ArgumentTypeError as error:
        raise ValueError(f"header: {error}") from None
    if field[0] == "host":
        # It belongs to the URL, which only the command line sets.
        raise ValueError(f"header: {line!r}: must be given on the command line")
    return field
