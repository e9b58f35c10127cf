"""The chain of a contender: mocka -> mockb -> mockc, three processes on one core."""

from __future__ import annotations

import os
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.contenders import APPS, Contender, tracing_env

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.processes import Processes, Running

START_TIMEOUT: Final = 60.0
VERSION: Final = "v1"
PORT: Final = 8700

# A request in the middle of a trace and of a lane, as a gateway with both sends it.
HEADERS: Final = {
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "mesh=t61rcWkgMzE",
    "baggage": "version=v2,userId=alice",
    "x-request-id": "5f1b2c77-3f5e-4b0a-9c59-0d6a9d0f3f3e",
    "x-asm-prefer-tag": "v2",
}
# The same outside of the trace, so that asking whether a chain is up adds no spans to it.
_UNSAMPLED: Final = HEADERS | {"traceparent": HEADERS["traceparent"].removesuffix("01") + "00"}


@dataclass(frozen=True, slots=True)
class RunningChain:
    """The processes of a chain, first hop first, and where the first one answers."""

    contender: Contender
    hops: list[Running]
    url: str
    answer: str
    """What the whole chain has to say."""

    def answers(self) -> bool:
        """Whether all three hops do."""
        return fetch(self.url, _UNSAMPLED) == self.answer

    def cpu_time(self) -> float:
        """CPU time of all hops so far, in seconds."""
        return sum(hop.cpu_time() for hop in self.hops)

    def memory_per_hop(self) -> float:
        """Resident set size of the hops, their mean, in bytes."""
        return sum(hop.resident_memory() for hop in self.hops) / len(self.hops)


def start(
    processes: Processes, contender: Contender, number: int, core: int, receiver: str
) -> RunningChain:
    """Start the hops of contender `number`, on loopback addresses of their own."""
    addresses = [f"127.70.{number}.{hop}" for hop in range(1, len(APPS) + 1)]
    urls = [f"http://{address}:{PORT}/" for address in addresses]
    hops = []
    for app, address, upstream_url in zip(APPS, addresses, [*urls[1:], ""], strict=True):
        env = {
            "PATH": os.environ["PATH"],
            "app": app,
            "version": VERSION,
            "host": address,
            "port": str(PORT),
            "upstream_url": upstream_url,
            **contender.env,
        }
        if contender.traced:
            env |= tracing_env(app, f"{receiver}{number}")
        hops.append(processes.start(f"{contender.name}, {app}", contender.command, core, env))
    lines = zip(APPS, addresses, strict=True)
    answer = "".join(f"-> {app}(version: {VERSION}, ip: {ip})" for app, ip in lines)
    return RunningChain(contender, hops, urls[0], answer)


def fetch(url: str, headers: Mapping[str, str]) -> str | None:
    """The body of a 200 answer; None for any other answer, and for none."""
    # No proxy that the environment names may come between.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=5) as response:
            body: bytes = response.read()
            return body.decode()
    except OSError:
        return None
