"""Runs `mockservice ui`: serves the page until a signal."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

from mockservice.ui.server import ListenError, PageServer

if TYPE_CHECKING:
    from mockservice.ui.view import View


def run(view: View, host: str, port: int | None) -> int:
    """Serve the page; see `mockservice.ui.command.main`."""
    try:
        asyncio.run(_until_signal(PageServer(view, host, port)))
    except ListenError as error:
        sys.stderr.write(f"mockservice ui: {error}\n")
        return 2
    return 0


async def _until_signal(page: PageServer) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with page:
        sys.stdout.write(f"ui {page.url}\n")
        sys.stdout.flush()
        await stop.wait()
