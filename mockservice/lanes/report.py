"""What local lanes say of themselves: tables for people, JSON lines for scripts."""

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

_COLOURS: Final = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_magenta")
_STATES: Final = {"ready": "green", "restarting": "red", "starting": "yellow", "draining": "dim"}


class Report(Protocol):
    """Takes what happens, as it happens."""

    def settled(self, event: str, lanes: LocalLanes, page: str | None = None) -> None:
        """Lanes are `ready`, and seen on a page, or have `moved` to edited manifests."""

    def changed(self, lanes: LocalLanes) -> None:
        """A pod has changed its state."""

    def problems(self, event: str, lines: list[str]) -> None:
        """Manifests were `refused`, or lanes have `failed`."""

    def log(self, name: str, line: str) -> None:
        """A process has written a line."""


class ForPeople:
    """Tables and problems; logs, each with the name of its pod before it, on standard error."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        # What is shown is data, in which brackets and colons mean nothing.
        self._out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._err = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, stderr=True)
        self._states: dict[LocalPod, str] = {}
        self._settled = False

    def settled(self, event: str, lanes: LocalLanes, page: str | None = None) -> None:
        """Show the gateway, the pods, and where the page is."""
        self._settled = True
        table = Table("pod", "app", "version", "lane", "address", "state", box=None, pad_edge=False)
        for one in lanes.pods:
            state = Text(one.state, _STATES[one.state])
            address = f"{one.place.ip}:{one.place.port}"
            pod = one.pod
            table.add_row(str(pod), pod.app, pod.version, one.lane or "-", address, state)
        self._out.print(table)
        self._out.print(Text.assemble("gateway ", (lanes.example_url, "bold"), f" {event}"))
        if page is not None:
            self._out.print(Text.assemble("ui      ", (page, "bold")))

    def changed(self, lanes: LocalLanes) -> None:
        """Say which pods are in another state than before."""
        states = {one: one.state for one in lanes.pods}
        if self._settled:
            for one, state in states.items():
                if self._states.get(one) != state:
                    self._out.print(Text.assemble(f"{one.pod} ", (state, _STATES[state])))
        self._states = dict(states)

    def problems(self, event: str, lines: list[str]) -> None:
        """Show each problem on a line of its own."""
        for line in lines:
            self._err.print(Text(f"mockservice lanes: {line}"))
        if event == "refused" and self._settled:
            self._err.print(Text("mockservice lanes: the last good state goes on"))

    def log(self, name: str, line: str) -> None:
        """Show a line of a process."""
        if not self._quiet:
            colour = _COLOURS[crc32(name.encode()) % len(_COLOURS)]
            self._err.print(Text.assemble((f"{name} | ", colour), line))


class ForScripts:
    """One JSON object a line for each state, the first when lanes are ready; logs as for people."""

    def __init__(self, quiet: bool) -> None:
        self._logs = ForPeople(quiet)
        self._settled = False
        self._said: Any = None

    def settled(self, event: str, lanes: LocalLanes, page: str | None = None) -> None:
        """Say the gateway, the pods, and where the page is."""
        self._settled = True
        self._say(event, lanes, {} if page is None else {"page": page})

    def changed(self, lanes: LocalLanes) -> None:
        """Say the pods, where their states are not those said last."""
        if self._settled and _pods(lanes) != self._said:
            self._say("pods", lanes)

    def problems(self, event: str, lines: list[str]) -> None:
        """Say the problems."""
        self._write({"event": event, "problems": lines})

    def log(self, name: str, line: str) -> None:
        """Show a line of a process, on standard error."""
        self._logs.log(name, line)

    def _say(self, event: str, lanes: LocalLanes, more: Mapping[str, str] | None = None) -> None:
        self._said = _pods(lanes)
        where = {"event": event, "gateway": lanes.gateway_url, **(more or {})}
        self._write({**where, "pods": self._said})

    def _write(self, what: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(what, ensure_ascii=False) + "\n")
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
        }
        for one in lanes.pods
    ]
