"""`python -m tests.kube.node PLACE`: the part of `make cluster-test` that runs in namespaces."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.kube.node import cluster, machine
from tests.kube.node.rows import Rows
from tests.kube.processes import BrokenError, Processes
from tests.kube.table import Table


def main(place: Path) -> int:
    """Start the cluster, print a line for each row.

    Returns:
        The exit code: 0 if all holds, 1 if not, 2 if the cluster does not start.
    """
    began = time.monotonic()
    with Processes(place) as processes:
        try:
            machine.prepare(place)
            rows = Rows(cluster.start(processes, place))
            sys.stdout.write(f"a node of its own, ready after {time.monotonic() - began:.0f} s\n")
            table = Table(what=46, seen=100)
            for do in rows.all:
                for row in do():
                    table.row(row.what, row.seen, problems=row.problems)
        except BrokenError as error:
            sys.stderr.write(f"error: {error}\n")
            return 2
    return 1 if table.failures else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
