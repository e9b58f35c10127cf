"""Files -> mesh: manifests read, checked and translated."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mockservice.manifests.checks import check
from mockservice.manifests.documents import ManifestError, read
from mockservice.manifests.inventory import kind_of
from mockservice.manifests.kinds import WORKLOADS
from mockservice.manifests.kustomization import look_at
from mockservice.mesh.elsewhere import without_outside
from mockservice.mesh.errors import RefusedError
from mockservice.mesh.translate import translate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mockservice.mesh.model import Mesh
    from mockservice.mesh.overrides import Overrides


def load(
    paths: Iterable[Path],
    *,
    strict: bool = False,
    recursive: bool = False,
    overrides: Overrides | None = None,
) -> Mesh:
    """Read, check and translate manifests.

    Args:
        paths: files, and folders of them; `-` is standard input.
        strict: whether what has no effect here, or another one, is refused and not just noted.
        recursive: whether folders in folders are read too.
        overrides: what the command line says of workloads beside them.

    Raises:
        RefusedError: something in them is wrong or not supported.
    """
    paths = list(paths)
    try:
        if unread := list(look_at(paths, recursive=recursive)):
            raise RefusedError(unread)
        documents = read(paths, recursive=recursive)
    except ManifestError as error:
        raise RefusedError(str(error).splitlines()) from None
    documents, outside = without_outside(documents)
    if problems := check(documents):
        raise RefusedError([str(problem) for problem in problems])
    mesh = translate(documents, overrides)
    mesh = replace(mesh, notes=(*mesh.notes, *outside))
    if strict and (noted := [note.located for note in mesh.notes if not note.informs]):
        raise RefusedError(noted)
    workload = "a workload"
    if any(one.body["spec"].get("replicas") == 0 for one in documents if kind_of(one) in WORKLOADS):
        workload += " with a replica: replicas is 0"
    for needed, found in ((workload, mesh.pods), ("a route at a Gateway", mesh.gateway)):
        if not found:
            raise RefusedError([f"{', '.join(map(str, paths))}: must hold {needed}"])
    return mesh
