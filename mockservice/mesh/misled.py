"""Routes that lead some calls of a Service to an app that the caller calls by another name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mockservice.mesh.alternatives import led_together
from mockservice.mesh.model import Note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mockservice.mesh.topology import Call, Topology


def misled(topology: Topology) -> Iterator[Note]:
    """Notes on such routes, whose lanes do not hold: the answer is that of another app.

    A canary with a Service of its own is no such app, as its callers do not call it by that name.
    """
    for app in topology.apps:
        calls = topology.calls(app)
        for call in calls:
            for other in calls:
                if other.caller == call.caller:
                    yield from _led_from(topology, call, other)


def _led_from(topology: Topology, call: Call, other: Call) -> Iterator[Note]:
    """Notes on the routes of one call that lead to the Service of another one."""
    here, there = call.service, other.service
    table = topology.table(here)
    if table is None or not {*topology.apps_of(here)}.isdisjoint(topology.apps_of(there)):
        return
    if not any({here.host, there.host} <= hosts for hosts in led_together(table.routes)):
        return
    for route in table.routes:
        if any(one.host == there.host and one.weight for one in route.destinations):
            text = f"{route.source} leads calls of {here.name} to {there.name}"
            yield Note(f"{text}, which {call.caller.app} calls too", route.source, fails=True)
