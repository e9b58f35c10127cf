"""`mockservice lanes`: its arguments."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_DESCRIPTION = """\
Runs manifests on this machine: every Deployment's replicas as processes, and one Envoy that is the
ingress gateway and every pod's sidecar. Ends on Ctrl-C, when all of it has drained.
"""


def main(argv: Sequence[str]) -> int:
    """Run local lanes until a signal ends them.

    Raises:
        SystemExit: help is asked for, or an argument is not allowed.

    Returns:
        The exit code: 0 after a drain, 1 when something that ran has failed, 2 for bad input.
    """
    parser = argparse.ArgumentParser(
        prog="mockservice lanes",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", type=Path, help="manifests, or a folder"
    )
    parser.add_argument("--watch", action="store_true", help="move along when manifests are edited")
    parser.add_argument("--json", action="store_true", help="a JSON object for each state, by line")
    parser.add_argument("--quiet", action="store_true", help="without the logs of the processes")
    parser.add_argument(
        "--port", type=_port, help="of the gateway (8080, or any where that is taken)"
    )
    parser.add_argument(
        "--ui", action="store_true", help="serve the page of `mockservice ui` beside it"
    )
    options = parser.parse_args(argv)
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
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number from 1 to 65535")
    return int(text)
