"""A run of the bench: its processes, its cores and its size."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from bench.processes import Processes

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Run:
    """The context of all measurements. Each one starts and stops its own processes."""

    processes: Processes
    hop_core: int
    load_core: int
    quick: bool
    """Whether this run only checks that everything works."""

    def size(self, full: _T, quick: _T) -> _T:
        """The size of a measurement: `full`, or `quick` in a quick run."""
        return quick if self.quick else full

    def tell(self, what: str) -> None:
        """Print what the run does now."""
        sys.stderr.write(f"bench: {what}\n")
