"""The throughput of each contender's chain: three hops, 16 connections."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from bench import chains, markdown
from bench.contenders import (
    AIOHTTP,
    AIOHTTP_TRACED,
    GO,
    MOCKSERVICE,
    MOCKSERVICE_TRACED,
    Contender,
)
from bench.load import CONNECTIONS, Measurement, measure
from bench.processes import BenchError
from bench.reach import Goal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.run import Run

CONTENDERS: Final = (GO, MOCKSERVICE, MOCKSERVICE_TRACED, AIOHTTP, AIOHTTP_TRACED)
"""The reference of all ratios, then the others."""
_SPANS_PER_REQUEST: Final = 2 * chains.LENGTH - 1
"""A server span for each hop, and a client span for each call between them."""
_WARM_UP_SECONDS: Final = 1
_RECEIVER_HOST: Final = "127.70.0.1"
_RECEIVER: Final = f"http://{_RECEIVER_HOST}:{chains.PORT}/"
_COLUMNS: Final = (
    ("requests/s", "requests_per_second", ",.0f"),
    ("p50 ms", "p50", ".2f"),
    ("p99 ms", "p99", ".2f"),
    ("CPU µs/request", "cpu_per_request", ",.0f"),
    ("RSS MiB/hop", "memory_per_hop", ".1f"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """The results of one contender."""

    rounds: Sequence[Measurement]
    spans_per_request: float | None
    """Spans at the receiver; None for a contender that sends none."""

    def median(self, value: str) -> float:
        """The median of a field of `Measurement` over all rounds."""
        return median(self._values(value))

    def ratio(self, other: Result, value: str) -> float:
        """The median over all rounds of the ratio to `other` in the same round."""
        pairs = zip(self._values(value), other._values(value), strict=True)
        return median(own / others for own, others in pairs)

    def _values(self, value: str) -> list[float]:
        return [getattr(measurement, value) for measurement in self.rounds]


@dataclass(frozen=True, slots=True)
class Throughput:
    """The results of all contenders."""

    seconds: int
    results: Mapping[Contender, Result]

    @property
    def peak(self) -> float:
        """Requests per second of the reference."""
        return self.results[GO].median("requests_per_second")

    def ratio(self, one: Contender, other: Contender) -> float:
        """The ratio of their requests per second."""
        return self.results[one].ratio(self.results[other], "requests_per_second")

    def goals(self) -> list[Goal]:
        """The chain against Go's, and the traced one against auto-instrumented aiohttp's."""
        return [
            Goal(
                "requests/s of the chain, tracing not configured, against Go's net/http chain",
                self.ratio(MOCKSERVICE, GO),
                1.0,
                at_least=True,
            ),
            Goal(
                "requests/s of the chain, all traced and exported, against auto-instrumented "
                "aiohttp's",
                self.ratio(MOCKSERVICE_TRACED, AIOHTTP_TRACED),
                4.0,
                at_least=True,
            ),
        ]

    def section(self) -> str:
        """The table, and how it was measured."""
        reference = self.results[GO]
        rows = [["three hops", *(title for title, _, _ in _COLUMNS), "spans"]]
        for contender, result in self.results.items():
            row = [contender.name]
            for _, value, form in _COLUMNS:
                ratio = result.ratio(reference, value)
                row.append(f"{result.median(value):{form}} ({ratio:.2f})")
            spans = result.spans_per_request
            # At its end wrk does not count requests in flight, but their spans are received.
            row.append("" if spans is None else f"{min(1.0, spans / _SPANS_PER_REQUEST):.0%}")
            rows.append(row)
        rounds = markdown.count(len(reference.rounds), "interleaved round")
        text = f"""
            In parentheses: the ratio to {GO.name}. Values and ratios are medians over {rounds} of
            {self.seconds} s each. Three hops, each in a process, share one core; wrk with
            {CONNECTIONS} connections and the receiver of the spans share another one. CPU time is
            the sum of the three hops, resident memory their mean after the load. Traced: all
            requests are sampled. *Spans* is the share of the {_SPANS_PER_REQUEST} spans of a
            request that reached the receiver; the exporter's full queue dropped the others. The
            hops in Go and aiohttp do less than mockservice: they have no JSON form, detect no loops
            and have no readiness check."""
        return f"## All that a chain can do\n\n{markdown.table(rows)}\n\n{markdown.paragraph(text)}"


def measure_throughput(run: Run) -> Throughput:
    """Load the chains of all contenders in turn, round by round."""
    rounds, seconds = run.size(5, 1), run.size(4, 1)
    run.tell("starting the chains")
    command = [sys.executable, "-m", "bench.receiver", _RECEIVER_HOST, str(chains.PORT)]
    env = {"PATH": os.environ["PATH"]}
    receiver = run.processes.start("receiver", command, [run.load_core], env)
    run.processes.wait_until(
        lambda: chains.fetch(_RECEIVER, {}) is not None, chains.START_TIMEOUT, "receiver"
    )
    running = [
        chains.start(run, contender, number, receiver=_RECEIVER)
        for number, contender in enumerate(CONTENDERS, 1)
    ]
    chains.wait(run, running)
    requests = [0] * len(running)
    measured: list[list[Measurement]] = [[] for _ in running]
    for number in range(1, rounds + 1):
        for index, chain in enumerate(running):
            run.tell(f"round {number} of {rounds}: {chain.contender.name}")
            warm_up = measure(run, chain, _WARM_UP_SECONDS)
            measurement = measure(run, chain, seconds)
            measured[index].append(measurement)
            requests[index] += warm_up.requests + measurement.requests
    chains.stop(run, running)
    results = {}
    for index, contender in enumerate(CONTENDERS):
        spans = _spans(index + 1) / requests[index] if contender.traced else None
        results[contender] = Result(measured[index], spans)
    run.processes.stop([receiver])
    return Throughput(seconds, results)


def _spans(number: int) -> int:
    """The spans of contender `number` at the receiver."""
    count = chains.fetch(f"{_RECEIVER}{number}", {})
    if count is None:
        raise BenchError("receiver: no answer")
    return int(count)
