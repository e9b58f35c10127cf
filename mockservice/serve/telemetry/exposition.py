"""Metrics as text, by prometheus-client. Imported with the first scrape, to save memory."""

from __future__ import annotations

import re
from functools import partial
from time import perf_counter, time
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from prometheus_client.core import (
    CounterMetricFamily,
    Exemplar,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest as prometheus_text
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics_text
from prometheus_client.process_collector import ProcessCollector

from mockservice.propagation import TRACEPARENT
from mockservice.serve.telemetry.metrics import BOUNDS, CALL_ERRORS, OTHER_ERROR, REQUEST_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mockservice.serve.telemetry.metrics import Series, Snapshot

_UPPER_ENDS: Final = [*map(str, BOUNDS), "+Inf"]
_HOP: Final = ["app", "version"]
_PEER: Final = ["server_address", "server_port"]
_OUTCOME: Final = ["http_response_status_code", "error_type"]


def text(app: str, version: str, snapshot: Snapshot, *, open_metrics: bool) -> bytes:
    """The metrics of a hop in OpenMetrics 1.0, or in the Prometheus text format 0.0.4."""
    page = _Page([app, version], snapshot)
    if open_metrics:
        return cast("bytes", open_metrics_text(page))  # type: ignore[no-untyped-call]
    return prometheus_text(page)


class _Page(NamedTuple):
    """A collector for prometheus-client."""

    hop: list[str]
    snapshot: Snapshot

    def collect(self) -> Iterator[Metric]:
        snapshot = self.snapshot
        requests = HistogramMetricFamily(
            "http_server_request_duration_seconds",
            "How long requests took to answer.",
            labels=[*_HOP, *_OUTCOME],
            unit="seconds",
        )
        _add(requests, self.hop, snapshot.requests, first_error=REQUEST_ERRORS)
        yield requests
        active = GaugeMetricFamily(
            "http_server_active_requests", "Requests that are being answered.", labels=_HOP
        )
        active.add_metric(self.hop, snapshot.active_requests)
        yield active
        calls = HistogramMetricFamily(
            "http_client_request_duration_seconds",
            "How long upstream calls took.",
            labels=[*_HOP, *_PEER, *_OUTCOME],
            unit="seconds",
        )
        for peer, series in snapshot.calls.items():
            _add(calls, [*self.hop, *map(str, peer)], series, first_error=CALL_ERRORS)
        yield calls
        pools = GaugeMetricFamily(
            "http_client_open_connections",
            "Connections to the upstreams.",
            labels=[*_HOP, *_PEER, "http_connection_state"],
        )
        for peer, pool in snapshot.pools.items():
            for state, connections in pool._asdict().items():
                pools.add_metric([*self.hop, *map(str, peer), state], connections)
        yield pools
        faults = CounterMetricFamily(
            "mockservice_injected_faults", "Faults on demand.", labels=[*_HOP, "fault"]
        )
        for kind, count in snapshot.faults.items():
            faults.add_metric([*self.hop, kind], count)
        yield faults
        yield from _processes(snapshot.pids)


def _add(
    histogram: HistogramMetricFamily,
    labels: Sequence[str],
    all_series: Sequence[Series],
    first_error: int,
) -> None:
    """Add time series. Statuses from `first_error` on are errors ("HTTP metrics", `error.type`)."""
    for series in all_series:
        status = "_OTHER" if series.status < 0 else str(series.status or "")
        is_error = series.status >= first_error or series.status == OTHER_ERROR
        error_type = series.kind or (status if is_error else "")
        histogram.add_metric([*labels, status, error_type], _buckets(series), series.sum)


def _buckets(series: Series) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    """For each bucket its upper bound, the cumulative count, and the exemplar if there is one."""
    buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    total = 0.0
    for upper_end, count, latest in zip(_UPPER_ENDS, series.counts, series.exemplars, strict=True):
        total += count
        exemplar = _exemplar(*latest) if latest else None
        buckets.append((upper_end, total, exemplar) if exemplar else (upper_end, total))
    return buckets


def _exemplar(traceparent: bytes, seconds: float, ended: float) -> Exemplar | None:
    context = re.fullmatch(TRACEPARENT, traceparent)
    if context is None:
        return None
    labels = {"trace_id": context[1].decode(), "span_id": context[2].decode()}
    return Exemplar(labels, seconds, round(time() - (perf_counter() - ended), 3))


def _processes(pids: Sequence[int]) -> Iterator[Metric]:
    """The standard process metrics, summed over `pids`. None without /proc."""
    values: dict[str, list[float]] = {}
    families: dict[str, Metric] = {}
    for pid in pids:
        for family in ProcessCollector(pid=partial(int, pid), registry=None).collect():
            families[family.name] = family
            values.setdefault(family.name, []).append(family.samples[0].value)
    for name, family in families.items():
        # The start of the hop is the start of its oldest process.
        value = min(values[name]) if name == "process_start_time_seconds" else sum(values[name])
        kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
        yield kind(name, family.documentation, value=value)
