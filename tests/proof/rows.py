"""What is proved, by name: what is long and quiet, and what goes wrong on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.proof import clients, collectors, fuzz, kills, limits, rolling, soak, trees, upstreams

if TYPE_CHECKING:
    from tests.proof.finding import Prove

ROWS: dict[str, dict[str, Prove]] = {
    "soak": {"soak": soak.prove},
    "chaos": {
        "rolling": rolling.prove,
        "kills": kills.prove,
        "collectors": collectors.prove,
        "upstreams": upstreams.prove,
        "clients": clients.prove,
        "fuzz": fuzz.prove,
        "trees": trees.prove,
        "limits": limits.prove,
    },
}
