"""No two files import each other. Which room may import which: `make lint` (pyproject.toml)."""

from __future__ import annotations

import subprocess
import sys
from graphlib import TopologicalSorter

import grimp


def test_imports_have_no_cycle() -> None:
    # Imports for types and inside functions count too.
    graph = grimp.build_graph("mockservice", cache_dir=None)
    modules = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert "mockservice.serve.server" in modules["mockservice.serve.run"]
    TopologicalSorter(modules).prepare()


def test_bad_input_is_told_without_importing_an_http_client() -> None:
    code = (
        "import sys, mockservice.lanes.run, mockservice.probe.command, mockservice.verify.run\n"
        "print('mockservice.lanes.local' in sys.modules, 'aiohttp' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"
