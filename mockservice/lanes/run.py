"""Runs `mockservice lanes`: starts local lanes, reports on them, and serves their page."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, NoReturn

from mockservice.lanes.errors import LanesError
from mockservice.lanes.local import LocalLanes
from mockservice.lanes.report import JsonReport, Report, TextReport
from mockservice.lanes.watch import Watch
from mockservice.mesh.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from mockservice.lanes.page import Page
    from mockservice.mesh.overrides import Overrides


def run(
    paths: list[Path],
    watch: bool,
    as_json: bool,
    quiet: bool,
    port: int | None,
    *,
    with_page: bool,
    strict: bool,
    recursive: bool,
    overrides: Overrides,
) -> int:
    """Run local lanes; see `mockservice.lanes.command.main`."""
    report: Report = JsonReport(quiet) if as_json else TextReport(quiet)
    lanes = LocalLanes(
        paths,
        port,
        report.log,
        lambda: report.changed(lanes),
        strict=strict,
        recursive=recursive,
        overrides=overrides,
    )
    edits = Watch(paths, recursive) if watch else None
    try:
        lanes.read()
        return asyncio.run(_until_signal(_run(lanes, edits, report, with_page), report))
    except RefusedError as error:
        report.problems("refused", error.problems)
        return 2
    except LanesError as error:
        report.problems("failed", [str(error)])
        return 1


async def _until_signal(running: Coroutine[None, None, NoReturn], report: Report) -> int:
    lanes = asyncio.create_task(running)
    stopping = False

    def on_signal(number: int) -> None:
        nonlocal stopping
        if stopping:
            # The guard then kills the other processes.
            os._exit(128 + number)
        stopping = True
        lanes.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    try:
        await lanes
    except asyncio.CancelledError:
        report.stopped()
    return 0


async def _run(lanes: LocalLanes, edits: Watch | None, report: Report, with_page: bool) -> NoReturn:
    async with lanes, AsyncExitStack() as exits:
        page = await exits.enter_async_context(_page_of(lanes)) if with_page else None
        report.running("ready", lanes, page.url if page else None)
        following = asyncio.create_task(_follow(edits, lanes, report, page)) if edits else None
        try:
            raise LanesError(await lanes.failed())
        finally:
            if following is not None:
                following.cancel()
                with suppress(asyncio.CancelledError):
                    await following


async def _follow(edits: Watch, lanes: LocalLanes, report: Report, page: Page | None) -> None:
    """Apply edits of the manifests; bad manifests change nothing."""
    were_refused = False
    while True:
        await edits.change()
        try:
            if await lanes.reload():
                report.running("moved", lanes)
                if page is not None:
                    await page.show(lanes)
            elif were_refused:
                # The bad edit has been undone.
                report.running("ready", lanes)
            were_refused = False
        except (RefusedError, LanesError) as error:
            were_refused = True
            problems = error.problems if isinstance(error, RefusedError) else [str(error)]
            report.problems("refused", problems)


def _page_of(lanes: LocalLanes) -> Page:
    # Its server takes long to import.
    from mockservice.lanes.page import Page

    return Page(lanes)
