"""`make cluster-test`: a cluster of one node, and what comes of all that is done to its pods."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.kube.node import images, machine


def run() -> int:
    """Print a table.

    Returns:
        The exit code: 0 if all holds, 1 if not, 2 if the cluster does not start.
    """
    with tempfile.TemporaryDirectory() as place:
        images.save(Path(place))
        return machine.run_inside(Path(place))
