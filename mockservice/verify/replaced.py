"""What is wrong with processes that answer in place of pods, beside what requests show."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from mockservice.lanes.errors import LanesError
from mockservice.probe.verdicts import PROPAGATION
from mockservice.verify.verification import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mockservice.lanes.replacement import Joined, Replacement
    from mockservice.mesh.lane_map import LaneMap
    from mockservice.mesh.model import Service
    from mockservice.mesh.topology import Topology

_UP_TIMEOUT: Final = 10.0
"""Seconds that a process gets to listen, and to answer, which answers in place of pods."""
_POLL: Final = 0.1


async def until_up(replacements: list[Replacement]) -> None:
    """Wait until all processes listen that answer in place of pods, and answer one request.

    Raises:
        LanesError: one does not, within a while.
    """
    for replacement in replacements:
        named = ", ".join(replacement.apps)
        try:
            async with asyncio.timeout(_UP_TIMEOUT):
                while not await replacement.is_up():
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            raise LanesError(
                f"--replace: {named}: nothing listens at {replacement.url} within"
                f" {_UP_TIMEOUT:g} s; start it with http_proxy={replacement.proxy_url}"
            ) from None
        if not await replacement.answers(_UP_TIMEOUT):
            raise LanesError(
                f"--replace: {named}: {replacement.url} answers no request within {_UP_TIMEOUT:g} s"
            )


def without_calls(replacements: list[Replacement], lane_map: LaneMap) -> Iterator[Problem]:
    """Calls that processes never made by their proxies: it is not known whether they carry lanes.

    They are errors where rules route these calls, or calls further on, and where a process called
    nothing at all. What is not declared to carry HTTP cannot go by a proxy.
    """
    topology = lane_map.topology
    for replacement in replacements:
        for app in replacement.apps:
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
        named = ", ".join(replacement.apps)
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
