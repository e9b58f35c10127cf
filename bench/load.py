"""Load on a chain by wrk, and what it says about it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.chains import HEADERS
from bench.contenders import BENCH
from bench.processes import BenchError, MissingError

if TYPE_CHECKING:
    from bench.chains import RunningChain
    from bench.processes import Processes

CONNECTIONS: Final = 16
_MARK: Final = "BENCH "
"""What `wrk.lua` starts its line with."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One load on one chain."""

    requests: int
    requests_per_second: float
    p50: float
    """Median latency in milliseconds."""
    p99: float
    cpu_per_request: float
    """CPU time of all hops together, in microseconds."""
    memory_per_hop: float
    """Resident set size after the load, in MiB."""


def find_wrk() -> str:
    """The path of wrk.

    Raises:
        MissingError: it is not installed.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise MissingError("wrk is not on the PATH: install it, such as by apt-get install wrk")
    return wrk


def measure(processes: Processes, chain: RunningChain, seconds: int, core: int) -> Measurement:
    """Load `chain` from `core` for `seconds`.

    Raises:
        BenchError: a request failed.
    """
    headers = [part for name, value in HEADERS.items() for part in ("-H", f"{name}: {value}")]
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(BENCH / "wrk.lua")]
    before = chain.cpu_time()
    wrk = processes.start(
        f"wrk on {chain.contender.name}",
        [find_wrk(), *options, *headers, chain.url],
        core,
        {"PATH": os.environ["PATH"]},
    )
    output = processes.wait(wrk, seconds + 15.0)
    cpu_time = chain.cpu_time() - before
    line = output.partition(_MARK)[2].partition("\n")[0]
    if not line:
        raise BenchError(f"{wrk.name}: no numbers in {output!r}")
    requests, duration, p50, p99, errors = map(int, line.split())
    if errors or not requests:
        raise BenchError(f"{wrk.name}: {errors} of {requests} requests failed")
    return Measurement(
        requests=requests,
        requests_per_second=requests / duration * 1e6,
        p50=p50 / 1000,
        p99=p99 / 1000,
        cpu_per_request=cpu_time / requests * 1e6,
        memory_per_hop=chain.memory_per_hop() / 2**20,
    )
