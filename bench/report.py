"""The table of a run, and its place in RESULTS.md."""

from __future__ import annotations

import platform
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from bench.contenders import BENCH, SPANS_PER_REQUEST
from bench.go_hop import go_version
from bench.load import CONNECTIONS, Measurement, find_wrk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.contenders import Contender

RESULTS: Final = BENCH / "RESULTS.md"
_BEGIN: Final = "<!-- measured by `python -m bench`: what stands from here is written anew -->"
_END: Final = "<!-- end of what was measured -->"
PACKAGES: Final = (
    "aiohttp",
    "uvloop",
    "opentelemetry-sdk",
    "opentelemetry-distro",
    "opentelemetry-instrumentation-aiohttp-server",
    "opentelemetry-instrumentation-aiohttp-client",
)
"""What is measured that its version says something about."""
_COLUMNS: Final = (
    ("requests/s", "requests_per_second", ",.0f"),
    ("p50 ms", "p50", ".2f"),
    ("p99 ms", "p99", ".2f"),
    ("CPU µs/request", "cpu_per_request", ",.0f"),
    ("RSS MiB/hop", "memory_per_hop", ".1f"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """What one contender did in a run."""

    contender: Contender
    rounds: Sequence[Measurement]
    spans_per_request: float | None = None
    """Spans that came to the receiver; None for a contender that sends none."""

    def median(self, value: str) -> float:
        """The median over the rounds of one field of `Measurement`."""
        result: float = median(getattr(measurement, value) for measurement in self.rounds)
        return result


def section(results: Sequence[Result], seconds: int) -> str:
    """The table, the reference first, and under it where and how it was measured."""
    rounds = len(results[0].rounds)
    return f"""\
{_table(results)}

In parentheses: the ratio to {results[0].contender.name}. Medians of {rounds} interleaved
round{"s" * (rounds > 1)} of {seconds} s each. Three hops, each a process, all on one core; wrk with
{CONNECTIONS} connections on another one, beside the receiver of the spans. CPU is that of the three
hops together, resident memory the mean of the three after the load. Traced: every request is
sampled; *spans* is the part of its {SPANS_PER_REQUEST} spans that reached the receiver, the
rest the exporter's full queue dropped. The hops in Go and aiohttp do less than mockservice: they
have no JSON form, cut no circles and tell no readiness.

{_machine()}"""


def write(measured: str, path: Path = RESULTS) -> None:
    """Put `measured` in its place in the file; what stands around it stays."""
    marked = f"{_BEGIN}\n\n{measured}\n\n{_END}"
    text = path.read_text("utf-8") if path.exists() else "# The three-hop chain, measured\n"
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if begin and end:
        path.write_text(before + marked + after, "utf-8")
    else:
        path.write_text(f"{text.rstrip()}\n\n{marked}\n", "utf-8")


def _table(results: Sequence[Result]) -> str:
    rows = [["three hops", *(title for title, _, _ in _COLUMNS), "spans"]]
    for result in results:
        row = [result.contender.name]
        for _, value, form in _COLUMNS:
            measured = result.median(value)
            row.append(f"{measured:{form}} ({measured / results[0].median(value):.2f})")
        spans = result.spans_per_request
        # At its end wrk leaves requests in flight that it does not count; their spans still come.
        row.append("" if spans is None else f"{min(1.0, spans / SPANS_PER_REQUEST):.0%}")
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    rules = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines.insert(1, _line(rules, widths))
    return "\n".join(lines)


def _line(cells: list[str], widths: list[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return f"| {' | '.join(padded)} |"


def _machine() -> str:
    cpuinfo = Path("/proc/cpuinfo").read_text("utf-8")
    model = re.search(r"^model name\s*: (.*)", cpuinfo, re.MULTILINE)
    cores = len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE))
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    # Its version is all that this is asked for, and it exits with 1 even so.
    wrk = subprocess.run([find_wrk(), "-v"], check=False, capture_output=True, text=True)
    return (
        f"Measured on {model[1] if model else platform.machine()}, {cores} cores, "
        f"Linux {platform.release()}; Python {platform.python_version()}, "
        f"{go_version()}, {packages}, {' '.join(wrk.stdout.split()[:2])}."
    )
