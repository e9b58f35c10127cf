"""The receiver of the spans (`bench.receiver`), as a process of the run."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from bench import chains
from bench.processes import BenchError

if TYPE_CHECKING:
    from bench.run import Run

SPANS_PER_REQUEST: Final = 2 * chains.LENGTH - 1
"""A server span for each hop of a chain, and a client span for each call between them."""
_HOST: Final = "127.70.0.1"


class Receiver:
    """Counts the spans of the chains that export to it."""

    url = f"http://{_HOST}:{chains.PORT}/"
    """Each traced chain exports to a path of its own below it: its number."""

    def __init__(self, run: Run) -> None:
        """Start it, on the load's core."""
        command = [sys.executable, "-m", "bench.receiver", _HOST, str(chains.PORT)]
        self._run = run
        self._process = run.processes.start(
            "receiver", command, [run.load_core], {"PATH": os.environ["PATH"]}
        )
        run.processes.wait_until(
            lambda: chains.fetch(self.url, {}) is not None, chains.START_TIMEOUT, "receiver"
        )

    def spans(self, number: int) -> int:
        """The spans of the chain with this number."""
        count = chains.fetch(f"{self.url}{number}", {})
        if count is None:
            raise BenchError("receiver: no answer")
        return int(count)

    def stop(self) -> None:
        """Stop it."""
        self._run.processes.stop([self._process])
