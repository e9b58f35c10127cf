"""`python -m bench`: load each contender's three-hop chain, side by side, and tell the ratios."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from bench import chains, go_hop, report
from bench.contenders import CONTENDERS
from bench.load import Measurement, find_wrk, measure
from bench.processes import BenchError, MissingError, Processes

_ROUNDS: Final = 5
_SECONDS: Final = 4
_WARM_UP_SECONDS: Final = 1
_RECEIVER_HOST: Final = "127.70.0.1"
_RECEIVER: Final = f"http://{_RECEIVER_HOST}:{chains.PORT}/"


def main() -> int:
    """Run the bench.

    Returns:
        The exit code: 0 done, 1 a chain failed, 2 something is missing here, 130 interrupted.
    """
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="one short round each; leaves RESULTS.md alone"
    )
    quick = parser.parse_args().quick
    rounds, seconds = (1, 2) if quick else (_ROUNDS, _SECONDS)
    try:
        results = _run(rounds, seconds)
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2 if isinstance(error, MissingError) else 1
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted\n")
        return 130
    measured = report.section(results, seconds)
    print(f"\n{measured}")
    if not quick:
        report.write(measured)
        print(f"\nWritten to {report.RESULTS}")
    return 0


def _run(rounds: int, seconds: int) -> list[report.Result]:
    _check_machine()
    cores = sorted(os.sched_getaffinity(0))
    hop_core, load_core = cores[0], cores[-1]
    with Processes() as processes:
        _progress("building the hop in Go")
        go_hop.build(processes, load_core)
        _progress("starting the chains")
        command = [sys.executable, "-m", "bench.receiver", _RECEIVER_HOST, str(chains.PORT)]
        processes.start("receiver", command, load_core, {"PATH": os.environ["PATH"]})
        processes.wait_until(
            lambda: chains.fetch(_RECEIVER, {}) is not None, chains.START_TIMEOUT, "receiver"
        )
        running = [
            chains.start(processes, contender, number, hop_core, _RECEIVER)
            for number, contender in enumerate(CONTENDERS, 1)
        ]
        for chain in running:
            name = f"{chain.contender.name}: the chain's answer"
            processes.wait_until(chain.answers, chains.START_TIMEOUT, name)
        requests = [0] * len(running)
        measured: list[list[Measurement]] = [[] for _ in running]
        for number in range(1, rounds + 1):
            for index, chain in enumerate(running):
                _progress(f"round {number} of {rounds}: {chain.contender.name}")
                warm_up = measure(processes, chain, _WARM_UP_SECONDS, load_core)
                measurement = measure(processes, chain, seconds, load_core)
                measured[index].append(measurement)
                requests[index] += warm_up.requests + measurement.requests
        results = []
        for index, chain in enumerate(running):
            # Stopping a hop sends the spans that it still has.
            processes.stop(chain.hops)
            spans = None
            if chain.contender.traced:
                spans = _spans(index + 1) / requests[index]
            results.append(report.Result(chain.contender, measured[index], spans))
        return results


def _check_machine() -> None:
    """Look for everything before anything is started.

    Raises:
        MissingError: something is not here.
    """
    find_wrk()
    go_hop.find_go()
    for package in report.PACKAGES:
        try:
            version(package)
        except PackageNotFoundError:
            raise MissingError(f"{package} is not here: run it as `make bench`") from None
    if len(os.sched_getaffinity(0)) < 2:
        raise MissingError("two cores are needed, one for the hops and one for the load: one here")


def _spans(number: int) -> int:
    """The spans of contender `number` that came to the receiver."""
    count = chains.fetch(f"{_RECEIVER}{number}", {})
    if count is None:
        raise BenchError("receiver: no answer")
    return int(count)


def _progress(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
