"""Collectors that misbehave cost requests nothing, and no hop its memory or its exit."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

import uvloop

from tests.misbehaving import dribble, endless, hang, reset
from tests.proof.finding import Extent, Finding, Ratio
from tests.proof.load import Load
from tests.proof.processes import EXIT_TIMEOUT, MIB, Said, memory, peak_memory, stop
from tests.running import answering, new_address, peer, read_head, running, running_chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.running import RunningHop

_PAIRS = 8
_RATIO = 0.9
"""Of the throughput with a collector that is well."""
_GROWTH = 32 * MIB
"""Of a hop: 2048 spans that wait and 512 that are being sent, and what a load takes anyway."""
_OVER = 3.0
"""Seconds that an export gets to come to its end, which not all do."""
_TAKEN = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)

_Serve = Callable[[socket.socket], None] | None
"""None: nobody listens."""


def _take(after: float = 0.0) -> Callable[[socket.socket], None]:
    """Take exports, `after` so many seconds each."""

    def serve(connection: socket.socket) -> None:
        while head := read_head(connection):
            head, _, body = head.partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            left = int(length[1]) - len(body) if length else 0
            while left > 0 and (part := connection.recv(min(left, 65536))):
                left -= len(part)
            time.sleep(after)
            connection.sendall(_TAKEN)

    return serve


_COLLECTORS: dict[str, _Serve] = {
    "hangs": hang,
    "refuses": None,
    "resets": reset,
    "answers garbage": answering(bytes(range(256)) * 16),
    "never ends its answer": endless(_TAKEN.replace(b": 0", b": %d" % 2**30), b"x" * 65536),
    "answers 503 each time": answering(
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
    ),
    "redirects to itself, at length": endless(
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\n"
        b"Content-Length: %d\r\n\r\n" % (100 * MIB),
        b"x" * 65536,
    ),
    "is slow": _take(after=2.0),
    "dribbles": dribble(_TAKEN[:-4], b"x", 0.2),
}
_IN_SHORT = (
    "hangs",
    "answers garbage",
    "never ends its answer",
    "redirects to itself, at length",
)


class _Exports:
    """Where hops export to."""

    def __init__(self, serve: _Serve) -> None:
        self._serve = serve
        self._is_over = threading.Event()

    def env(self, stack: ExitStack) -> dict[str, str]:
        """The setting of the hops."""
        url = f"http://{new_address()}:4318"
        if self._serve is not None:
            url = stack.enter_context(peer(self._take, read=False)).url
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": url}

    def _take(self, connection: socket.socket) -> None:
        assert self._serve is not None
        try:
            self._serve(connection)
        finally:
            self._is_over.set()

    def wait(self) -> None:
        """Until the collector is done with one export, so that its cost is to be seen."""
        if self._serve is not None:
            self._is_over.wait(_OVER)


def prove(extent: Extent) -> Iterator[Finding]:
    """Run two chains, each with another collector."""
    with ExitStack() as stack:
        healthy = [] if extent.short else _chain(stack, _Exports(_take()))
        for what in _IN_SHORT if extent.short else _COLLECTORS:
            exports = _Exports(_COLLECTORS[what])
            with ExitStack() as inner:
                chain = (_hop if extent.short else _chain)(inner, exports)
                yield from _compared(what, healthy, chain, exports, extent)


def _chain(stack: ExitStack, exports: _Exports) -> list[RunningHop]:
    """Three hops."""
    return _listened_to(stack.enter_context(running_chain(**exports.env(stack))))


def _hop(stack: ExitStack, exports: _Exports) -> list[RunningHop]:
    """As `_chain`, of one hop."""
    return _listened_to([stack.enter_context(running(**exports.env(stack)))])


def _listened_to(hops: list[RunningHop]) -> list[RunningHop]:
    for hop in hops:
        Said(hop)
    return hops


def _compared(
    what: str,
    healthy: list[RunningHop],
    hops: list[RunningHop],
    exports: _Exports,
    extent: Extent,
) -> Iterator[Finding]:
    what = f"collectors: one that {what}"
    before = [memory(hop) for hop in hops]
    loads: list[Load] = []
    if extent.short:
        loads.append(_load(hops, count=2000))
    else:
        pairs = []
        for number in range(_PAIRS):
            # Each of them is first in turn.
            order = (hops, healthy) if number % 2 else (healthy, hops)
            speeds = {}
            for chain in order:
                load = _load(chain, count=4000)
                speeds[id(chain)] = load.done / load.seconds
                loads.append(load)
            pairs.append((speeds[id(hops)], speeds[id(healthy)]))
        ratio = Ratio.of(pairs)
        yield Finding(
            f"{what}: throughput",
            f"{_PAIRS} pairs of rounds",
            f"{ratio.median:.2f} of that with a good one, spread {ratio.spread:.2f}",
            f"at least {_RATIO}",
            ratio.is_at_least(_RATIO),
        )
    exports.wait()
    failed = sum(len(load.failed) for load in loads)
    done = sum(load.done for load in loads)
    growth = max(peak_memory(hop) - size for hop, size in zip(hops, before, strict=True))
    is_clean, seconds = stop(*hops)
    in_time = extent.within(EXIT_TIMEOUT)
    yield Finding(
        what,
        f"{done:,} requests",
        f"{failed} failed, {growth / MIB:.0f} MiB more, exit {'0' if is_clean else 'not 0'}",
        f"0 failed, {_GROWTH // MIB} MiB, exit 0 in {in_time:g} s",
        not failed and growth <= _GROWTH and is_clean and seconds <= in_time,
    )


def _load(hops: list[RunningHop], count: int) -> Load:
    line = "".join(hop.line for hop in hops).encode()
    load = Load(
        hops[0].address,
        lambda status, body: (status, body) == (200, line),
        connections=4,
        depth=4,
        count=count,
    )
    uvloop.run(load.run())
    return load
