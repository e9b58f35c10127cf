"""Clients that attack: no crash, no hang, nothing injected, and no other client slowed much."""

from __future__ import annotations

import asyncio
import re
import resource
from contextlib import contextmanager, suppress
from statistics import median
from typing import TYPE_CHECKING

import uvloop

from tests import shapes
from tests.proof.attacks import ATTACKS
from tests.proof.canary import Canary, Measured, canary
from tests.proof.finding import Extent, Finding
from tests.proof.processes import MIB, Said, descriptors, heard, memory, stop
from tests.proof.recorder import Recorder, recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.proof.attacks import Attack
    from tests.running import RunningHop

_ROUNDS = 5
_SECONDS = 1.0
_SETTLE = 0.3
_SHORT = 0.1
"""Seconds in short: hundreds of requests of an attacker, dozens of the other client."""
_SLOWER = 2.0
_GROWTH = 64 * MIB
"""Of 5,000 connections, or of whatever else comes at once."""
_SLACK = 2
"""Descriptors: of the other client's connection."""
_POLLS = 150
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


def prove(extent: Extent) -> Iterator[Finding]:
    """Attack a hop in each way, beside a client that does all as it should."""
    yield uvloop.run(_inject())
    # The hop inherits the limit.
    with _many_descriptors(), heard() as (hop, said):
        with canary(hop.address) as other:
            other.sing(_SETTLE)
            for name, (attack, connections) in ATTACKS.items():
                count = max(8, connections // 10) if extent.short else connections
                yield uvloop.run(_attacked(name, attack, count, hop, said, other, extent.short))
        is_clean, _ = stop(hop)
        said.wait()
        yield Finding(
            "clients: the hop's exit",
            f"{said.lines} lines said",
            f"{'0' if is_clean else 'not 0'}, {'crashed' if said.crashed else 'no crash'}",
            "0, no crash",
            is_clean and not said.crashed,
        )


@contextmanager
def _many_descriptors() -> Iterator[None]:
    """As many open files as there may be, for this process and those that it starts meanwhile."""
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, most))


async def _attacked(
    name: str,
    attack: Attack,
    connections: int,
    hop: RunningHop,
    said: Said,
    other: Canary,
    short: bool,
) -> Finding:
    before, files = memory(hop), descriptors(hop)
    quiet: list[Measured] = []
    attacked: list[Measured] = []
    most = 0
    all_left = True
    for _ in range(1 if short else _ROUNDS):
        if not short:
            quiet.append(await asyncio.to_thread(other.sing, _SECONDS))
        attacking = asyncio.ensure_future(attack(hop.address, connections))
        await asyncio.sleep(_SHORT if short else _SECONDS)
        attacked.append(await asyncio.to_thread(other.sing, _SHORT if short else _SECONDS))
        most = max(most, memory(hop))
        attacking.cancel()
        with suppress(asyncio.CancelledError):
            await attacking
        # One count would not do: it rises when the hop accepts what an attacker has left behind.
        all_left = await _until(lambda: descriptors(hop) <= files + _SLACK) and all_left
    failed = sum(measured.failed for measured in (*quiet, *attacked))
    answered = sum(measured.answered for measured in attacked)
    slower = ""
    holds = True
    if not short:
        alone, beside = (median(it.median for it in rounds) for rounds in (quiet, attacked))
        slower = f", {alone * 1000:.2f} -> {beside * 1000:.2f} ms ({beside / alone:.2f})"
        holds = beside <= _SLOWER * alone
    growth = most - before
    return Finding(
        f"clients: {name}",
        f"{connections:,} connections, {answered:,} other requests",
        f"{failed} of those failed, {growth / MIB:.0f} MiB more{slower}",
        f"0, {_GROWTH // MIB} MiB{'' if short else f', at most {_SLOWER:g} times as slow'}",
        holds
        and not failed
        and answered > 0
        and growth <= _GROWTH
        and hop.process.poll() is None
        and not said.crashed
        and all_left,
    )


async def _until(is_true: Callable[[], bool]) -> bool:
    """Wait, for a while; whether it came true."""
    for _ in range(_POLLS):
        if is_true():
            return True
        await asyncio.sleep(0.02)
    return False


async def _inject() -> Finding:
    """Try to bring header lines and requests into the upstream's request."""
    async with recording() as recorder:
        with heard(upstream_url=recorder.url) as (hop, _):
            return await _injected(hop, recorder)


async def _injected(hop: RunningHop, recorder: Recorder) -> Finding:
    # RFC 9110 section 5.5, and what is a line end, or none of HTTP's.
    valid = {*range(0x20, 0x7F), *range(0x80, 0x100), 0x09}
    wrong: list[str] = []
    sent = 0
    for byte in range(256):
        value = b"a" + bytes([byte]) + b"b"
        for name in (b"x-lane", b"baggage"):
            recorder.lanes.clear()
            status = await _status(hop, shapes.get(name + b": " + value))
            sent += 1
            lanes = [value] if name == b"x-lane" and byte in valid else []
            if status != (200 if byte in valid else 400) or recorder.lanes != lanes:
                wrong.append(f"byte {byte}: {status} {recorder.lanes}")
    for rule, shape in shapes.REFUSED.items():
        recorder.lanes.clear()
        status = await _status(hop, shape + shapes.SMUGGLED)
        sent += 1
        if status != 400 or recorder.lanes:
            wrong.append(f"{rule}: {status} {recorder.lanes}")
    wrong += recorder.problems
    return Finding(
        "clients: header lines injected into the upstream request",
        f"{sent} tries, {recorder.calls} upstream calls",
        f"{len(wrong)}{''.join(f': {it}' for it in wrong[:1])}",
        "0",
        not wrong and recorder.calls > 0,
    )


async def _status(hop: RunningHop, sent: bytes) -> int:
    """The status of the first answer."""
    reader, writer = await asyncio.open_connection(hop.address, 8000)
    writer.write(sent)
    writer.write_eof()
    received = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    status = _STATUS.match(received)
    return int(status[1]) if status else 0
