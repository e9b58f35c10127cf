"""Start time: from exec to the first answer that says ready."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from bench import chains, markdown
from bench.contenders import BARE, HELLO, MOCKSERVICE, MOCKSERVICE_COMPILED
from bench.reach import Goal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.contenders import Contender
    from bench.run import Run

_EVERY: Final = 0.0005
"""Seconds between two readiness checks."""


@dataclass(frozen=True, slots=True)
class Startup:
    """The time of each start, in seconds."""

    hop: Sequence[float]
    compiled: Sequence[float]
    bare: Sequence[float]
    hello: Sequence[float]

    def goals(self) -> list[Goal]:
        """The start of the hop, plain and compiled."""
        what = "start, exec to `/readyz` 200, tracing not configured, ms"
        return [
            Goal(what, median(self.hop) * 1000, 60.0),
            Goal(f"compiled: {what}", median(self.compiled) * 1000, 60.0),
        ]

    def section(self) -> str:
        """The numbers, and how they were measured."""
        starts = markdown.count(len(self.hop), "interleaved start")
        text = f"""
            The hop takes {median(self.hop) * 1000:.0f} ms from exec to a 200 of `/readyz`, and
            compiled {median(self.compiled) * 1000:.0f} ms. A bare hop on uvloop and httptools takes
            {median(self.bare) * 1000:.0f} ms to its first 200, and the bare aiohttp server
            {median(self.hello) * 1000:.0f} ms. Another core checks every {_EVERY * 1000:g} ms.
            Medians of {starts}, with all modules compiled and in the page cache."""
        return f"## Start\n\n{markdown.paragraph(text)}"


def measure_startup(run: Run) -> Startup:
    """Start the hop, plain and compiled, the bare hop and the bare server, in turn."""
    starts = run.size(15, 3)
    contenders = (MOCKSERVICE, MOCKSERVICE_COMPILED, BARE, HELLO)
    for contender in contenders:
        _start(run, contender)
    rounds = []
    for number in range(1, starts + 1):
        run.tell(f"start {number} of {starts}")
        rounds.append([_start(run, contender) for contender in contenders])
    return Startup(*zip(*rounds, strict=True))


def _start(run: Run, contender: Contender) -> float:
    """The time of one start, in seconds."""
    chain = chains.start(run, contender, length=1)
    address = urlsplit(chain.url)
    request = f"GET {contender.ready} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode()

    def is_ready() -> bool:
        try:
            with socket.create_connection((address.hostname or "", chains.PORT), 5) as connection:
                connection.sendall(request)
                return connection.recv(1024).startswith(b"HTTP/1.1 200 ")
        except OSError:
            return False

    run.processes.wait_until(is_ready, chains.START_TIMEOUT, contender.name, _EVERY)
    seconds = time.perf_counter() - chain.hops[0].process.started
    chains.stop(run, [chain])
    return seconds
