"""Detects edits of manifests by polling their files."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from mockservice.manifests.documents import folders

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_INTERVAL: Final = 0.3
"""Seconds between two polls."""


class Watch:
    """Watches files, and the files in folders, from its creation on."""

    def __init__(self, paths: Iterable[Path], recursive: bool = False) -> None:
        self._paths = list(paths)
        self._recursive = recursive
        self._last = self._snapshot()

    async def change(self) -> None:
        """Wait for a change, and until the files have been stable for one interval."""
        while (current := self._snapshot()) == self._last:
            await asyncio.sleep(_INTERVAL)
        while True:
            await asyncio.sleep(_INTERVAL)
            if (latest := self._snapshot()) == current:
                break
            current = latest
        self._last = current

    def _snapshot(self) -> dict[Path, tuple[int, int, int]]:
        files = {}
        for path in self._paths:
            with suppress(OSError):
                inside = folders(path, self._recursive)
                for file in [one for folder in inside for one in folder.iterdir()] or [path]:
                    with suppress(OSError):
                        status = file.stat()
                        files[file] = status.st_mtime_ns, status.st_size, status.st_ino
        return files
