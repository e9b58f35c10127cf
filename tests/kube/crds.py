"""The kinds that Kubernetes does not know by itself, from where their makers publish them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.kube.needs import TOOLS
from tests.kube.processes import BrokenError

if TYPE_CHECKING:
    from tests.kube.kubectl import Kubectl


@dataclass(frozen=True, slots=True)
class Module:
    """A Go module with CRDs in it."""

    path: str
    version: str
    sum: str
    """The hash of its files, as in a go.sum."""
    files: tuple[str, ...]

    def fetch(self) -> list[Path]:
        """The files, on this machine.

        Raises:
            BrokenError: they cannot be had, or are others than those that were looked at.
        """
        name = f"{self.path}@{self.version}"
        done = subprocess.run(
            [TOOLS / "bin/go", "mod", "download", "-json", name],
            cwd="/",
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise BrokenError(f"{name}: {done.stderr or done.stdout}")
        found = json.loads(done.stdout)
        if found["Sum"] != self.sum:
            raise BrokenError(f"{name}: its sum is {found['Sum']!r}: must be {self.sum!r}")
        return [file for one in self.files for file in sorted(Path(found["Dir"]).glob(one))]


MODULES: Final = (
    Module(
        "istio.io/istio",
        # Its releases have no names that Go knows.
        "v0.0.0-20260827124520-eed52ebb66ad",
        "h1:ui9TJjRMAV/hb5ehQaZDq7IUGxuQP6dra9lapT/VjHI=",
        ("manifests/charts/base/files/crd-all.gen.yaml",),
    ),
    Module(
        "sigs.k8s.io/gateway-api",
        "v1.7.0",
        "h1:duVnm7nO6oXfMMUWfcDoBph47CYR/ME3NGxccOVglaY=",
        ("config/crd/standard/gateway.networking.k8s.io_*.yaml",),
    ),
    Module(
        "github.com/argoproj/argo-cd/v3",
        "v3.6.1",
        "h1:OmhqeKiR3C//awbFrhQqFdtRI+Qiv17j8vqm3UkMj/g=",
        ("manifests/crds/application-crd.yaml", "manifests/crds/appproject-crd.yaml"),
    ),
    Module(
        "github.com/argoproj/argo-rollouts",
        "v1.10.2",
        "h1:sEPWsY+HUvnXj3Vh0ejb+GDTceQ/palqhFo2FVQJMk0=",
        ("manifests/crds/analysis-template-crd.yaml",),
    ),
)

_ASM: Final = {"ASMSwimLane": "asmswimlanes", "ASMSwimLaneGroup": "asmswimlanegroups"}
"""Alibaba Cloud publishes no CRDs of ASM: these take any fields."""


def _asm(kind: str, plural: str) -> dict[str, object]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.istio.alibabacloud.com"},
        "spec": {
            "group": "istio.alibabacloud.com",
            "scope": "Cluster",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [version],
        },
    }


def create(kubectl: Kubectl) -> None:
    """Make all kinds known.

    Raises:
        BrokenError: some cannot be had, or the API server refuses them.
    """
    for module in MODULES:
        # Some are too large for the annotation that `kubectl apply` would add.
        for file in module.fetch():
            kubectl.must("create", "--filename", str(file))
    for kind, plural in _ASM.items():
        kubectl.must("create", "--filename", "-", stdin=json.dumps(_asm(kind, plural)))
    kubectl.must("wait", "--for=condition=Established", "--timeout=2m", "crd", "--all")
