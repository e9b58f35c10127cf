"""The folders of `k8s/` for the tests: what is applied together, and copies to break."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mockservice.manifests.documents import read

if TYPE_CHECKING:
    from mockservice.manifests.documents import Document

K8S = Path(__file__).parents[2] / "k8s"

LANES = {
    "asm/strict": ("workloads",),
    "asm/permissive-trace-id": ("workloads",),
    "asm/permissive-header": ("workloads",),
    "asm/permissive-baggage": ("workloads",),
    "istio/strict": ("workloads",),
    "istio/permissive": ("workloads",),
    "gateway-api": ("workloads",),
    "release-v3/asm": ("workloads", "release-v3/workloads"),
    "release-v3/istio": ("workloads", "release-v3/workloads"),
    "failing-v3/roll-back/asm": ("workloads", "failing-v3/workloads"),
    "failing-v3/roll-back/istio": ("workloads", "failing-v3/workloads"),
}
"""Each lane folder, and the folders that it is applied together with."""

FOLDERS = sorted({str(file.parent.relative_to(K8S)) for file in K8S.rglob("*.yaml")})
"""Every folder that holds manifests."""


def documents(*folders: str) -> list[Document]:
    """The documents of folders of `k8s/`."""
    return read(K8S / folder for folder in folders)


def together(lane_folder: str) -> list[Document]:
    """The documents of a lane folder and of those that it is applied together with."""
    return documents(*LANES[lane_folder], lane_folder)


class Copy:
    """A copy of a lane folder, and of those that it goes with, to be broken."""

    def __init__(self, folder: Path, lane_folder: str) -> None:
        self.folder = folder
        self._folders = (*LANES[lane_folder], lane_folder)
        for name in self._folders:
            shutil.copytree(K8S / name, folder / name)

    def edit(self, file: str, old: str, new: str) -> None:
        """Put `new` in the place of the only `old` of a file."""
        path = self.folder / file
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
        path.write_text(text.replace(old, new))

    def read(self) -> list[Document]:
        """The documents as they are now."""
        return read(self.folder / name for name in self._folders)
