"""Reports on local lanes: tables and lines of text, or JSON lines for scripts."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol
from zlib import crc32

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mockservice.lanes.local import LocalLanes, LocalPod
    from mockservice.lanes.replacement import Replacement
    from mockservice.mesh.lane_map import LaneMap, Owed

_COLOURS: Final = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_magenta")
_STATES: Final = {
    "ready": "green",
    "restarting": "red",
    "starting": "yellow",
    "down": "red",
    "draining": "dim",
}


class Report(Protocol):
    """Receives each event of local lanes."""

    def running(self, event: str, lanes: LocalLanes, page: str | None = None) -> None:
        """Report that the lanes run.

        Args:
            event: `ready`, or `moved` after an edit of the manifests.
            lanes: the lanes.
            page: the URL of their page, if it has just been started.
        """

    def changed(self, lanes: LocalLanes) -> None:
        """Report that a pod has changed its state."""

    def problems(self, event: str, lines: list[str]) -> None:
        """Report that the manifests were `refused` or that the lanes have `failed`."""

    def stopped(self) -> None:
        """Report that everything has drained and stopped after a signal."""

    def log(self, name: str, line: str) -> None:
        """Report a line that a process has written."""


class TextReport:
    """Writes tables and lines of text; problems and logs go to standard error."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        # Names and logs are data: they must not be read as rich's markup.
        self._out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._err = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, stderr=True)
        self._states: dict[LocalPod, str] = {}
        self._is_running = False

    def running(self, event: str, lanes: LocalLanes, page: str | None = None) -> None:
        """Print the pods and the URLs of the gateway and the page."""
        self._is_running = True
        table = Table("pod", "app", "version", "lane", "address", "state", box=None, pad_edge=False)
        for one in lanes.pods:
            state = Text(one.state, _STATES[one.state])
            address = f"{one.place.ip}:{one.place.port}"
            pod = one.pod
            table.add_row(str(pod), pod.app, pod.version, one.lane or "-", address, state)
        self._out.print(table)
        for replacement in lanes.replacements:
            self._out.print(Text(_replaced(replacement)))
        self._out.print()
        self._lanes(lanes.lane_map)
        url = lanes.url(lanes.lane_map.example)
        self._out.print(Text.assemble("gateway ", (url, "bold"), f" {event}"))
        if page is not None:
            self._out.print(Text.assemble("ui      ", (page, "bold")))

    def _lanes(self, lane_map: LaneMap) -> None:
        """Print what each lane is owed, who calls whom, and the notes on the manifests."""
        if lane_map.lanes:
            self._out.print(_lane_table(lane_map))
        calls = _calls(lane_map)
        if any(len(callees) > 1 for callees in calls.values()):
            # The columns of the table tell a chain, but not a tree.
            callers = (f"{app} -> {', '.join(callees)}" for app, callees in calls.items())
            self._out.print(Text(f"calls: {'; '.join(callers)}"))
        for note in lane_map.notes:
            self._out.print(Text(f"note: {note}"))
        self._out.print()

    def changed(self, lanes: LocalLanes) -> None:
        """Print each pod whose state has changed."""
        states = {one: one.state for one in lanes.pods}
        if self._is_running:
            for one, state in states.items():
                if self._states.get(one) != state:
                    self._out.print(Text.assemble(f"{one.pod} ", (state, _STATES[state])))
        self._states = dict(states)

    def problems(self, event: str, lines: list[str]) -> None:
        """Print each problem on a line of its own."""
        for line in lines:
            self._err.print(Text(f"mockservice lanes: {line}"))
        if event == "refused" and self._is_running:
            self._err.print(Text("mockservice lanes: still running the last valid manifests"))

    def stopped(self) -> None:
        """Print one line."""
        self._out.print("stopped")

    def log(self, name: str, line: str) -> None:
        """Print a line after the name of its process, on standard error."""
        if not self._quiet:
            colour = _COLOURS[crc32(name.encode()) % len(_COLOURS)]
            self._err.print(Text.assemble((f"{name} | ", colour), line))


