"""Hops killed at random under load: what fails is named in time, and soon all is good again."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvloop

from tests.proof.finding import Extent, Finding
from tests.proof.load import Failed, Load
from tests.proof.processes import Said
from tests.running import RunningHop, new_address, request, start

if TYPE_CHECKING:
    from collections.abc import Iterator

_APPS = ("mocka", "mockb", "mockc")
_UPSTREAM_TIMEOUT = 2.0
_IN_TIME = _UPSTREAM_TIMEOUT + 1.0
"""Seconds within which even a failure is an answer."""
_RECOVERY = 1.0
"""Seconds from the restarted hop's readiness to the last failure."""
_HEALTHY = (1.2, 2.5)
"""Seconds, more than the recovery, from a restart to the next kill."""
_DOWN = (0.0, 1.0)
_NAMED = re.compile(
    r"(?:-> mock[ab]\(version: v1, ip: [\d.]+\))*-> ([\d.]+):8000\(unreachable: .+\)"
)


@dataclass(frozen=True, slots=True)
class _Outage:
    """A hop that was not there."""

    address: str
    killed: float
    ready: float


class _Chain:
    """Three hops on fixed addresses."""

    def __init__(self, recovery: float) -> None:
        self._recovery = recovery
        self.addresses = [new_address() for _ in _APPS]
        self.outages: list[_Outage] = []
        self.hops: list[RunningHop] = []
        for place in reversed(range(len(_APPS))):
            self.hops.insert(0, self._start(place))
        self.line = "".join(hop.line for hop in self.hops).encode()

    def _start(self, place: int) -> RunningHop:
        upstream = (
            {"upstream_url": f"http://{self.addresses[place + 1]}:8000/"}
            if place + 1 < len(_APPS)
            else {}
        )
        hop = start(
            _APPS[place],
            host=self.addresses[place],
            upstream_timeout=str(_UPSTREAM_TIMEOUT),
            **upstream,
        )
        Said(hop)
        return hop

    def kill(self, place: int, down: float) -> None:
        """Kill a hop, and start it again after `down` seconds."""
        killed = time.monotonic()
        self.hops[place].stop(signal.SIGKILL)
        time.sleep(down)
        self.hops[place] = self._start(place)
        self.outages.append(_Outage(self.addresses[place], killed, time.monotonic()))

    def close(self) -> None:
        """End what still runs."""
        for hop in self.hops:
            hop.process.kill()
            hop.process.wait()

    def is_whole(self) -> bool:
        """Whether it answers as it should."""
        answer = request(self.hops[0].url)
        return (answer.status, answer.body) == (200, self.line)

    def explains(self, failed: Failed) -> bool:
        """Whether a failure is one that an outage makes, with the right hop named."""
        outages = [
            outage
            for outage in self.outages
            if outage.killed <= failed.ended <= outage.ready + self._recovery
        ]
        if failed.status is None:
            # Who has no hop to talk to gets no answer.
            return any(outage.address == self.addresses[0] for outage in outages)
        named = _NAMED.fullmatch(failed.text)
        return (
            failed.status == 502
            and named is not None
            and any(outage.address == named[1] for outage in outages)
        )


def prove(extent: Extent) -> Iterator[Finding]:
    """Kill hops at random."""
    seconds = 6.0 if extent.short else 120.0
    chance = random.Random(extent.seed)
    recovery, in_time = extent.within(_RECOVERY), extent.within(_IN_TIME)
    chain = _Chain(recovery)

    async def kill_all() -> tuple[Load, float]:
        load = Load(
            chain.addresses[0],
            lambda status, body: (status, body) == (200, chain.line),
            timeout=in_time + 7,
            pause=0.005 if extent.short else 0.001,
        )
        running = asyncio.create_task(load.run())
        end = time.monotonic() + seconds
        # Each hop once at first, then any.
        first = chance.sample(range(len(_APPS)), len(_APPS))
        while first or time.monotonic() < end:
            await asyncio.sleep(chance.uniform(*_HEALTHY))
            place = first.pop() if first else chance.randrange(len(_APPS))
            await asyncio.to_thread(chain.kill, place, chance.uniform(*_DOWN))
        await asyncio.sleep(_RECOVERY)
        stopped = time.monotonic()
        load.stop()
        await running
        return load, time.monotonic() - stopped

    try:
        load, waited = uvloop.run(kill_all())
        is_whole = chain.is_whole()
    finally:
        chain.close()
    odd = [failed for failed in load.failed if not chain.explains(failed)]
    amount = f"{len(chain.outages)} SIGKILLs, {load.done:,} requests"
    yield Finding(
        "kills: failures name the hop that was killed",
        amount,
        f"{len(load.failed)} failed, {len(odd)} not so{f': {odd[0]}' if odd else ''}",
        f"each, until {recovery:g} s after it is back",
        not odd and bool(load.failed) and load.answered > len(load.failed),
    )
    yield Finding(
        "kills: the chain in the end",
        amount,
        "whole" if is_whole else "not whole",
        "whole",
        is_whole,
    )
    slowest = max((failed.ended - failed.began for failed in load.failed), default=0.0)
    yield Finding(
        "kills: the slowest failure",
        amount,
        "in time" if max(slowest, waited) <= in_time else f"{max(slowest, waited):.2f} s",
        f"{in_time:g} s",
        max(slowest, waited) <= in_time,
    )
