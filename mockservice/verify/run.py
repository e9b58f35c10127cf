"""`mockservice verify`: manifests -> local lanes -> requests -> verification -> report."""

from __future__ import annotations

import asyncio
import signal
import sys
from time import perf_counter
from typing import TYPE_CHECKING

from mockservice.lanes.errors import LanesError
from mockservice.lanes.local import LocalLanes
from mockservice.mesh.errors import RefusedError
from mockservice.verify import report
from mockservice.verify.entering import enter
from mockservice.verify.verification import Verification

if TYPE_CHECKING:
    from pathlib import Path

    from mockservice.mesh.lane_map import LaneMap


def run(paths: list[Path], *, as_json: bool) -> int:
    """Verify and report; see `mockservice.verify.command.main`."""
    try:
        verification = asyncio.run(_until_signal(paths))
    except RefusedError as error:
        return _fail(error.problems, 2)
    except LanesError as error:
        return _fail([str(error)], 1)
    except asyncio.CancelledError:
        return _fail(["stopped by a signal"], 1)
    if as_json:
        report.show_json(verification)
    else:
        report.show(verification)
    return 0 if verification.hold else 1


async def verify(gateway_url: str, lane_map: LaneMap) -> Verification:
    """Enter all lanes that run behind a gateway, and judge what comes back.

    Args:
        gateway_url: without a path and without a trailing slash.
        lane_map: what lanes are owed.
    """
    start = perf_counter()
    entered = [await enter(gateway_url, lane_map, one) for one in lane_map.entrances]
    return Verification(lane_map, tuple(entered), perf_counter() - start)


async def _until_signal(paths: list[Path]) -> Verification:
    verifying = asyncio.create_task(_verify(paths))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, verifying.cancel)
    return await verifying


async def _verify(paths: list[Path]) -> Verification:
    async with LocalLanes(paths) as lanes:
        return await verify(lanes.gateway_url, lanes.lane_map)


def _fail(problems: list[str], exit_code: int) -> int:
    for problem in problems:
        sys.stderr.write(f"mockservice verify: {problem}\n")
    return exit_code
