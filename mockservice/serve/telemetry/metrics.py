"""The metrics of a hop: requests, upstream calls and faults, counted in arrays of floats.

Names and bucket bounds are those of OpenTelemetry's semantic conventions for HTTP metrics.
Counting a request takes a few additions; `mockservice.serve.telemetry.exposition` renders the
counts as text. Each worker process counts in its own block of shared memory, and reads all blocks.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_left
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from mockservice.chain import FAILURE_KINDS
from mockservice.propagation import SAMPLED
from mockservice.serve.faults import FAULT_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mockservice.chain import Failure
    from mockservice.serve.settings import UpstreamUrl

    # A list, as it is faster, or shared memory if there are several processes.
    Cells = list[float] | memoryview[float]

BOUNDS: Final = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]
"""Upper bounds of the histograms' buckets but the last, in seconds ("Semantic conventions for HTTP
metrics", `http.server.request.duration`)."""

# Seconds until a bucket takes a new exemplar. Fewer exemplars take less CPU time.
_EXEMPLAR_AGE: Final = 1.0

OTHER: Final = -1
OTHER_ERROR: Final = -2
"""Stand for all unregistered statuses: those that are no errors, and those that are."""
REQUEST_ERRORS: Final = 500
CALL_ERRORS: Final = 400
"""The first status that is an error, of requests and of upstream calls ("HTTP metrics",
`error.type`)."""

CLIENT_CLOSED: Final = 499
"""The status of an answer that nobody waits for, as nginx logs it. It is never sent."""

# All values of the labels, so that clients and upstreams cannot create new series. Status 0 stands
# for no answer.
_STATUSES: Final = (
    0,
    *(status.value for status in HTTPStatus),
    CLIENT_CLOSED,
    OTHER,
    OTHER_ERROR,
)
_KINDS: Final = ("", *FAILURE_KINDS)

# A row is one time series: a cell with the sum of the durations, then a cell for each bucket.
_BUCKETS: Final = len(BOUNDS) + 1
_ROW: Final = 1 + _BUCKETS
_FIRST_END: Final = BOUNDS[0]
_ENDS: Final = (-1.0, *BOUNDS)
"""The first entry stands for the cell of the sum: the index of a bound is that of its cell."""
_ROWS: Final = len(_KINDS) * _ROW
"""Cells of one status."""
_ROW_OF_KIND: Final = {kind: place * _ROW for place, kind in enumerate(_KINDS)}

# The block of a process: single cells, the histogram of the requests, then for each upstream the
# histogram of the calls and the cells of the pool.
_HISTOGRAM: Final = len(_STATUSES) * _ROWS
_PID, _ACTIVE_REQUESTS = range(2)
_FAULTS: Final = 2
_REQUESTS: Final = _FAULTS + len(FAULT_KINDS)
_UPSTREAMS: Final = _REQUESTS + _HISTOGRAM
_POOL: Final = 2
_UPSTREAM: Final = _HISTOGRAM + _POOL
_CELL_SIZE: Final = 8


class Peer(NamedTuple):
    """The host and port of an upstream ("HTTP metrics", `server.address` and `server.port`)."""

    address: str
    port: int


class Pool(NamedTuple):
    """The number of open connections to an upstream."""

    active: int = 0
    """Connections with a call in flight."""
    idle: int = 0
    """Connections kept for later calls."""


Exemplar = tuple[bytes, float, float]
"""One request of a bucket: its `traceparent`, sampled but not checked, its duration in seconds, and
its end by `time.perf_counter`."""


class Series(NamedTuple):
    """The requests or calls with the same labels, of all processes."""

    status: int
    """0: no answer. `OTHER` and `OTHER_ERROR`: unregistered."""
    kind: str
    """One of `FAILURE_KINDS`, or empty: this hop did not find a failure."""
    counts: list[float]
    """The count of each bucket, not cumulative."""
    exemplars: list[Exemplar | None]
    """The exemplar of each bucket, from this process."""
    sum: float
    """The sum of the durations, in seconds."""


class Snapshot(NamedTuple):
    """The counts of all processes of the hop."""

    requests: list[Series]
    calls: dict[Peer, list[Series]]
    active_requests: int
    pools: dict[Peer, Pool]
    faults: dict[str, int]
    """Injected faults by kind."""
    pids: list[int]


