"""The files by which Kustomize builds the folders of `k8s/`, and a Kustomize to build them with."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.manifests.folders import K8S

if TYPE_CHECKING:
    from pathlib import Path

FILE = "Kustomization"
"""The one name that `kubectl apply -f FOLDER` does not read: it has no suffix."""

KUSTOMIZATIONS = sorted(str(file.parent.relative_to(K8S)) for file in K8S.rglob(FILE))
"""All folders that Kustomize builds, or that are components of those."""


def kustomization(folder: str) -> Any:
    """What the file of a folder says."""
    return yaml.load((K8S / folder / FILE).read_text(), yaml.CSafeLoader)


def is_component(folder: str) -> bool:
    """Whether a folder is a part of others, and not built by itself."""
    return bool(kustomization(folder)["kind"] == "Component")


@cache
def _command() -> tuple[str, ...]:
    """`make kustomize` builds the first one; the last one is a part of kubectl."""
    for tool, *verb in (
        (str(K8S.parent / ".tools/bin/kustomize"), "build"),
        ("kustomize", "build"),
        ("kubectl", "kustomize"),
    ):
        if found := shutil.which(tool):
            return (found, *verb)
    pytest.skip("takes kustomize or kubectl; `make kustomize` brings one")


def build(folder: Path) -> list[dict[str, Any]]:
    """The objects that a real Kustomize makes of a folder, a copy for each caller.

    Raises:
        AssertionError: it refused the folder.
        Skipped: there is no Kustomize on this machine.
    """
    return list(yaml.load_all(_built(folder), yaml.CSafeLoader))


@cache
def _built(folder: Path) -> str:
    """What it writes; once for each folder, as several lanes have the same workloads."""
    done = subprocess.run([*_command(), str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    # It warns of what it will not do for long.
    assert done.stderr == ""
    return done.stdout
