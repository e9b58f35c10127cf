"""The images of the pods, as files that containerd imports."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
from typing import TYPE_CHECKING, Final

from mockservice import __version__
from tests.kube.needs import ROOT, built
from tests.kube.processes import BrokenError

if TYPE_CHECKING:
    from pathlib import Path

HOP: Final = f"ghcr.io/mockservice/mockservice:{__version__}"
"""The image that the manifests name."""
PAUSE: Final = "mockservice.invalid/pause:local"
"""The image of the process that keeps a pod's namespaces."""

ARCHIVES: Final = ("hop.tar", "pause.tar")

_BUILT: Final = "mockservice:local"
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def save(folder: Path) -> None:
    """Build the images, and write them to files in a folder.

    Raises:
        BrokenError: Docker does not build the image.
    """
    base = os.environ.get("BASE_IMAGE")
    arguments = ("--build-arg", f"BASE_IMAGE={base}") if base else ()
    _docker("build", "--tag", _BUILT, *arguments, ".")
    _docker("save", "--output", str(folder / ARCHIVES[0]), _BUILT)
    _save_pause(folder / ARCHIVES[1])


def load(folder: Path, address: str) -> None:
    """Import the images.

    Args:
        folder: what `save` was given.
        address: the socket of containerd.
    """
    images = ("ctr", "--address", address, "--namespace", "k8s.io", "images")
    for archive in ARCHIVES:
        subprocess.run([*images, "import", folder / archive], check=True, stdout=subprocess.PIPE)
    tag = [*images, "tag", f"docker.io/library/{_BUILT}", HOP]
    subprocess.run(tag, check=True, stdout=subprocess.PIPE)


def _docker(*arguments: str) -> None:
    done = subprocess.run(["docker", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise BrokenError(f"docker {' '.join(arguments)}\n{done.stderr[-2000:]}")


def _save_pause(path: Path) -> None:
    """Write an image of one program, as `docker save` would."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(built("pause"), "pause")
    config = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": ["/pause"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"],
        },
    }
    manifest = [{"Config": "config.json", "RepoTags": [PAUSE], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for name, data in (
            ("layer.tar", layer.getvalue()),
            ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