class Durations:
    """A histogram of the durations of requests or upstream calls, by status and failure."""

    def __init__(self, cells: Cells, start: int, first_error: int) -> None:
        self._cells = cells
        self._first_error = first_error
        self._start = start
        rows = range(start, start + _HISTOGRAM, _ROWS)
        self._rows = {
            status or None: row
            for status, row in zip(_STATUSES, rows, strict=True)
            if status not in (OTHER, OTHER_ERROR)
        }
        self._row_of_200 = self._rows[200]
        self._rows_of_others = rows[-2:]
        self.active = 0
        """Requests in flight, of this process."""
        self.due = [0.0] * (start + _HISTOGRAM)
        """For each cell, when it takes its next exemplar, by `time.perf_counter`."""
        self._exemplars: dict[int, Exemplar] = {}

    def add(self, status: int | None, failure: Failure | None, seconds: float) -> int:
        """Count one request or call.

        Args:
            status: the status of the answer; None without an answer.
            failure: the failure, if this hop found one.
            seconds: the duration.

        Returns:
            The index of the cell that counts it.
        """
        # The hot path: a fifth of a microsecond (bench/RESULTS.md), less for a fast 200.
        cells = self._cells
        if status == 200 and seconds <= _FIRST_END and failure is None:
            row = self._row_of_200
            cells[row] += seconds
            cells[row + 1] += 1
            return row + 1
        row = self._rows.get(status, -1)
        if row < 0:
            row = self._rows_of_others[(status or 0) >= self._first_error]
        if failure is not None:
            row += _ROW_OF_KIND[failure.kind]
        cell = row + bisect_left(_ENDS, seconds)
        cells[row] += seconds
        cells[cell] += 1
        return cell

    def show(self, cell: int, traceparent: bytes | None, seconds: float, now: float) -> None:
        """Make this request the exemplar of its bucket, if its trace is sampled."""
        if traceparent is not None and traceparent[-1:] in SAMPLED:
            self._exemplars[cell] = (traceparent, seconds, now)
            self.due[cell] = now + _EXEMPLAR_AGE

    def series(self, cells: list[float]) -> Iterator[Series]:
        """The time series that are not empty, from `cells`, the sums over all processes."""
        row = self._start
        for status in _STATUSES:
            for kind in _KINDS:
                buckets = range(row + 1, row + _ROW)
                counts = cells[buckets.start : buckets.stop]
                if any(counts):
                    yield Series(
                        status, kind, counts, [*map(self._exemplars.get, buckets)], cells[row]
                    )
                row += _ROW


class Metrics:
    """The metrics of a hop. Create it before forking; then each process takes its block."""

    def __init__(self, processes: int = 1, upstreams: Sequence[UpstreamUrl] = ()) -> None:
        # URLs of the same host and port share the same series.
        self._peers = list(dict.fromkeys(map(_peer, upstreams)))
        size = _UPSTREAMS + len(self._peers) * _UPSTREAM
        self._blocks: list[Cells] = [[0.0] * size]
        if processes > 1:
            shared = memoryview(mmap.mmap(-1, processes * size * _CELL_SIZE)).cast("d")
            self._blocks = [shared[start : start + size] for start in range(0, len(shared), size)]
        self._pools: dict[Peer, list[Callable[[], Pool]]] = {peer: [] for peer in self._peers}
        self.take(0)

    def take(self, process: int) -> None:
        """Count in the block of this process; the first process is 0."""
        self._own = self._blocks[process]
        self._own[_PID] = os.getpid()
        self.requests = Durations(self._own, _REQUESTS, REQUEST_ERRORS)
        self._calls = {
            peer: Durations(self._own, start, CALL_ERRORS) for peer, start in self._starts()
        }

    def calls(self, upstream: UpstreamUrl) -> Durations:
        """The histogram of the calls to an upstream."""
        return self._calls[_peer(upstream)]

    def count_fault(self, kind: str) -> None:
        """Count one injected fault of `FAULT_KINDS`."""
        self._own[_FAULTS + FAULT_KINDS.index(kind)] += 1

    def watch(self, upstream: UpstreamUrl, pool: Callable[[], Pool]) -> None:
        """Publish the connections to an upstream, which `pool` reports."""
        self._pools[_peer(upstream)].append(pool)

    def publish(self) -> None:
        """Write the gauges into the block. Counters are there already."""
        self._own[_ACTIVE_REQUESTS] = self.requests.active
        for peer, start in self._starts():
            pools = [pool() for pool in self._pools[peer]]
            self._own[start + _HISTOGRAM] = sum(pool.active for pool in pools)
            self._own[start + _HISTOGRAM + 1] = sum(pool.idle for pool in pools)

    def snapshot(self) -> Snapshot:
        """The counts of all processes so far. Thread-safe."""
        blocks = [list(block) for block in self._blocks]
        cells = blocks[0] if len(blocks) == 1 else [sum(cell) for cell in zip(*blocks, strict=True)]
        return Snapshot(
            list(self.requests.series(cells)),
            {peer: list(calls.series(cells)) for peer, calls in self._calls.items()},
            int(cells[_ACTIVE_REQUESTS]),
            {
                peer: Pool(int(cells[start + _HISTOGRAM]), int(cells[start + _HISTOGRAM + 1]))
                for peer, start in self._starts()
            },
            {kind: int(cells[_FAULTS + place]) for place, kind in enumerate(FAULT_KINDS)},
            # A process that has just started has not written its pid yet.
            [int(block[_PID]) for block in blocks if block[_PID]],
        )

    def _starts(self) -> Iterator[tuple[Peer, int]]:
        """Where the cells of each upstream start."""
        for place, peer in enumerate(self._peers):
            yield peer, _UPSTREAMS + place * _UPSTREAM


def _peer(upstream: UpstreamUrl) -> Peer:
    return Peer(upstream.host, upstream.port)
