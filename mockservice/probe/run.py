"""`mockservice probe`: load -> tally -> findings -> report."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import aclosing, suppress
from time import perf_counter
from typing import TYPE_CHECKING

from mockservice.probe.findings import Findings
from mockservice.probe.load import Load, send
from mockservice.probe.progress import progress
from mockservice.probe.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mockservice.probe.judge import Judge


def run(load: Load, judge: Judge, weights: Mapping[str, float] | None, *, as_json: bool) -> int:
    """Probe and report; see `mockservice.probe.command.main`."""
    tally = Tally(judge)
    start = perf_counter()
    asyncio.run(_until_signal(load, tally))
    if weights is None:
        weights = judge.weights(load)
    remarks = judge.remarks(load, tally.lanes)
    findings = Findings.of(load, tally, perf_counter() - start, weights, remarks)
    if as_json:
        sys.stdout.write(findings.to_json() + "\n")
    else:
        # Tables take imports that `--json` does not wait for.
        from mockservice.probe.report import show

        show(findings)
    return 0 if findings.hold else 1


async def _until_signal(load: Load, tally: Tally) -> None:
    """Count results until all are there, or a signal says that these will do."""
    counting = asyncio.create_task(_count(load, tally))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, counting.cancel)
    with suppress(asyncio.CancelledError):
        await counting


async def _count(load: Load, tally: Tally) -> None:
    with progress(load.requests) as advance:
        async with aclosing(send(load)) as results:
            async for result in results:
                tally.add(result)
                advance()
