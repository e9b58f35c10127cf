"""`mockservice ui`: its arguments."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from mockservice.probe import arguments
from mockservice.ui import run
from mockservice.ui.server import PORT
from mockservice.ui.view import View, host, rate, trace_url

if TYPE_CHECKING:
    from collections.abc import Sequence

_DESCRIPTION: Final = """\
Serves a page on this machine that sends requests to URL and shows them run through the lanes: which
pods answer, how the lanes split, where a request falls back, leaks or fails, and what each hop of
it received. Requests are sent while the page is open.
"""


def main(argv: Sequence[str]) -> int:
    """Serve the page until a signal ends it.

    Raises:
        SystemExit: help is asked for, or an argument is not allowed.

    Returns:
        The exit code: 0 after the signal, 2 for bad input.
    """
    options = _parser().parse_args(argv)
    view = View(
        options.url,
        options.rate,
        tuple(options.header),
        options.timeout,
        options.baseline,
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
    add("url", metavar="URL", type=arguments.url, help="what the gateway answers with a chain")
    add("--rate", metavar="N", type=rate, default=5.0, help="requests per second (5)")
    arguments.add_lanes(parser)
    add(
        "--trace-url",
        metavar="URL",
        type=trace_url,
        help="where a trace is shown: http://localhost:16686/trace/{id}",
    )
    add(
        "--host",
        metavar="NAME",
        type=host,
        default="127.0.0.1",
        help="listen here and answer to this name too (127.0.0.1, and the names of loopback)",
    )
    add(
        "--port",
        metavar="PORT",
        type=arguments.whole(65535),
        help=f"of the page ({PORT}, or any where that is taken)",
    )
    return parser
