"""What the tests take that neither pip nor go brings: programs of the machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROOT: Final = Path(__file__).parents[2]
TOOLS: Final = ROOT / ".tools"
BUILT: Final = TOOLS / "kube"
"""Where make puts what go.mod names."""

PACKAGES: Final = {
    "diff": "diffutils",
    "etcd": "etcd-server",
    "openssl": "openssl",
    "setpriv": "util-linux",
}
"""Programs of the API server's test, each with the Debian package that has it."""


def built(name: str) -> Path:
    """A program that make has built."""
    return BUILT / name


def missing(packages: Mapping[str, str], programs: Iterable[str]) -> list[str]:
    """What is not here, a line for each, with how to get it.

    Args:
        packages: programs of the machine, by name or path, each with its Debian package.
        programs: programs that make builds.
    """
    absent = {name: package for name, package in packages.items() if shutil.which(name) is None}
    lines = [f"{name}: apt-get install {package}" for name, package in absent.items()]
    if len(absent) > 1:
        lines.append(f"all of these: apt-get install {' '.join(sorted({*absent.values()}))}")
    lines += [
        f"{name}: make {built(name).relative_to(ROOT)}"
        for name in programs
        if not built(name).exists()
    ]
    return lines
