"""The rules of k8s/istio/permissive, sound or broken, as what judges requests."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from mockservice.mesh.load import load
from mockservice.mesh.survey import read_lane_map
from mockservice.probe.judge import ByMap
from tests.lanes.running import K8S

if TYPE_CHECKING:
    from pathlib import Path

PERMISSIVE = K8S / "istio" / "permissive"
WORKLOADS = (K8S / "workloads", K8S / "components" / "mockb-v3")


def copy_rules(folder: Path) -> Path:
    """Copy the rules to a folder, and return it."""
    return shutil.copytree(PERMISSIVE, folder, dirs_exist_ok=True)


def by_rules(rules: Path = PERMISSIVE) -> ByMap:
    """What judges by such rules."""
    return ByMap(read_lane_map(load([*WORKLOADS, rules])))


def cut(file: Path, name: str, start: str) -> None:
    """Leave out the end of the document of that name, from `start` on."""
    documents = file.read_text().split("\n---\n")
    [place] = [at for at, one in enumerate(documents) if f"\n  name: {name}\n" in one]
    documents[place] = documents[place][: documents[place].index(start)]
    file.write_text("\n---\n".join(documents))
