"""What a hop counts: its requests and its upstream calls, in plain cells of shared memory.

Names and boundaries are those of OpenTelemetry's semantic conventions for HTTP metrics. A request
costs a few additions: `mockservice.serve.telemetry.exposition` renders the cells as text when
somebody asks. Each process of a hop counts into a block of its own, which all of them read.
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
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mockservice.chain import Failure

    # A list is faster, memory can be shared.
    Cells = list[float] | memoryview[float]

BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper ends of the histograms' buckets in seconds, but the last one's ("Semantic conventions for
HTTP metrics", `http.server.request.duration`)."""

# Seconds that a bucket keeps its exemplar at least: one in a while is enough, and costs less.
_EXEMPLAR_AGE: Final = 1.0

OTHER: Final = -1
OTHER_ERROR: Final = -2
"""These stand for all statuses that are not registered."""
REQUEST_ERRORS: Final = 500
CALL_ERRORS: Final = 400
"""From this status on a request, or an upstream call, has failed ("HTTP metrics", `error.type`)."""

# All that the labels may say, so that neither clients nor upstreams make new series: no status
# where none was received, and one value for those that are not registered.
_STATUSES: Final = (0, *(status.value for status in HTTPStatus), OTHER, OTHER_ERROR)
_KINDS: Final = ("", *FAILURE_KINDS)

# A row counts what has the same labels: the sum of the seconds, then a cell for each bucket.
_BUCKETS: Final = len(BOUNDS) + 1
_ROW: Final = 1 + _BUCKETS
_FIRST_END: Final = BOUNDS[0]
_ENDS: Final = (-1.0, *BOUNDS)
"""With the sum's cell in front, so that a bucket's place among them is its place in the row."""
_ROWS: Final = len(_KINDS) * _ROW
"""Those of one status."""
_ROW_OF_KIND: Final = {kind: place * _ROW for place, kind in enumerate(_KINDS)}

# A process's block: its two histograms, then single cells.
_HISTOGRAM: Final = len(_STATUSES) * _ROWS
_PID, _ACTIVE_REQUESTS, _ACTIVE_CONNECTIONS, _IDLE_CONNECTIONS = range(
    2 * _HISTOGRAM, 2 * _HISTOGRAM + 4
)
_FAULTS: Final = 2 * _HISTOGRAM + 4
_BLOCK: Final = _FAULTS + len(FAULT_KINDS)
_CELL_SIZE: Final = 8


class Pool(NamedTuple):
    """Open connections to the upstream."""

    active: int = 0
    """Those that carry a call."""
    idle: int = 0
    """Those that are kept for a later one."""


Exemplar = tuple[bytes, float, float]
"""One request out of a bucket: a `traceparent` that says that it is sampled (whether it is valid
has not been looked at), the seconds that it took, and when it ended, by `time.perf_counter`."""


class Series(NamedTuple):
    """Those requests or calls whose labels are the same, of all processes."""

    status: int
    """0: none was received; `OTHER` and `OTHER_ERROR`: one that is not registered."""
    kind: str
    """Out of `FAILURE_KINDS`; empty: the hop itself names no failure."""
    counts: Sequence[float]
    """For each bucket, those that fell into it and into no smaller one."""
    exemplars: Sequence[Exemplar | None]
    """For each bucket the latest one of this process."""
    sum: float
    """Seconds."""


class Snapshot(NamedTuple):
    """What all processes of the hop have counted."""

    requests: Sequence[Series]
    calls: Sequence[Series]
    active_requests: int
    pool: Pool
    faults: Mapping[str, int]
    """Those injected, by kind."""
    pids: Sequence[int]


class Durations:
    """A histogram of how long requests or calls took, by what came of them."""

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
        """Those that have begun and not ended, of this process."""
        self.due = [0.0] * (start + _HISTOGRAM)
        """For each cell, when it is to get its next exemplar, by `time.perf_counter`."""
        self._exemplars: dict[int, Exemplar] = {}

    def add(self, status: int | None, failure: Failure | None, seconds: float) -> int:
        """Count one.

        Args:
            status: the status that it was answered with, if it was.
            failure: why it failed, if the hop itself knows.
            seconds: how long it took.

        Returns:
            The cell that counts it.
        """
        # Done for every request, in a fifth of a microsecond (bench/RESULTS.md), and for the usual
        # one in less.
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
        """Take this one as the exemplar of its bucket, if it belongs to a sampled trace."""
        if traceparent is not None and traceparent[-1:] in SAMPLED:
            self._exemplars[cell] = (traceparent, seconds, now)
            self.due[cell] = now + _EXEMPLAR_AGE

    def series(self, cells: Sequence[float]) -> Iterator[Series]:
        """All that has been counted, in `cells` of all processes together."""
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
    """The cells of a hop. Made before its processes part; then each takes its block."""

    def __init__(self, processes: int = 1) -> None:
        self._blocks: list[Cells] = [[0.0] * _BLOCK]
        if processes > 1:
            shared = memoryview(mmap.mmap(-1, processes * _BLOCK * _CELL_SIZE)).cast("d")
            self._blocks = [
                shared[start : start + _BLOCK] for start in range(0, len(shared), _BLOCK)
            ]
        self._pool: Callable[[], Pool] = Pool
        self.take(0)

    def take(self, process: int) -> None:
        """Count into the block of this process of the hop, the first of which is 0."""
        self._own = self._blocks[process]
        self._own[_PID] = os.getpid()
        self.requests = Durations(self._own, 0, REQUEST_ERRORS)
        self.calls = Durations(self._own, _HISTOGRAM, CALL_ERRORS)

    def count_fault(self, kind: str) -> None:
        """Count one out of `FAULT_KINDS` that was injected."""
        self._own[_FAULTS + FAULT_KINDS.index(kind)] += 1

    def watch(self, pool: Callable[[], Pool]) -> None:
        """Ask `pool` what to publish."""
        self._pool = pool

    def publish(self) -> None:
        """Put into the block what does not go there as it happens: the state of things."""
        self._own[_ACTIVE_REQUESTS] = self.requests.active
        self._own[_ACTIVE_CONNECTIONS], self._own[_IDLE_CONNECTIONS] = self._pool()

    def snapshot(self) -> Snapshot:
        """What all processes have counted so far. May be called in any thread."""
        blocks = [list(block) for block in self._blocks]
        cells = blocks[0] if len(blocks) == 1 else [sum(cell) for cell in zip(*blocks, strict=True)]
        return Snapshot(
            list(self.requests.series(cells)),
            list(self.calls.series(cells)),
            int(cells[_ACTIVE_REQUESTS]),
            Pool(int(cells[_ACTIVE_CONNECTIONS]), int(cells[_IDLE_CONNECTIONS])),
            {kind: int(cells[_FAULTS + place]) for place, kind in enumerate(FAULT_KINDS)},
            # A process that has not come so far has none.
            [int(block[_PID]) for block in blocks if block[_PID]],
        )
