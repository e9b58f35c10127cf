"""The throughput of each contender's chain: three hops, 16 connections."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from bench import chains, markdown
from bench.contenders import (
    AIOHTTP,
    AIOHTTP_TRACED,
    BARE,
    GO,
    GO_TIMEOUT,
    GO_TRACED,
    IMAGE,
    MOCKSERVICE,
    MOCKSERVICE_COMPILED,
    MOCKSERVICE_COMPILED_TRACED,
    MOCKSERVICE_IMAGE,
    MOCKSERVICE_IMAGE_TRACED,
    MOCKSERVICE_TRACED,
    Contender,
)
from bench.load import CONNECTIONS, Measurement, measure
from bench.reach import Goal
from bench.spans import SPANS_PER_REQUEST, Receiver

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.run import Run

_APART: Final = (
    GO,
    MOCKSERVICE,
    MOCKSERVICE_COMPILED,
    BARE,
    GO_TIMEOUT,
    AIOHTTP,
    GO_TRACED,
    MOCKSERVICE_TRACED,
    MOCKSERVICE_COMPILED_TRACED,
    AIOHTTP_TRACED,
)
"""The reference of all ratios, then the others."""
_TOGETHER: Final = (
    GO,
    MOCKSERVICE,
    MOCKSERVICE_COMPILED,
    GO_TRACED,
    MOCKSERVICE_TRACED,
    MOCKSERVICE_COMPILED_TRACED,
)
_OF_IMAGE: Final = (MOCKSERVICE_IMAGE, MOCKSERVICE_IMAGE_TRACED)
"""In both, if there is an image."""
_WARM_UP_SECONDS: Final = 1
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
    apart: Mapping[Contender, Result]
    """Each hop in a session of its own."""
    together: Mapping[Contender, Result]
    """All hops in one session."""

    @property
    def peak(self) -> float:
        """Requests per second of the reference."""
        return self.apart[GO].median("requests_per_second")

    def goals(self) -> list[Goal]:
        """The plain and the compiled chain against Go's and a bare one, untraced and traced."""
        apart, together = self.apart, self.together
        goals = []
        for own, traced, how in (
            (MOCKSERVICE, MOCKSERVICE_TRACED, ""),
            (MOCKSERVICE_COMPILED, MOCKSERVICE_COMPILED_TRACED, "compiled: "),
            (*_OF_IMAGE, "image: "),
        ):
            if own not in apart:
                continue
            goals += [
                _goal(f"{how}requests/s against Go's net/http, apart", apart, own, GO, 1.5),
                _goal(f"{how}the same, together", together, own, GO, 1.1),
                _goal(f"{how}against a bare uvloop + httptools chain", apart, own, BARE, 0.6),
                _goal(f"{how}traced, against Go's otelhttp, apart", apart, traced, GO_TRACED, 1.3),
                _goal(f"{how}the same, together", together, traced, GO_TRACED, 1.0),
            ]
        what = "requests/s, traced, against auto-instrumented aiohttp's"
        return [*goals, _goal(what, apart, MOCKSERVICE_TRACED, AIOHTTP_TRACED, 4.0)]

    def section(self) -> str:
        """The tables, and how they were measured."""
        rounds = markdown.count(len(self.apart[GO].rounds), "interleaved round")
        text = f"""
            In parentheses: the ratio to {GO.name}. Values and ratios are medians over {rounds} of
            {self.seconds} s each. Three hops, each in a process, share one core; wrk with
            {CONNECTIONS} connections and the receiver of the spans share another one. CPU time is
            the sum of the three hops, resident memory their mean after the load. Traced: all
            requests are sampled. *Spans* is the share of the {SPANS_PER_REQUEST} spans of a
            request that reached the receiver; the exporter's full queue dropped the others.
            *Apart*: each hop has a session of its own, and Linux shares the core evenly between
            sessions, as it does between pods. *Together*: all hops have the same session, as in a
            shell. *Compiled*: mypyc has compiled what a request goes through, as in the image
            (`make compiled`); *image*: the image's own files and Python, in a chroot; all else here
            is measured with the plain source. The hops in Go and aiohttp do less than mockservice:
            they have no JSON form, detect no loops, count nothing and have no readiness check.
            Those of {GO.name} have no timeouts, either, and the bare ones check nothing."""
        return "\n\n".join(
            [
                "## All that a chain can do",
                _table("apart", self.apart),
                _table("together", self.together),
                markdown.paragraph(text),
            ]
        )


def _goal(
    what: str, results: Mapping[Contender, Result], one: Contender, other: Contender, target: float
) -> Goal:
    ratio = results[one].ratio(results[other], "requests_per_second")
    return Goal(what, ratio, target, at_least=True)


def _table(title: str, results: Mapping[Contender, Result]) -> str:
    reference = results[GO]
    rows = [[f"three hops, {title}", *(column for column, _, _ in _COLUMNS), "spans"]]
    for contender, result in results.items():
        row = [contender.name]
        for _, value, form in _COLUMNS:
            ratio = result.ratio(reference, value)
            row.append(f"{result.median(value):{form}} ({ratio:.2f})")
        spans = result.spans_per_request
        # At its end wrk does not count requests in flight, but their spans are received.
        row.append("" if spans is None else f"{min(1.0, spans / SPANS_PER_REQUEST):.0%}")
        rows.append(row)
    return markdown.table(rows)


def measure_throughput(run: Run) -> Throughput:
    """Load the chains of all contenders in turn, round by round: apart, then together."""
    seconds = run.size(3, 1)
    of_image = _OF_IMAGE if IMAGE.exists() else ()
    apart = _measure(run, (*_APART, *of_image), seconds, together=False)
    together = _measure(run, (*_TOGETHER, *of_image), seconds, together=True)
    return Throughput(seconds, apart, together)


def _measure(
    run: Run, contenders: Sequence[Contender], seconds: int, *, together: bool
) -> dict[Contender, Result]:
    rounds = run.size(5, 1)
    how = "together" if together else "apart"
    run.tell(f"starting the chains, {how}")
    receiver = Receiver(run)
    running = [
        chains.start(run, contender, number, receiver=receiver.url, together=together)
        for number, contender in enumerate(contenders, 1)
    ]
    chains.wait(run, running)
    requests = [measure(run, chain, _WARM_UP_SECONDS).requests for chain in running]
    measured: list[list[Measurement]] = [[] for _ in running]
    for number in range(1, rounds + 1):
        for index, chain in enumerate(running):
            run.tell(f"{how}, round {number} of {rounds}: {chain.contender.name}")
            measurement = measure(run, chain, seconds)
            measured[index].append(measurement)
            requests[index] += measurement.requests
    chains.stop(run, running)
    results = {}
    for index, contender in enumerate(contenders):
        spans = receiver.spans(index + 1) / requests[index] if contender.traced else None
        results[contender] = Result(measured[index], spans)
    receiver.stop()
    return results
