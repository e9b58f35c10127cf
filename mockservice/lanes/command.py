"""The command line of `mockservice lanes`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mockservice.mesh.overrides import add_overrides, add_replace, overrides_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_DESCRIPTION = """\
Runs lane manifests on this machine. Each replica of a Deployment is a process; one Envoy is the
ingress gateway and the sidecar of every pod. In place of images that are not mockservice's, mocks
run. Ctrl-C drains and stops everything; a second Ctrl-C stops at once.
"""


def main(argv: Sequence[str]) -> int:
    """Run local lanes until SIGINT or SIGTERM.

    Raises:
        SystemExit: for `--help` or a bad argument.

    Returns:
        The exit code: 0 after a signal, 1 after a failure, 2 for bad input.
    """
    parser = argparse.ArgumentParser(
        prog="mockservice lanes",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        type=Path,
        help="manifest file, folder of manifests, or - for standard input",
    )
    add_overrides(parser)
    add_replace(parser)
    parser.add_argument("--watch", action="store_true", help="apply edits of the manifests")
    parser.add_argument("--json", action="store_true", help="print each event as one line of JSON")
    parser.add_argument(
        "--quiet", action="store_true", help="do not print the logs of the processes"
    )
    parser.add_argument(
        "--port", type=_port, help="port of the gateway (8080, or a free one if in use)"
    )
    parser.add_argument(
        "--ui", action="store_true", help="serve the page of `mockservice ui` as well"
    )
    parser.add_argument(
        "--strict", action="store_true", help="refuse what local lanes leave out, instead of a note"
    )
    options = parser.parse_args(argv)
    if options.watch and Path("-") in options.paths:
        parser.error("--watch: must be without -, as standard input is read once")
    try:
        from mockservice.lanes import run
    except ModuleNotFoundError as error:
        needed = "needs the extra 'lanes': pip install 'mockservice[lanes]'"
        sys.stderr.write(f"mockservice lanes: {needed} ({error})\n")
        return 2
    return run.run(
        options.paths,
        options.watch,
        options.json,
        options.quiet,
        options.port,
        with_page=options.ui,
        strict=options.strict,
        recursive=options.recursive,
        overrides=overrides_of(options),
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number from 1 to 65535")
    return int(text)
