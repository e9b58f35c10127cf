"""What arguments may be, for the verbs that send a load: each function reads one, or raises."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mockservice.mesh.overrides import add_overrides, overrides_of
from mockservice.probe.judge import ByMap, ByVersion
from mockservice.propagation import HEADER_NAME, NEVER_CARRIED

if TYPE_CHECKING:
    from collections.abc import Callable

    from mockservice.probe.judge import Judge

MAX_CONCURRENCY: Final = 256
"""Requests under way at once."""
MAX_TIMEOUT: Final = 3600.0
"""Seconds."""

_ALLOWED_URL: Final = "an http or https URL with a host, without user name and fragment"
# What HTTP and the probe themselves say; `Host` is what gateways pick routes by.
_NOT_SENT: Final = NEVER_CARRIED - {b"host"}


def add_lanes(parser: argparse.ArgumentParser) -> None:
    """Add what every load at lanes can be told."""
    add = parser.add_argument
    add(
        "--header",
        metavar="'K: V'",
        type=header,
        action="append",
        default=[],
        help="send this header too; {id} in its value is the request's own trace id",
    )
    add(
        "--manifests",
        metavar="PATH",
        nargs="+",
        type=Path,
        default=[],
        help="judge by what these files, or folders of them, owe each lane; - is standard input",
    )
    add_overrides(parser)
    add(
        "--baseline",
        metavar="VERSION",
        help="without manifests: lanes are permissive, and this version serves what they lack",
    )
    add(
        "--strict",
        action="store_true",
        help="without manifests: lanes are strict, so no chain mixes versions",
    )
    add(
        "--expect",
        metavar="LANE=WEIGHT,...",
        type=weights,
        help="how often lanes come up, relative to each other (the manifests' weights)",
    )
    add(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=10.0,
        help="for one answer (10: hops give up sooner and name the one that fails)",
    )


def judge(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Judge:
    """The judge that the arguments of `add_lanes` ask for.

    Raises:
        SystemExit: arguments contradict each other.
        RefusedError: something in the manifests is wrong or not supported.
    """
    if options.manifests and (options.baseline or options.strict):
        parser.error("--manifests: must be without --baseline and --strict, as it tells both")
    if options.baseline and options.strict:
        parser.error("--strict: must be without --baseline, as strict lanes have none")
    if options.manifests:
        # Reading manifests takes imports that nobody else waits for.
        from mockservice.mesh.load import load
        from mockservice.mesh.survey import read_lane_map

        mesh = load(options.manifests, recursive=options.recursive, overrides=overrides_of(options))
        return ByMap(read_lane_map(mesh))
    if options.recursive or options.calls:
        option = "--recursive" if options.recursive else "--calls"
        parser.error(f"{option}: must be with --manifests")
    return ByVersion(options.baseline, is_strict=options.strict)


def refused(value: str, allowed: str) -> argparse.ArgumentTypeError:
    """What says that an argument has a value that is not allowed."""
    return argparse.ArgumentTypeError(f"{value!r}: must be {allowed}")


def url(text: str) -> str:
    """A URL that can be called."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise refused(text, _ALLOWED_URL) from None
    fits = text.isprintable() and " " not in text and "#" not in text and "@" not in parts.netloc
    if parts.scheme not in ("http", "https") or not parts.hostname or not fits:
        raise refused(text, _ALLOWED_URL)
    if port == 0:
        raise refused(text, "a URL with a port from 1 to 65535")
    return text


def whole(most: int) -> Callable[[str], int]:
    """What reads a whole number from 1 to `most`."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:8]) <= most):
            raise refused(text, f"a number from 1 to {most}")
        return int(text)

    return number


def seconds(text: str) -> float:
    """A time in seconds."""
    time = _number(text)
    if not 0 < time <= MAX_TIMEOUT:
        raise refused(text, f"seconds, more than 0 and at most {MAX_TIMEOUT:g}")
    return time


def header(text: str) -> tuple[str, str]:
    """A header to send: its name in lower case, and its value."""
    name, colon, value = text.partition(":")
    value = value.strip(" \t")
    if not (colon and HEADER_NAME.fullmatch(name)):
        raise refused(text, "a header name, a colon and a value")
    if not value.replace("\t", " ").isprintable():
        raise refused(text, "without control characters")
    if name.lower().encode() in _NOT_SENT:
        raise refused(text, "no header that HTTP or the probe sets itself")
    return name.lower(), value


def weights(text: str) -> dict[str, float]:
    """The weights of lanes, relative to each other."""
    by_lane: dict[str, float] = {}
    for part in text.split(","):
        lane, _, number = part.rpartition("=")
        weight = _number(number)
        if not lane.strip() or not 0 <= weight < math.inf or lane.strip() in by_lane:
            raise refused(text, "lanes, each once, with weights of 0 or more: v1=60,v2=40")
        by_lane[lane.strip()] = weight
    if not 0 < sum(by_lane.values()) < math.inf:
        raise refused(text, "lanes of which one at least has a weight of more than 0")
    return by_lane


def _number(text: str) -> float:
    """The number that `text` is; what is none is no number that compares (NaN)."""
    try:
        return float(text)
    except ValueError:
        return math.nan
