"""`make kube-test`: every folder of `k8s/` on a real API server, then broken ones."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.kube import control_plane, crds
from tests.kube.api.broken import BREAKAGES
from tests.kube.api.folders import APPLIED, apply
from tests.kube.processes import Processes
from tests.kube.table import Table
from tests.manifests.folders import K8S
from tests.running import new_address

if TYPE_CHECKING:
    from tests.kube.kubectl import Kubectl

PROGRAMS: Final = ("kube-apiserver", "kubectl")
"""What make has to build."""

_TOLD: Final = 110
"""Characters that are shown of what is told."""

_NAMESPACES: Final = ("istio-system", "argocd", "monitoring")


def run(folders: list[str]) -> int:
    """Print a table.

    Args:
        folders: only these; all, and the broken ones, if there are none.

    Returns:
        The exit code: 0 if all holds, 1 if not.
    """
    with tempfile.TemporaryDirectory() as place, Processes(Path(place)) as processes:
        kubectl = control_plane.start(
            # There is no controller that would make the account of each namespace.
            *(processes, Path(place), new_address(), "--disable-admission-plugins=ServiceAccount"),
        )
        control_plane.make_namespaces(processes, kubectl, *_NAMESPACES)
        crds.create(kubectl)
        version = json.loads(kubectl.must("get", "--raw", "/version"))["gitVersion"]
        sys.stdout.write(f"Kubernetes {version}\n")
        tables = [_apply_folders(kubectl, folders)]
        if not folders:
            tables.append(_try_broken(kubectl, Path(place)))
    return 1 if any(table.failures for table in tables) else 0


def _apply_folders(kubectl: Kubectl, folders: list[str]) -> Table:
    table = Table(folder=28, way=3, objects=7, pods=4)
    for folder, way in APPLIED:
        if not folders or folder in folders:
            seen = apply(kubectl, K8S, folder, way)
            table.row(folder, way, seen.objects, seen.pods, problems=seen.problems)
    return table


def _try_broken(kubectl: Kubectl, place: Path) -> Table:
    table = Table(broken=50, told=_TOLD)
    for number, breakage in enumerate(BREAKAGES):
        problems = breakage.try_it(kubectl, place / f"broken-{number}")
        told = [one[one.index(breakage.told) :] for one in problems if breakage.told in one]
        if told:
            table.row(breakage.what, told[0][:_TOLD], problems=[])
        else:
            table.row(breakage.what, "nothing of it", problems=problems or ["all was taken"])
    return table
