"""No two files import each other. Which room may import which: `make lint` (pyproject.toml)."""

from __future__ import annotations

from graphlib import TopologicalSorter

import grimp


def test_imports_have_no_cycle() -> None:
    # Imports for types and inside functions count too.
    graph = grimp.build_graph("mockservice", cache_dir=None)
    modules = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert "mockservice.serve.server" in modules["mockservice.serve.command"]
    TopologicalSorter(modules).prepare()
