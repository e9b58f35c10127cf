"""`mockservice verify`: manifests -> local lanes -> requests -> verification -> report."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Final

from mockservice.lanes.errors import LanesError
from mockservice.lanes.local import LocalLanes
from mockservice.mesh.errors import RefusedError
from mockservice.probe.verdicts import PROPAGATION
from mockservice.verify import report
from mockservice.verify.case_results import judge_case
from mockservice.verify.cases import read_cases
from mockservice.verify.entering import enter
from mockservice.verify.junit import junit, junit_of_failure
from mockservice.verify.saving import saved
from mockservice.verify.verification import Problem, Verification

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mockservice.lanes.replacement import Joined, Replacement
    from mockservice.mesh.lane_map import Entrance, LaneMap
    from mockservice.mesh.model import Service
    from mockservice.mesh.overrides import Overrides
    from mockservice.mesh.topology import Topology
    from mockservice.verify.cases import Case

_UP_TIMEOUT: Final = 10.0
"""Seconds that a process gets to listen which answers in place of pods."""
_POLL: Final = 0.1


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


async def until_up(replacements: list[Replacement]) -> None:
    """Wait until all processes listen that answer in place of pods.

    Raises:
        LanesError: one does not, within a while.
    """
    for replacement in replacements:
        with suppress(TimeoutError):
            async with asyncio.timeout(_UP_TIMEOUT):
                while not await replacement.is_up():
                    await asyncio.sleep(_POLL)
                continue
        named = ", ".join(dict.fromkeys(one.pod.app for one in replacement.joined))
        raise LanesError(
            f"--replace: {named}: nothing listens at {replacement.url} within {_UP_TIMEOUT:g} s;"
            f" start it with http_proxy={replacement.proxy_url}"
        )


def without_calls(replacements: list[Replacement], lane_map: LaneMap) -> Iterator[Problem]:
    """Calls that processes never made by their proxies: it is not known whether they carry lanes.

    They are errors where rules route these calls, or calls further on, and where a process called
    nothing at all. What is not declared to carry HTTP cannot go by a proxy.
    """
    topology = lane_map.topology
    for replacement in replacements:
        for app in dict.fromkeys(one.pod.app for one in replacement.joined):
            joined = [one for one in replacement.joined if one.pod.app == app and one.requests]
            if not joined:
                continue
            versions = {one.pod.version for one in joined}
            calls = [call for one in sorted(versions) for call in topology.calls_of(app, one)]
            called = _called(joined, topology)
            has_called = any(one.calls for one in joined)
            kept, missing, others = [], [], []
            for call in dict.fromkeys(calls):
                is_http = call.port not in call.service.tcp_ports
                if call.service in called:
                    kept.append(call.service.name)
                elif is_http and (not has_called or topology.leads_to_rules(call.service)):
                    missing.append(call.service.name)
                else:
                    others.append(call.service.name)
            requests = sum(one.requests for one in joined)
            named = app if versions == topology.versions(app) else f"{app}/{min(versions)}"
            said = f"--calls {named}={_listed(kept, ',')}"
            if missing and not has_called:
                text = (
                    f"{app} at {replacement.url} called nothing by its proxy in {requests}"
                    f" requests, but is to call {_listed(missing)}: start it with"
                    f" http_proxy={replacement.proxy_url}, or say {said}"
                )
                yield Problem("error", PROPAGATION, text)
            elif missing:
                text = (
                    f"{app} at {replacement.url} never called {_listed(missing)} by its proxy in"
                    f" {requests} requests, but is to: nothing is proved of that call; if there is"
                    f" none, say {said}"
                )
                yield Problem("error", PROPAGATION, text)
            if others:
                text = (
                    f"{app} at {replacement.url} never called {_listed(others)} by its proxy in"
                    f" {requests} requests; no rule routes that call"
                )
                yield Problem("note", PROPAGATION, text, informs=True)


def _called(joined: list[Joined], topology: Topology) -> set[Service | None]:
    """The Services that a process has called in place of some pods."""
    return {
        topology.service(name, one.pod.namespace)
        for one in joined
        for host in one.hosts
        # The host of one pod has that of its Service after a dot.
        for name in (host, host.partition(".")[2])
    }


def _listed(names: list[str], separator: str = ", ") -> str:
    return separator.join(dict.fromkeys(names))


def beside_lanes(replacements: list[Replacement]) -> Iterator[Problem]:
    """What processes call that is no part of a lane."""
    for replacement in replacements:
        named = ", ".join(dict.fromkeys(one.pod.app for one in replacement.joined))
        for host in replacement.outside:
            text = (
                f"{named} calls {host}, which is no Service of the manifests: it gets 502;"
                f" no_proxy={host} lets it call past the lanes"
            )
            yield Problem("note", PROPAGATION, text, changes_no_lanes=True)
        habits, others = replacement.without_request()
        for url in habits:
            text = f"{named} calls {url} on its own, without a request: that is in no lane"
            yield Problem("note", PROPAGATION, text, changes_no_lanes=True)
        for url in others:
            text = (
                f"{named} called {url} while it answered no request: whether that keeps its lane"
                " is not known"
            )
            yield Problem("note", PROPAGATION, text)


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
