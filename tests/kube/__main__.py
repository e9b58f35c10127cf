"""`python -m tests.kube api [FOLDER...]` or `... node`: prove it, print a table."""

from __future__ import annotations

import argparse
import signal
import sys
import time

from tests.kube.api import run as api
from tests.kube.needs import PACKAGES, missing
from tests.kube.node import cluster, machine
from tests.kube.node import run as node
from tests.kube.processes import BrokenError
from tests.manifests.folders import FOLDERS
from tests.manifests.kustomize import KUSTOMIZATIONS


def main() -> int:
    """Print the table.

    Returns:
        The exit code: 0 if all holds, 1 if not, 2 if something is missing or does not start.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.kube")
    parser.add_argument("proof", choices=["api", "node"])
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="of api: only these")
    arguments = parser.parse_args()
    known = sorted({*FOLDERS, *KUSTOMIZATIONS})
    for folder in arguments.folders:
        if folder not in known:
            parser.error(f"{folder!r}: must be one of {', '.join(known)}")
    is_api = arguments.proof == "api"
    lines = (
        missing(PACKAGES, api.PROGRAMS)
        if is_api
        else [*missing(PACKAGES | machine.PACKAGES, cluster.PROGRAMS), *machine.missing()]
    )
    if lines:
        sys.stderr.write("".join(f"missing: {line}\n" for line in lines))
        return 2
    # A signal ends the blocks that end the processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    try:
        code = api.run(arguments.folders) if is_api else node.run()
    except BrokenError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    verdict = {0: "all holds", 1: "not all holds"}.get(code, "not all was done")
    sys.stdout.write(f"{verdict}, after {time.monotonic() - began:.0f} s\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
