"""The command line of `mockservice ui`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

from mockservice.mesh.errors import RefusedError
from mockservice.probe import arguments
from mockservice.ui import run
from mockservice.ui.server import PORT
from mockservice.ui.view import View, host, rate, trace_url

if TYPE_CHECKING:
    from collections.abc import Sequence

_DESCRIPTION: Final = """\
Serves a page that sends requests to URL and shows how they run through the lanes: which pods
answer, how the lanes split, where a request falls back to the baseline, leaks or fails, and which
headers each hop received. Sends requests only while the page is open.
"""


def main(argv: Sequence[str]) -> int:
    """Serve the page until SIGINT or SIGTERM.

    Raises:
        SystemExit: for `--help` or a bad argument.

    Returns:
        The exit code: 0 after a signal, 2 for bad input.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        judge = arguments.judge(parser, options)
    except RefusedError as error:
        for problem in error.problems:
            sys.stderr.write(f"mockservice ui: {problem}\n")
        return 2
    view = View(
        options.url,
        options.rate,
        tuple(options.header),
        options.timeout,
        judge,
        options.expect,
        options.trace_url,
    )
    return run.run(view, options.host, options.port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mockservice ui",
        usage="%(prog)s URL [options]",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "url",
        metavar="URL",
        type=arguments.url,
        help="URL at the gateway that answers with a chain",
    )
    add("--rate", metavar="N", type=rate, default=5.0, help="requests per second (5)")
    arguments.add_lanes(parser)
    add(
        "--trace-url",
        metavar="URL",
        type=trace_url,
        help="link to a trace, such as http://localhost:16686/trace/{id}",
    )
    add(
        "--host",
        metavar="NAME",
        type=host,
        default="127.0.0.1",
        help="address or name to listen on; the page also accepts it as Host (127.0.0.1)",
    )
    add(
        "--port",
        metavar="PORT",
        type=arguments.whole(65535),
        help=f"port of the page ({PORT}, or a free one if in use)",
    )
    return parser
