"""`mockservice probe`: its arguments."""

from __future__ import annotations

import argparse
import math
import sys
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mockservice.probe.load import MAX_CONCURRENCY, Load
from mockservice.propagation import HEADER_NAME, NEVER_CARRIED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_DESCRIPTION: Final = """\
Sends requests to URL, counts the chains that answer, and tells whether the lanes behind it hold:

  isolation    every chain keeps to one version, or to one and the --baseline
  propagation  each hop passes on the lane and trace headers that it received
  split        lanes come up as --expect says, as far as chance lets them
  health       every request is answered, by every hop

Each request carries a traceparent of its own. Ends with 0 if nothing fails, 1 if something does.
What cannot be told, as from hops that answer in text only, does not fail.
"""

MAX_REQUESTS: Final = 1_000_000
MAX_TIMEOUT: Final = 3600.0

_ALLOWED_URL: Final = "an http or https URL with a host, without user name and fragment"
# What HTTP and the probe themselves say; `Host` is what gateways pick routes by.
_NOT_SENT: Final = NEVER_CARRIED - {b"host"}


def main(argv: Sequence[str]) -> int:
    """Probe the lanes behind a URL.

    Returns:
        The exit code: 0 if all that was asked holds, 1 if not, 2 for bad input.
    """
    try:
        options = _parser().parse_args(argv)
    except SystemExit as end:
        return int(end.code or 0)
    try:
        from mockservice.probe import run
    except ModuleNotFoundError as error:
        needed = "needs the extra 'lanes': pip install 'mockservice[lanes]'"
        sys.stderr.write(f"mockservice probe: {needed} ({error})\n")
        return 2
    load = Load(
        options.url,
        requests=options.n,
        concurrency=options.concurrency,
        headers=tuple(options.header),
        timeout=options.timeout,
    )
    return run.run(load, options.baseline, options.expect, options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mockservice probe",
        usage="%(prog)s URL [options]",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("url", metavar="URL", type=_url, help="what the gateway answers with a chain")
    add("-n", metavar="N", type=_whole(MAX_REQUESTS), default=100, help="requests (100)")
    add(
        "--concurrency",
        metavar="N",
        type=_whole(MAX_CONCURRENCY),
        default=4,
        help="requests under way at once (4)",
    )
    add(
        "--header",
        metavar="'K: V'",
        type=_header,
        action="append",
        default=[],
        help="send this header too; {id} in its value is the request's own trace id",
    )
    add(
        "--baseline",
        metavar="LANE",
        help="lanes are permissive: what they do not hold, this one serves",
    )
    add(
        "--expect",
        metavar="LANE=WEIGHT,...",
        type=_weights,
        help="how often lanes come up, relative to each other",
    )
    add(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=10.0,
        help="for one answer (10: hops give up sooner and name the one that fails)",
    )
    add("--json", action="store_true", help="everything as one JSON document")
    return parser


def _refused(value: str, allowed: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{value!r}: must be {allowed}")


def _url(text: str) -> str:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise _refused(text, _ALLOWED_URL) from None
    fits = text.isprintable() and " " not in text and "#" not in text and "@" not in url.netloc
    if url.scheme not in ("http", "https") or not url.hostname or not fits:
        raise _refused(text, _ALLOWED_URL)
    if port == 0:
        raise _refused(text, "a URL with a port from 1 to 65535")
    return text


def _whole(most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:8]) <= most):
            raise _refused(text, f"a number from 1 to {most}")
        return int(text)

    return number


def _seconds(text: str) -> float:
    seconds = _number(text)
    if not 0 < seconds <= MAX_TIMEOUT:
        raise _refused(text, f"seconds, more than 0 and at most {MAX_TIMEOUT:g}")
    return seconds


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    value = value.strip(" \t")
    if not (colon and HEADER_NAME.fullmatch(name)):
        raise _refused(text, "a header name, a colon and a value")
    if not value.replace("\t", " ").isprintable():
        raise _refused(text, "without control characters")
    if name.lower().encode() in _NOT_SENT:
        raise _refused(text, "no header that HTTP or the probe sets itself")
    return name.lower(), value


def _weights(text: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in text.split(","):
        lane, _, number = part.rpartition("=")
        weight = _number(number)
        if not lane.strip() or not 0 <= weight < math.inf or lane.strip() in weights:
            raise _refused(text, "lanes, each once, with weights of 0 or more: v1=60,v2=40")
        weights[lane.strip()] = weight
    if not 0 < sum(weights.values()) < math.inf:
        raise _refused(text, "lanes of which one at least has a weight of more than 0")
    return weights


def _number(text: str) -> float:
    """The number that `text` is; what is none is no number that compares (NaN)."""
    try:
        return float(text)
    except ValueError:
        return math.nan
