"""Telling that somebody has edited manifests, by looking at their files now and then."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_INTERVAL: Final = 0.3


class Watch:
    """Watches files and the files in folders, from when it is made."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = list(paths)
        self._seen = self._look()

    async def change(self) -> None:
        """Wait until something has changed and then stayed the same for a moment."""
        while (now := self._look()) == self._seen:
            await asyncio.sleep(_INTERVAL)
        while True:
            await asyncio.sleep(_INTERVAL)
            if (later := self._look()) == now:
                break
            now = later
        self._seen = now

    def _look(self) -> dict[Path, tuple[int, int, int]]:
        seen = {}
        for path in self._paths:
            with suppress(OSError):
                for file in path.iterdir() if path.is_dir() else (path,):
                    with suppress(OSError):
                        status = file.stat()
                        seen[file] = status.st_mtime_ns, status.st_size, status.st_ino
        return seen
