"""A run of the bench: its processes, its cores, and how much of everything it takes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from bench.processes import Processes

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Run:
    """What every measurement works with. Each starts what it needs and stops it again."""

    processes: Processes
    hop_core: int
    load_core: int
    quick: bool
    """Whether this run only shows that everything works."""

    def size(self, full: _T, quick: _T) -> _T:
        """How many, how long, how large: in a full run, and in a quick one."""
        return quick if self.quick else full

    def tell(self, what: str) -> None:
        """Say what is being done now."""
        sys.stderr.write(f"bench: {what}\n")
