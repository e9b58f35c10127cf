"""`mockservice verify`: manifests -> local lanes -> requests -> verification -> report."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from mockservice.lanes.errors import LanesError
from mockservice.lanes.local import LocalLanes
from mockservice.mesh.errors import RefusedError
from mockservice.verify import report
from mockservice.verify.case_results import judge_case
from mockservice.verify.cases import read_cases
from mockservice.verify.entering import enter
from mockservice.verify.junit import junit, junit_of_failure
from mockservice.verify.replaced import beside_lanes, until_up, without_calls
from mockservice.verify.saving import saved
from mockservice.verify.verification import Verification

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mockservice.mesh.lane_map import Entrance, LaneMap
    from mockservice.mesh.overrides import Overrides
    from mockservice.verify.cases import Case


def run(
    paths: list[Path],
    *,
    cases_file: Path | None = None,
    save_file: Path | None = None,
    junit_file: Path | None = None,
    as_json: bool = False,
    strict: bool = False,
    recursive: bool = False,
    overrides: Overrides | None = None,
) -> int:
    """Verify and report; see `mockservice.verify.command.main`."""
    verification, exit_code = None, 2
    problems = _unwritable(save_file, junit_file)
    if not problems:
        try:
            cases = [] if cases_file is None else read_cases(cases_file)
            lanes = LocalLanes(paths, strict=strict, recursive=recursive, overrides=overrides)
            lanes.read()
            verification = asyncio.run(_until_signal(lanes, cases))
        except RefusedError as error:
            problems = error.problems
        except LanesError as error:
            problems, exit_code = [str(error)], 1
        except asyncio.CancelledError:
            problems, exit_code = ["stopped by a signal"], 1
        else:
            exit_code = 0 if verification.hold else 1
        try:
            if junit_file is not None:
                text = junit(verification) if verification else junit_of_failure(problems)
                junit_file.write_text(text, "utf-8")
            if save_file is not None and verification is not None:
                with save_file.open("x", encoding="utf-8") as file:
                    file.write(saved(verification))
        except OSError as error:
            problems.append(f"{error.filename}: {(error.strerror or str(error)).lower()}")
            exit_code = exit_code or 1
    if verification is not None:
        (report.show_json if as_json else report.show)(verification)
    report.show_failure(problems)
    return exit_code


async def verify(gateway_url: str, lane_map: LaneMap, cases: Sequence[Case] = ()) -> Verification:
    """Enter all lanes that run behind a gateway, and judge what comes back.

    Args:
        gateway_url: without a path and without a trailing slash.
        lane_map: what lanes are owed.
        cases: what must hold beside it.
    """
    start = perf_counter()
    expected: dict[Entrance, list[Mapping[str, float]]] = {one: [] for one in lane_map.entrances}
    for case in cases:
        shares = expected.setdefault(case.entrance(lane_map), [])
        if case.shares:
            shares.append(case.shares)
    entered = await enter(gateway_url, lane_map, expected)
    own = lane_map.entrances
    return Verification(
        lane_map,
        tuple(entered[one] for one in own),
        perf_counter() - start,
        tuple(judge_case(case, entered[case.entrance(lane_map)], lane_map) for case in cases),
        tuple(one for entrance, one in entered.items() if entrance not in own),
    )


async def _until_signal(lanes: LocalLanes, cases: list[Case]) -> Verification:
    verifying = asyncio.create_task(_verify(lanes, cases))

    def on_signal(number: int) -> None:
        if verifying.cancelling():
            # The guard then kills the other processes.
            os._exit(128 + number)
        verifying.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    return await verifying


async def _verify(lanes: LocalLanes, cases: list[Case]) -> Verification:
    async with lanes:
        await until_up(lanes.replacements)
        found = await verify(lanes.gateway_url, lanes.lane_map, cases)
        remarks = (
            *without_calls(lanes.replacements, lanes.lane_map),
            *beside_lanes(lanes.replacements),
        )
        return replace(found, remarks=remarks)


def _unwritable(save_file: Path | None, junit_file: Path | None) -> list[str]:
    """Why files cannot be written, told before anything runs."""
    problems = []
    for option, file in (("--save-cases", save_file), ("--junit", junit_file)):
        if file is None:
            continue
        if file is save_file and file.exists():
            problems.append(f"{option}: '{file}': must be a file that is not there yet")
        elif file.is_dir() or not os.access(file.parent, os.W_OK | os.X_OK):
            problems.append(f"{option}: '{file}': must be a file in a folder that can be written")
    return problems
