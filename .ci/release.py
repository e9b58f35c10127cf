"""The version of a release, and its notes.

    release.py version 0.2.0    write that version into all files that name it
    release.py notes v0.2.0     print what CHANGELOG.md says of it, if the tag is the version

`mockservice/__init__.py` is the one place that the others are held against.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+")
# What stands before the version in each kind of file.
_PLACES: Final = {
    "mockservice/__init__.py": '__version__ = "',
    "Dockerfile": 'org.opencontainers.image.version="',
    "k8s/components/settings/Kustomization": "newTag: ",
    "k8s/**/*.yaml": "ghcr.io/mockservice/mockservice:",
    "CHANGELOG.md": "# Changelog\n\n## ",
}


class ReleaseError(ValueError):
    """A release cannot be made. The text is one line: what, the value, and what is allowed."""


def versions(root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """Every file that names the version, with each version that it names."""
    for pattern, before in _PLACES.items():
        for file in sorted(root.glob(pattern)):
            for found in re.findall(re.escape(before) + f"({_VERSION.pattern})", file.read_text()):
                yield file, found


def current(root: Path = ROOT) -> str:
    """The version of this tree."""
    return next(found for _, found in versions(root))


def set_version(version: str, root: Path = ROOT) -> None:
    """Write a version into all files that name it, and begin its notes in the changelog.

    Raises:
        ReleaseError: it is no version.
    """
    if not _VERSION.fullmatch(version):
        raise ReleaseError(f"version {version!r}: must be three numbers, such as 0.2.0")
    before = current(root)
    changelog = root / "CHANGELOG.md"
    for file in {file for file, _ in versions(root)} - {changelog}:
        text = file.read_text()
        for start in _PLACES.values():
            text = text.replace(start + before, start + version)
        file.write_text(text)
    if version != before:
        text = changelog.read_text()
        changelog.write_text(
            text.replace("# Changelog\n", f"# Changelog\n\n## {version} (unreleased)\n", 1)
        )


def notes(tag: str, root: Path = ROOT) -> str:
    """What the changelog says of a release.

    Raises:
        ReleaseError: the tag is not the version of this tree, or the notes are not finished.
    """
    version = current(root)
    if tag != f"v{version}":
        raise ReleaseError(f"tag {tag!r}: must be v{version}, as mockservice/__init__.py says")
    title, _, text = (root / "CHANGELOG.md").read_text().partition("\n## ")[2].partition("\n")
    if not re.fullmatch(re.escape(version) + r" \(\d{4}-\d\d-\d\d\)", title):
        raise ReleaseError(f"CHANGELOG.md: {title!r}: must be {version} and its date, (YYYY-MM-DD)")
    text = text.partition("\n## ")[0].strip()
    if not text:
        raise ReleaseError(f"CHANGELOG.md: {title!r}: must have notes")
    return text + "\n"


def main(arguments: list[str]) -> int:
    """Do what the command line says.

    Returns:
        The exit code: 0 done, 2 bad input.
    """
    try:
        match arguments:
            case ["version", version]:
                set_version(version)
            case ["notes", tag]:
                sys.stdout.write(notes(tag))
            case _:
                raise ReleaseError("must be `version VERSION` or `notes TAG`")
    except ReleaseError as error:
        sys.stderr.write(f"release: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
