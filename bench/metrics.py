"""CPU time to count one request in a hop's plain cells, and with two libraries."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from importlib import import_module
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, Gauge, Histogram

from bench import markdown
from mockservice.serve.telemetry.metrics import BOUNDS, Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.run import Run

_OWN: Final = "plain cells, as the hop does"
_STATUS: Final = 200
_SECONDS: Final = 0.0012
_LABELS: Final = {
    "app": "mocka",
    "version": "v1",
    "http_response_status_code": str(_STATUS),
    "error_type": "",
}
_HOP: Final = {name: _LABELS[name] for name in ("app", "version")}


@dataclass(frozen=True, slots=True)
class Counting:
    """Microseconds per request, for each way of counting and each round."""

    requests: int
    """Requests in each round."""
    rounds: Mapping[str, Sequence[float]]

    def section(self) -> str:
        """The table, and how it was measured."""
        rows = [["a request is counted by", "µs", "against the hop"]]
        for way, rounds in self.rounds.items():
            pairs = zip(rounds, self.rounds[_OWN], strict=True)
            ratio = median(other / own for other, own in pairs)
            rows.append([way, f"{median(rounds):.2f}", f"{ratio:.1f}"])
        count = markdown.count(len(self.rounds[_OWN]), "interleaved round")
        text = f"""
            Each request adds to the active requests, subtracts from them, and adds its duration to
            a histogram of {len(BOUNDS) + 1} buckets by status, without exemplars. The libraries
            look up labels before, as far as they can. Medians over {count} of {self.requests:,}
            requests in one process."""
        return f"## Counting\n\n{markdown.table(rows)}\n\n{markdown.paragraph(text)}"


def measure_counting(run: Run) -> Counting:
    """Count the same requests in each way, in turn."""
    rounds, requests = run.size(15, 3), run.size(20_000, 2_000)
    run.tell("counting")
    ways = {
        "OpenTelemetry's metrics SDK and Prometheus reader": _opentelemetry(),
        "prometheus-client's histogram and gauge": _prometheus_client(),
        _OWN: _own(),
    }
    measured: dict[str, list[float]] = {way: [] for way in ways}
    gc.disable()
    for _ in range(rounds):
        for way, one in ways.items():
            begun = perf_counter()
            for _ in range(requests):
                one()
            measured[way].append((perf_counter() - begun) / requests * 1e6)
    gc.enable()
    return Counting(requests, measured)


def _opentelemetry() -> Callable[[], None]:
    sdk: Any = import_module("opentelemetry.sdk.metrics")
    prometheus: Any = import_module("opentelemetry.exporter.prometheus")
    reader = prometheus.PrometheusMetricReader(registry=CollectorRegistry())
    meter = sdk.MeterProvider([reader], shutdown_on_exit=False).get_meter("bench")
    active = meter.create_up_down_counter("http.server.active_requests")
    durations = meter.create_histogram(
        "http.server.request.duration",
        unit="s",
        explicit_bucket_boundaries_advisory=list(BOUNDS),
    )

    def one() -> None:
        active.add(1, _HOP)
        active.add(-1, _HOP)
        durations.record(_SECONDS, _LABELS)

    return one


def _prometheus_client() -> Callable[[], None]:
    registry = CollectorRegistry()
    active = Gauge("active_requests", "", _HOP, registry=registry).labels(**_HOP)
    durations = Histogram(
        "request_duration_seconds", "", _LABELS, buckets=BOUNDS, registry=registry
    ).labels(**_LABELS)

    def one() -> None:
        active.inc()
        active.dec()
        durations.observe(_SECONDS)

    return one


def _own() -> Callable[[], None]:
    requests = Metrics().requests

    def one() -> None:
        requests.active += 1
        requests.add(_STATUS, None, _SECONDS)
        requests.active -= 1

    return one
