"""`mockservice probe`: its arguments."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

from mockservice.probe import arguments
from mockservice.probe.load import MAX_CONCURRENCY, Load

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def main(argv: Sequence[str]) -> int:
    """Probe the lanes behind a URL.

    Raises:
        SystemExit: help is asked for, or an argument is not allowed.

    Returns:
        The exit code: 0 if all that was asked holds, 1 if not, 2 for bad input.
    """
    options = _parser().parse_args(argv)
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
    add("url", metavar="URL", type=arguments.url, help="what the gateway answers with a chain")
    add("-n", metavar="N", type=arguments.whole(MAX_REQUESTS), default=100, help="requests (100)")
    add(
        "--concurrency",
        metavar="N",
        type=arguments.whole(MAX_CONCURRENCY),
        default=4,
        help="requests under way at once (4)",
    )
    arguments.add_lanes(parser)
    add("--json", action="store_true", help="everything as one JSON document")
    return parser
