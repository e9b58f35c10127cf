"""Files -> mesh: manifests read, checked and translated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mockservice.manifests.checks import check
from mockservice.manifests.documents import ManifestError, read
from mockservice.mesh.errors import RefusedError
from mockservice.mesh.translate import translate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mockservice.mesh.model import Mesh


def load(paths: Iterable[Path], *, strict: bool = False) -> Mesh:
    """Read, check and translate manifests.

    Args:
        paths: files, and folders of them.
        strict: whether what has no effect here, or another one, is refused and not just noted.

    Raises:
        RefusedError: something in them is wrong or not supported.
    """
    paths = list(paths)
    try:
        documents = read(paths)
    except ManifestError as error:
        raise RefusedError(str(error).splitlines()) from None
    if problems := check(documents):
        raise RefusedError([str(problem) for problem in problems])
    mesh = translate(documents)
    if strict and mesh.notes:
        raise RefusedError([note.located for note in mesh.notes])
    for needed, found in (("a Deployment", mesh.pods), ("a route at a Gateway", mesh.gateway)):
        if not found:
            raise RefusedError([f"{', '.join(map(str, paths))}: must hold {needed}"])
    return mesh
