"""Load on a chain: the maximum with wrk, or a constant rate with `bench.steady`."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench import steady
from bench.chains import HEADERS
from bench.contenders import BENCH
from bench.processes import BenchError, MissingError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from bench.chains import RunningChain
    from bench.run import Run

CONNECTIONS: Final = 16
_MARK: Final = "BENCH "
"""The start of the line that `wrk.lua` prints."""


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


@dataclass(frozen=True, slots=True)
class SteadyMeasurement:
    """One load at a constant rate."""

    p50: float
    """Median latency in milliseconds, from the scheduled time of a request."""
    p99: float
    longest: float
    cpu_per_request: float
    """CPU time of all hops together, in microseconds."""


def find_wrk() -> str:
    """The path of wrk.

    Raises:
        MissingError: it is not installed.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise MissingError(
            "wrk is not on the PATH: install it, for example with apt-get install wrk"
        )
    return wrk


def measure(
    run: Run,
    chain: RunningChain,
    seconds: int,
    *,
    connections: int = CONNECTIONS,
    headers: Mapping[str, str] = HEADERS,
    cores: Collection[int] | None = None,
) -> Measurement:
    """Load `chain` for `seconds` with as many requests as it can answer.

    Args:
        run: this run.
        chain: the chain to load.
        seconds: the duration.
        connections: the number of connections, each with one request in flight.
        headers: the headers of all requests.
        cores: where wrk runs, a thread for each (default: on the load's core).

    Raises:
        BenchError: a request failed.
    """
    cores = cores or [run.load_core]
    carried = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    options = [f"-t{len(cores)}", f"-c{connections}", f"-d{seconds}s"]
    script = ["-s", str(BENCH / "wrk.lua")]
    before = chain.cpu_time()
    wrk = run.processes.start(
        f"wrk on {chain.contender.name}",
        [find_wrk(), *options, *script, *carried, chain.url],
        cores,
        {"PATH": os.environ["PATH"]},
    )
    output = run.processes.wait(wrk, seconds + 15.0)
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
        memory_per_hop=chain.memory_per_hop(),
    )


def measure_steadily(
    run: Run, chains: Sequence[RunningChain], rate: float, seconds: float, connections: int
) -> SteadyMeasurement:
    """Load `chains` with `rate` requests per second in total, in turn (see `bench.steady`).

    Raises:
        BenchError: a request failed.
    """
    requests = round(rate * seconds)
    targets = [f"{chain.url}={chain.answer}" for chain in chains]
    options = [str(connections), str(rate), str(requests), json.dumps(HEADERS)]
    before = sum(chain.cpu_time() for chain in chains)
    load = run.processes.start(
        f"steady load on {chains[0].contender.name}",
        [sys.executable, "-m", "bench.steady", *options, *targets],
        [run.load_core],
        {"PATH": os.environ["PATH"]},
    )
    output = run.processes.wait(load, seconds + steady.GRACE_PERIOD + 15.0)
    cpu_time = sum(chain.cpu_time() for chain in chains) - before
    latencies = sorted(json.loads(output))
    return SteadyMeasurement(
        p50=latencies[requests // 2] * 1000,
        p99=latencies[requests * 99 // 100] * 1000,
        longest=latencies[-1] * 1000,
        cpu_per_request=cpu_time / requests * 1e6,
    )
