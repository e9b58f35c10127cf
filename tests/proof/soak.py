"""A million requests through three hops: none fails, and nothing is left behind."""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import TYPE_CHECKING

import uvloop

from tests.proof.finding import Extent, Finding
from tests.proof.load import Load
from tests.proof.processes import EXIT_TIMEOUT, MIB, Said, descriptors, memory, stop
from tests.running import RunningHop, running_chain, running_command

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONNECTIONS = 8
_DEPTH = 16
_SAMPLE_EVERY = 0.05
_GROWTH = 1.05
_SLACK = _CONNECTIONS - 1
"""Descriptors of what opens late, fewer than if each connection of a client left one behind."""
_IDLE = 90.0
"""Seconds after which no connection is left: idle ones are closed after 75."""


def _left(hops: list[RunningHop], before: list[int]) -> int:
    """Descriptors that there are more than before."""
    return sum(map(descriptors, hops)) - sum(before)


def prove(extent: Extent) -> Iterator[Finding]:
    """Soak the chain."""
    count = 10_000 if extent.short else 1_000_000
    with running_chain(None, running_command) as hops:
        words = [Said(hop) for hop in hops]
        line = "".join(hop.line for hop in hops).encode()
        before = [descriptors(hop) for hop in hops]
        samples: list[tuple[int, int]] = []

        async def soak() -> Load:
            load = Load(
                hops[0].address,
                lambda status, body: (status, body) == (200, line),
                connections=_CONNECTIONS,
                depth=_DEPTH,
                count=count,
            )
            running = asyncio.create_task(load.run())
            while not running.done():
                samples.append((load.done, sum(map(memory, hops))))
                await asyncio.wait([running], timeout=_SAMPLE_EVERY)
            await running
            return load

        load = uvloop.run(soak())
        yield Finding(
            "soak: requests through three hops",
            f"{count:,} in {load.seconds:.0f} s",
            f"{load.answered:,} right, {len(load.failed):,} failed",
            "0 failed",
            load.answered == count and not load.failed,
        )
        first = median(size for done, size in samples if done <= count / 4)
        last = median(size for done, size in samples if done >= count * 3 / 4)
        yield Finding(
            "soak: resident memory of three hops",
            f"{first / MIB:.1f} MiB in the first quarter",
            f"{last / MIB:.1f} MiB in the last ({last / first:.3f})",
            f"at most {_GROWTH}",
            last <= first * _GROWTH,
        )
        # What is idle is closed after a while; in short, what may be idle is counted in.
        idle = 4 * _CONNECTIONS + _SLACK if extent.short else 0
        end = time.monotonic() + _IDLE
        while not (is_back := _left(hops, before) <= idle) and time.monotonic() < end:
            time.sleep(1)
        yield Finding(
            "soak: descriptors left over",
            f"{sum(before)} before",
            f"{_left(hops, before)} more afterwards",
            f"at most {idle}",
            is_back,
        )
        is_clean, seconds = stop(*hops)
        said = "".join(word.end for word in words)
        yield Finding(
            "soak: exit",
            "three hops",
            f"{'0' if is_clean else 'not 0'}, {len(said)} bytes said",
            "0, nothing said",
            is_clean and not said and seconds < extent.within(EXIT_TIMEOUT),
        )