class JsonReport:
    """Writes each event as one line of JSON; logs go to standard error, as text.

    The events are `ready`, `moved` and `pods` (each with the gateway and all pods), `refused` and
    `failed` (with the problems), and `stopped`.
    """

    def __init__(self, quiet: bool) -> None:
        self._logs = TextReport(quiet)
        self._is_running = False
        self._last_pods: Any = None

    def running(self, event: str, lanes: LocalLanes, page: str | None = None) -> None:
        """Write the gateway, the pods and the URL of the page."""
        self._is_running = True
        lane_map = lanes.lane_map
        told = {
            "calls": _calls(lane_map),
            "lanes": _lanes(lane_map),
            "notes": [note.text for note in lane_map.notes],
        }
        self._write_pods(event, lanes, told if page is None else {"page": page, **told})

    def changed(self, lanes: LocalLanes) -> None:
        """Write the pods if any of them has changed."""
        if self._is_running and _pods(lanes) != self._last_pods:
            self._write_pods("pods", lanes, {})

    def problems(self, event: str, lines: list[str]) -> None:
        """Write the problems."""
        self._write({"event": event, "problems": lines})

    def stopped(self) -> None:
        """Write that everything has stopped."""
        self._write({"event": "stopped"})

    def log(self, name: str, line: str) -> None:
        """Print a line of a process, on standard error."""
        self._logs.log(name, line)

    def _write_pods(self, event: str, lanes: LocalLanes, more: Mapping[str, Any]) -> None:
        self._last_pods = _pods(lanes)
        self._write({"event": event, "gateway": lanes.gateway_url, **more, "pods": self._last_pods})

    def _write(self, event: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(event, ensure_ascii=False) + "\n")
        sys.stdout.flush()


def _pods(lanes: LocalLanes) -> list[dict[str, Any]]:
    return [
        {
            "name": one.pod.name,
            "namespace": one.pod.namespace,
            "app": one.pod.app,
            "version": one.pod.version,
            "lane": one.lane,
            "address": f"{one.place.ip}:{one.place.port}",
            "state": one.state,
            **_replacing(one),
        }
        for one in lanes.pods
    ]


def _replacing(running: LocalPod) -> dict[str, str]:
    """The process that answers in place of a pod, and the proxy that it calls by."""
    if running.replacement is None:
        return {}
    return {"replaced_by": running.replacement.url, "http_proxy": running.replacement.proxy_url}


def _replaced(replacement: Replacement) -> str:
    """What answers in place of which pods, and how it is to be started."""
    pods = (f"{one.pod.app}({one.pod.version})" for one in replacement.joined)
    names = list(dict.fromkeys(pods))
    said = f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} {replacement.url}"
    return f"{said}; start it with http_proxy={replacement.proxy_url}"


def _lane_table(lane_map: LaneMap) -> Table:
    """What each lane is owed; what the baseline stands in for is in parentheses."""
    apps = lane_map.apps
    table = Table("lane", "enters by", *apps, box=None, pad_edge=False)
    for lane in lane_map.lanes:
        owed = (_owed(lane.owed.get(app)) for app in apps)
        table.add_row(lane.name, lane_map.enters_by(lane), *owed)
    return table


def _owed(owed: Owed | None) -> str:
    if owed is None:
        return "any"
    return str(owed) if owed.is_own or not owed.versions else f"({owed})"


def _calls(lane_map: LaneMap) -> dict[str, list[str]]:
    """The apps that each app calls, in call order; without the apps that call none."""
    topology = lane_map.topology
    return {app: callees for app in topology.apps if (callees := topology.callees(app))}


def _lanes(lane_map: LaneMap) -> list[dict[str, Any]]:
    return [
        {
            "name": lane.name,
            "is_baseline": lane.name == lane_map.baseline,
            "enters_by": lane_map.enters_by(lane),
            "owed": {
                app: {"versions": sorted(owed.versions), "is_own": owed.is_own}
                for app, owed in lane.owed.items()
            },
        }
        for lane in lane_map.lanes
    ]
