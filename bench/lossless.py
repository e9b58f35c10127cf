"""Spans at half of a traced chain's peak rate: does one get lost?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench import chains, markdown
from bench.contenders import GO_TRACED, MOCKSERVICE_COMPILED_TRACED, MOCKSERVICE_TRACED, Contender
from bench.load import CONNECTIONS, measure_steadily
from bench.reach import Goal
from bench.spans import SPANS_PER_REQUEST, Receiver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.run import Run
    from bench.throughput import Throughput

_CONTENDERS: Final = (GO_TRACED, MOCKSERVICE_TRACED, MOCKSERVICE_COMPILED_TRACED)


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of the spans of one chain."""

    requests: int
    spans: int

    @property
    def lost(self) -> int:
        """Spans that did not arrive."""
        return self.requests * SPANS_PER_REQUEST - self.spans


@dataclass(frozen=True, slots=True)
class Lossless:
    """The spans of the traced chains."""

    seconds: float
    sent: Mapping[Contender, Sent]

    def goal(self) -> Goal:
        """None may be lost."""
        what = "spans lost at half of the traced chain's peak rate"
        own = (MOCKSERVICE_TRACED, MOCKSERVICE_COMPILED_TRACED)
        return Goal(what, sum(self.sent[contender].lost for contender in own), 0.0)

    def section(self) -> str:
        """The table, and how it was measured."""
        rows = [["at half of its peak rate", "requests", "spans", "lost"]]
        for contender, sent in self.sent.items():
            numbers = (sent.requests, sent.spans, sent.lost)
            rows.append([contender.name, *(f"{number:,}" for number in numbers)])
        text = f"""
            A constant rate for {self.seconds:g} s, half of what the same chain can do, over
            {CONNECTIONS} connections. The hops are stopped then, and flush their spans."""
        return f"## Spans\n\n{markdown.table(rows)}\n\n{markdown.paragraph(text)}"


def measure_lossless(run: Run, throughput: Throughput) -> Lossless:
    """Load each traced chain at half of its peak rate, and count its spans."""
    seconds = run.size(5.0, 1.0)
    receiver = Receiver(run)
    sent = {}
    for number, contender in enumerate(_CONTENDERS, 1):
        run.tell(f"spans at half of the peak rate: {contender.name}")
        chain = chains.start(run, contender, number, receiver=receiver.url)
        chains.wait(run, [chain])
        rate = throughput.apart[contender].median("requests_per_second") / 2
        requests = round(rate * seconds)
        measure_steadily(run, [chain], rate, seconds, CONNECTIONS)
        chains.stop(run, [chain])
        sent[contender] = Sent(requests, receiver.spans(number))
    receiver.stop()
    return Lossless(seconds, sent)
