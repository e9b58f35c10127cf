"""`python -m bench`: measure the hop beside its references, and compare with the goals."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.metadata import PackageNotFoundError, version

from bench import go_hop, reach, report
from bench.contenders import COMPILED
from bench.growth import measure_growth
from bench.load import find_wrk
from bench.lossless import measure_lossless
from bench.memory import measure_memory
from bench.metrics import measure_counting
from bench.processes import BenchError, MissingError, Processes
from bench.run import Run
from bench.startup import measure_startup
from bench.tail import measure_tail
from bench.throughput import measure_throughput
from bench.trees import measure_trees
from bench.workers import measure_workers


def main() -> int:
    """Run the bench.

    Returns:
        The exit code: 0 done, 1 a chain failed, 2 a tool or package is missing, 130 interrupted.
    """
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="short rounds; does not write RESULTS.md"
    )
    quick = parser.parse_args().quick
    try:
        measured = _measure(quick)
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2 if isinstance(error, MissingError) else 1
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted\n")
        return 130
    print(f"\n{measured}")
    if not quick:
        report.write(measured)
        print(f"\nWritten to {report.RESULTS}")
    return 0


def _measure(quick: bool) -> str:
    """Measure everything, and return the text for RESULTS.md."""
    _check_machine()
    cores = sorted(os.sched_getaffinity(0))
    with Processes() as processes:
        run = Run(processes, hop_core=cores[0], load_core=cores[-1], quick=quick)
        # This process leaves the hop's core alone.
        os.sched_setaffinity(0, {run.load_core})
        run.tell("building the hops in Go")
        go_hop.build(processes, run.load_core)
        throughput = measure_throughput(run)
        lossless = measure_lossless(run, throughput)
        tail = measure_tail(run, throughput)
        memory = measure_memory(run)
        startup = measure_startup(run)
        growth = measure_growth(run)
        trees = measure_trees(run)
        workers = measure_workers(run)
        counting = measure_counting(run)
    parts = (throughput, lossless, tail, memory, startup, growth, trees, workers, counting)
    sections = [part.section() for part in parts]
    goals = [
        *throughput.goals(),
        lossless.goal(),
        *tail.goals(),
        *memory.goals(),
        *startup.goals(),
        *growth.goals(),
        trees.goal(),
        workers.goal(),
    ]
    return "\n\n".join([*sections, reach.section(goals), report.machine()])


def _check_machine() -> None:
    """Check that all tools, packages and cores are there before anything starts.

    Raises:
        MissingError: one is missing.
    """
    find_wrk()
    go_hop.find_go()
    if not COMPILED.exists():
        raise MissingError(f"{COMPILED} is missing: run `make compiled`")
    for package in report.PACKAGES:
        try:
            version(package)
        except PackageNotFoundError:
            raise MissingError(f"{package} is missing: run `make bench`") from None
    if len(os.sched_getaffinity(0)) < 2:
        raise MissingError("only one core: the hops need one, and the load another")


if __name__ == "__main__":
    sys.exit(main())
