"""What Istio answered when `make truth` ran last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

_FILE: Final = Path(__file__).parent / "recorded.json"

Recorded = dict[str, dict[str, int]] | str
"""Outcomes of each request by their number, or why the manifests are refused."""


def read_recorded() -> dict[str, Recorded]:
    """The answers, by case."""
    cases: dict[str, Recorded] = json.loads(_FILE.read_text())["cases"]
    return cases


def record(istio: str, cases: dict[str, Recorded]) -> None:
    """Write the answers of a version of Istio, by case."""
    answers = {"istio": istio, "cases": cases}
    _FILE.write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n")
