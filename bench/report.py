"""Writes the results, and the machine they were measured on, into RESULTS.md."""

from __future__ import annotations

import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

from bench import markdown
from bench.contenders import BENCH
from bench.go_hop import go_version
from bench.load import find_wrk

RESULTS: Final = BENCH / "RESULTS.md"
_BEGIN: Final = "<!-- measured by `python -m bench`: what stands from here is written anew -->"
_END: Final = "<!-- end of what was measured -->"
PACKAGES: Final = (
    "aiohttp",
    "uvloop",
    "opentelemetry-sdk",
    "opentelemetry-exporter-prometheus",
    "prometheus-client",
    "opentelemetry-distro",
    "opentelemetry-instrumentation-aiohttp-server",
    "opentelemetry-instrumentation-aiohttp-client",
)
"""The packages whose versions matter to the results."""


def write(measured: str, path: Path = RESULTS) -> None:
    """Replace the measured part of the file. The rest stays."""
    marked = f"{_BEGIN}\n\n{measured}\n\n{_END}"
    text = path.read_text("utf-8") if path.exists() else "# The three-hop chain, measured\n"
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if begin and end:
        path.write_text(before + marked + after, "utf-8")
    else:
        path.write_text(f"{text.rstrip()}\n\n{marked}\n", "utf-8")


def machine() -> str:
    """The machine and the versions."""
    cpuinfo = Path("/proc/cpuinfo").read_text("utf-8")
    model = re.search(r"^model name\s*: (.*)", cpuinfo, re.MULTILINE)
    cores = len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE))
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    # wrk -v exits with 1.
    wrk = subprocess.run([find_wrk(), "-v"], check=False, capture_output=True, text=True)
    return markdown.paragraph(
        f"Measured on {model[1] if model else platform.machine()}, {cores} cores, "
        f"Linux {platform.release()}; Python {platform.python_version()}, "
        f"{go_version()}, {packages}, {' '.join(wrk.stdout.split()[:2])}."
    )
