"""`mockservice probe`: its arguments."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

from mockservice.mesh.errors import RefusedError
from mockservice.probe import arguments

if TYPE_CHECKING:
    from collections.abc import Sequence

_DESCRIPTION: Final = """\
Sends requests to URL, counts the chains that answer, and tells whether the lanes behind it hold:

  isolation    every hop is the version that the lane of the request is owed
  propagation  each hop passes on the lane and trace headers that it received
  split        lanes come up as --expect says, as far as chance lets them
  reach        every lane of the --manifests can be entered
  health       every request is answered, by every hop

The --manifests tell what each lane is owed. Without them calls that look the same must go the same
way; chains of several versions are then a leak with --strict, and with --baseline if that is not
one of them.

Each request carries a traceparent of its own. Ends with 0 if the lanes hold, with 1 if something
fails or isolation cannot be told. Nothing else fails because it cannot be told.
"""

MAX_REQUESTS: Final = 1_000_000


def main(argv: Sequence[str]) -> int:
    """Probe the lanes behind a URL.

    Raises:
        SystemExit: help is asked for, or an argument is not allowed.

    Returns:
        The exit code: 0 if the lanes hold, 1 if not or if that cannot be told, 2 for bad input.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        judge = arguments.judge(parser, options)
    except RefusedError as error:
        for problem in error.problems:
            sys.stderr.write(f"mockservice probe: {problem}\n")
        return 2
    # The HTTP client takes long to import: bad input is told without it.
    from mockservice.probe import run
    from mockservice.probe.load import Load

    load = Load(
        options.url,
        requests=options.n,
        concurrency=options.concurrency,
        headers=tuple(options.header),
        timeout=options.timeout,
    )
    return run.run(load, judge, options.expect, as_json=options.json)


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
        type=arguments.whole(arguments.MAX_CONCURRENCY),
        default=4,
        help="requests under way at once (4)",
    )
    arguments.add_lanes(parser)
    add("--json", action="store_true", help="everything as one JSON document")
    return parser
