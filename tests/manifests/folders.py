"""The folders of `k8s/`: which ones are applied together, and copies that tests can break."""

from __future__ import annotations

import shutil
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mockservice.manifests.documents import read

if TYPE_CHECKING:
    from mockservice.manifests.documents import Document

K8S = Path(__file__).parents[2] / "k8s"

_V3 = "components/mockb-v3"

LANES = {
    "asm/strict": ("workloads",),
    "asm/permissive-trace-id": ("workloads", _V3),
    "asm/permissive-header": ("workloads", _V3),
    "asm/permissive-baggage": ("workloads", _V3),
    "istio/strict": ("workloads",),
    "istio/permissive": ("workloads", _V3),
    "gateway-api": ("workloads",),
    "release-v3/asm": ("workloads", "release-v3/workloads"),
    "release-v3/istio": ("workloads", "release-v3/workloads"),
    "failing-v3/roll-back/asm": ("workloads", "failing-v3/workloads"),
    "failing-v3/roll-back/istio": ("workloads", "failing-v3/workloads"),
    "shop/strict": ("shop/workloads",),
    "shop/permissive": ("shop/workloads",),
}
"""Each lane folder with the folders that are applied together with it."""

COMPOSE = "compose.yaml"
"""Files of this name are no manifests."""

METRICS = K8S / "metrics"
"""Its YAML is for Prometheus and Grafana."""

FOLDERS = sorted(
    {
        str(file.parent.relative_to(K8S))
        for file in K8S.rglob("*.yaml")
        if file.name != COMPOSE and not file.is_relative_to(METRICS)
    }
)
"""All folders with manifests."""


def documents(*folders: str) -> list[Document]:
    """The documents of folders of `k8s/`, each with a body of its own to break."""
    return [
        replace(document, body=deepcopy(document.body))
        for folder in folders
        for document in _read(folder)
    ]


@cache
def _read(folder: str) -> list[Document]:
    return read([K8S / folder])


def together(lane_folder: str) -> list[Document]:
    """Read a lane folder and the folders that are applied together with it."""
    return documents(*LANES[lane_folder], lane_folder)


class Copy:
    """A copy of a lane folder and of the folders that are applied together with it."""

    def __init__(self, folder: Path, lane_folder: str) -> None:
        self.folder = folder
        self._folders = (*LANES[lane_folder], lane_folder)
        for name in self._folders:
            shutil.copytree(K8S / name, folder / name)

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace `old`, which must be in the file exactly once, with `new`."""
        path = self.folder / file
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
        path.write_text(text.replace(old, new))

    def read(self) -> list[Document]:
        """Read the documents of the copy."""
        return read(self.folder / name for name in self._folders)
