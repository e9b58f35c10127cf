"""`mockservice verify`: its arguments."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mockservice.mesh.overrides import add_overrides, add_replace, overrides_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_DESCRIPTION: Final = """\
Tests lane rules on this machine: starts the lanes of the manifests behind a real Envoy, enters each
of them, and holds every hop against what its lane is owed. Prints a line for each lane, then what
is wrong, and where. In GitHub Actions problems become annotations of the lines that cause them.

Ends with 0 if the lanes and the cases hold, with 1 if not or if the lanes do not start, and with 2
if the manifests, the cases or an argument are not allowed.
"""


def main(argv: Sequence[str]) -> int:
    """Verify the lanes of manifests.

    Raises:
        SystemExit: for `--help` or a bad argument.

    Returns:
        The exit code: 0 if the lanes hold, 1 if not or if they do not start, 2 for bad input.
    """
    options = _parser().parse_args(argv)
    try:
        from mockservice.verify import run
    except ModuleNotFoundError as error:
        needed = "needs the extra 'lanes': pip install 'mockservice[lanes]'"
        sys.stderr.write(f"mockservice verify: {needed} ({error})\n")
        return 2
    return run.run(
        options.paths,
        cases_file=options.cases,
        save_file=options.save_cases,
        junit_file=options.junit,
        as_json=options.json,
        strict=options.strict,
        recursive=options.recursive,
        overrides=overrides_of(options),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mockservice verify",
        usage="%(prog)s PATH... [options]",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("paths", metavar="PATH", nargs="+", type=Path, help="manifests, a folder, or -")
    add_overrides(parser)
    add_replace(parser)
    add("--cases", metavar="FILE", type=Path, help="hold these cases too: see docs/ci.md")
    add(
        "--save-cases",
        metavar="FILE",
        type=Path,
        help="write what each kind of request got as cases, to a file that is not there yet",
    )
    add("--junit", metavar="FILE", type=Path, help="write the result as JUnit XML too")
    add("--json", action="store_true", help="everything as one JSON document")
    add(
        "--strict", action="store_true", help="refuse what local lanes leave out, instead of a note"
    )
    return parser
