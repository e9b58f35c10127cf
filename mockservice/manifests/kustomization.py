"""Folders that are Kustomize's: read as plain files, they would be other manifests than it builds.

A folder is read as its files where its kustomization only lists them. Some fields do not matter to
lanes. `kubectl apply -f` skips a file called `Kustomization`, but stumbles over one with a suffix:
where the list is without one, the files are complete by themselves, and what components and
generators add is left to Kustomize. Files may then stand beside it that it does not list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mockservice.manifests.documents import (
    KUSTOMIZATIONS,
    ManifestError,
    folders,
    line_of,
    manifests_in,
    read_nodes,
    shown_value,
    unreadable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# They change neither which objects there are nor what lanes read of them.
_HARMLESS: Final = frozenset(
    {
        "apiVersion",
        "buildMetadata",
        "commonAnnotations",
        "generatorOptions",
        "images",
        "kind",
        "metadata",
        "openapi",
        "sortOptions",
    }
)
_ADDED: Final = frozenset({"components", "configMapGenerator", "secretGenerator"})


def look_at(paths: Iterable[Path], *, recursive: bool) -> Iterator[str]:
    """Yield a problem for each folder that only Kustomize can read.

    Raises:
        ManifestError: a folder or a kustomization cannot be read, or is not valid YAML.
    """
    for path in paths:
        folder = path
        try:
            for folder in folders(path, recursive):
                for file in (folder / name for name in KUSTOMIZATIONS):
                    if file.is_file() and (found := _reason(folder, file)):
                        place, reason = found
                        yield f"{place}: {reason}; pass - and pipe in: kubectl kustomize {folder}"
        except OSError as error:
            raise unreadable(folder, error) from None


def _reason(folder: Path, file: Path) -> tuple[str, str] | None:
    """Where and why a folder must be built; None if its files are what Kustomize would build."""
    for node, body in read_nodes(file):
        if not isinstance(body, dict):
            raise ManifestError(f"{file}:{node.start_mark.line + 1}: must be a kustomization")
        is_plain = not file.suffix
        skipped = _HARMLESS | _ADDED if is_plain else _HARMLESS
        for name, value in body.items():
            place = f"{file}:{line_of(node, name)}: {name}"
            if name == "resources":
                if not _is_list_of_names(value):
                    shown = f", not {shown_value(value)}" if not isinstance(value, list) else ""
                    raise ManifestError(f"{place}: must be a list of strings{shown}")
                if reason := _resources(folder, value or [], is_plain):
                    return place, reason
            elif name not in skipped and value:
                return place, "changes the manifests"
    return None


def _is_list_of_names(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _resources(folder: Path, resources: list[str], is_plain: bool) -> str | None:
    files = {file.name for file in manifests_in(folder)}
    listed = [one.removeprefix("./") for one in resources]
    for one in listed:
        if one not in files:
            return f"{one} is no file of this folder"
    if not is_plain and (left := sorted(files.difference(listed))):
        return f"{left[0]} is not among them"
    return None
