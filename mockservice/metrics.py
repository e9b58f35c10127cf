"""What a hop counts: its requests and its upstream calls, in plain cells of shared memory.

Names and boundaries are those of OpenTelemetry's semantic conventions for HTTP metrics. All that
a request pays is a few additions: `mockservice.exposition` makes text of the cells once somebody
asks. Each process of a hop counts into a block of its own, which all of them read.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_left
from http import HTTPStatus
from time import time
from typing import TYPE_CHECKING, Final, NamedTuple

from mockservice.chain import FAILURE_KINDS
from mockservice.propagation import SAMPLED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper ends of the histograms' buckets in seconds, but the last one's ("Semantic conventions for
HTTP metrics", `http.server.request.duration`)."""

# All that the labels may say, so that neither clients nor upstreams make new series: no status
# where none was received, and one value for those that are not registered.
_STATUSES: Final = ("", *(str(status.value) for status in HTTPStatus), "_OTHER")
_KINDS: Final = ("", *FAILURE_KINDS)

# A row counts what has the same labels: a cell for each bucket, then the sum of the seconds.
_SUM: Final = len(BOUNDS) + 1
_ROW: Final = _SUM + 1
_ROWS_OF_STATUS: Final = {
    int(status) if status else None: place * len(_KINDS) * _ROW
    for place, status in enumerate(_STATUSES[:-1])
}
_ROWS_OF_OTHERS: Final = (len(_STATUSES) - 1) * len(_KINDS) * _ROW
_ROW_OF_KIND: Final = {kind: place * _ROW for place, kind in enumerate(_KINDS[1:], 1)}

# A process's block: its two histograms, then single cells.
_HISTOGRAM: Final = len(_STATUSES) * len(_KINDS) * _ROW
_PID, _ACTIVE_REQUESTS, _ACTIVE_CONNECTIONS, _IDLE_CONNECTIONS = range(
    2 * _HISTOGRAM, 2 * _HISTOGRAM + 4
)
_BLOCK: Final = 2 * _HISTOGRAM + 4
_CELL_SIZE: Final = 8


class Pool(NamedTuple):
    """Open connections to the upstream."""

    active: int = 0
    """Those that carry a call."""
    idle: int = 0
    """Those that are kept for a later one."""


class Exemplar(NamedTuple):
    """One request out of a bucket, and the trace that it belongs to."""

    traceparent: bytes
    """As it came: it says that it is sampled, whether it is valid has not been looked at."""
    seconds: float
    time: float
    """Seconds since the epoch."""


class Series(NamedTuple):
    """Those requests or calls whose labels are the same, of all processes."""

    status: str
    """Empty: none was received."""
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
    pids: Sequence[int]


class Durations:
    """A histogram of how long requests or calls took, by what came of them."""

    def __init__(self, cells: memoryview[float], start: int) -> None:
        self._cells = cells
        self._start = start
        self._exemplars: dict[int, Exemplar] = {}

    def add(
        self, status: int | None, kind: str | None, seconds: float, traceparent: bytes | None = None
    ) -> None:
        """Count one.

        Args:
            status: the status that it was answered with, if it was.
            kind: out of `FAILURE_KINDS`, if it failed.
            seconds: how long it took.
            traceparent: of the trace that it belongs to, if there is one.
        """
        row = self._start + _ROWS_OF_STATUS.get(status, _ROWS_OF_OTHERS)
        if kind:
            row += _ROW_OF_KIND[kind]
        cell = row + bisect_left(BOUNDS, seconds)
        cells = self._cells
        cells[cell] += 1
        cells[row + _SUM] += seconds
        # Looks at no more of it than it must: this is done for every request.
        if traceparent is not None and traceparent[-1:] in SAMPLED:
            self._exemplars[cell] = Exemplar(traceparent, seconds, time())

    def series(self, cells: Sequence[float]) -> Iterator[Series]:
        """All that has been counted, in `cells` of all processes together."""
        row = self._start
        for status in _STATUSES:
            for kind in _KINDS:
                counts = cells[row : row + _SUM]
                if any(counts):
                    exemplars = [self._exemplars.get(row + bucket) for bucket in range(_SUM)]
                    yield Series(status, kind, counts, exemplars, cells[row + _SUM])
                row += _ROW


class Metrics:
    """The cells of a hop. Made before its processes part; then each takes its block."""

    def __init__(self, processes: int = 1) -> None:
        self._memory = memoryview(mmap.mmap(-1, processes * _BLOCK * _CELL_SIZE)).cast("d")
        self._blocks = [
            self._memory[start : start + _BLOCK] for start in range(0, len(self._memory), _BLOCK)
        ]
        self._pool: Callable[[], Pool] = Pool
        self.take(0)

    def take(self, process: int) -> None:
        """Count into the block of this process of the hop, the first of which is 0."""
        self._own = self._blocks[process]
        self._own[_PID] = os.getpid()
        self.requests = Durations(self._own, 0)
        self.calls = Durations(self._own, _HISTOGRAM)

    def watch(self, pool: Callable[[], Pool]) -> None:
        """Ask `pool` what to publish."""
        self._pool = pool

    def request_begins(self) -> None:
        """One more request is being answered."""
        self._own[_ACTIVE_REQUESTS] += 1

    def request_ends(self) -> None:
        """One request less is being answered."""
        self._own[_ACTIVE_REQUESTS] -= 1

    def publish(self) -> None:
        """Let the other processes see what is not counted where it happens: the pool."""
        self._own[_ACTIVE_CONNECTIONS], self._own[_IDLE_CONNECTIONS] = self._pool()

    def snapshot(self) -> Snapshot:
        """What all processes have counted so far. May be called in any thread."""
        blocks = [block.tolist() for block in self._blocks]
        cells = blocks[0] if len(blocks) == 1 else [sum(cell) for cell in zip(*blocks, strict=True)]
        return Snapshot(
            list(self.requests.series(cells)),
            list(self.calls.series(cells)),
            int(cells[_ACTIVE_REQUESTS]),
            Pool(int(cells[_ACTIVE_CONNECTIONS]), int(cells[_IDLE_CONNECTIONS])),
            # A process that has not come so far has none.
            [int(block[_PID]) for block in blocks if block[_PID]],
        )
