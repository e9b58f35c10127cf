"""`python -m tests.proof soak|chaos [--short] [--seed N] [ROW...]`: prove it, print a table."""

from __future__ import annotations

import argparse
import secrets
import sys
import time

from tests.proof.finding import Extent, Finding
from tests.proof.rows import ROWS

_WIDTHS = (58, 36, 52, 34)


def main() -> int:
    """Print a line for each finding.

    Returns:
        The exit code: 0 if all holds, 1 if not, 2 for bad arguments.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.proof")
    parser.add_argument("proof", choices=ROWS)
    parser.add_argument("--short", action="store_true", help="counts in seconds, no timings")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("rows", nargs="*", metavar="ROW", help="only these")
    arguments = parser.parse_intermixed_args()
    rows = ROWS[arguments.proof]
    for name in arguments.rows:
        if name not in rows:
            parser.error(f"{name!r}: must be one of {', '.join(rows)}")
    extent = Extent(arguments.short, arguments.seed)
    begin = time.monotonic()
    sys.stdout.write(f"{arguments.proof}, {'short, ' * extent.short}seed {extent.seed}\n")
    _print("what", "how much", "seen", "limit", "verdict")
    holds = True
    for name in arguments.rows or rows:
        for finding in rows[name](extent):
            _print_finding(finding)
            holds = holds and finding.holds is not False
    seconds = time.monotonic() - begin
    verdict = "all holds" if holds else "not all holds"
    sys.stdout.write(f"{verdict}, after {seconds:.0f} s\n")
    return 0 if holds else 1


def _print_finding(finding: Finding) -> None:
    verdict = {True: "holds", False: "FAILS", None: "cannot be told here"}[finding.holds]
    _print(finding.what, finding.amount, finding.seen, finding.limit, verdict)


def _print(*cells: str) -> None:
    *columns, verdict = cells
    padded = [cell.ljust(width) for cell, width in zip(columns, _WIDTHS, strict=True)]
    sys.stdout.write("  ".join((*padded, verdict)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
