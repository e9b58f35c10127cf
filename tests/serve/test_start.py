"""What a hop imports to start and to answer: of what it does not use, nothing."""

from __future__ import annotations

import pytest

from tests.running import request, running_command


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """The modules that a hop without faults and tracing has imported when it ends."""
    with running_command(PYTHONPROFILEIMPORTTIME="1") as hop:
        assert request(hop.url).text == hop.line
        assert hop.stop() == 0
        lines = hop.errors().splitlines()
    # The last column of `python -X importtime`.
    names = {line.rpartition("|")[2].strip() for line in lines}
    assert "mockservice.serve.server" in names
    return names


@pytest.mark.parametrize("package", ["aiohttp", "rich", "yaml", "opentelemetry"])
def test_the_start_imports_no_package_that_it_does_not_use(
    imported: set[str], package: str
) -> None:
    assert package not in imported


@pytest.mark.parametrize("room", ["manifests", "mesh", "lanes", "probe", "ui"])
def test_the_start_imports_no_other_room(imported: set[str], room: str) -> None:
    assert f"mockservice.{room}" not in imported


@pytest.mark.parametrize("module", ["injector", "telemetry.tracing", "telemetry.exposition"])
def test_the_start_imports_only_what_the_settings_ask_for(imported: set[str], module: str) -> None:
    assert f"mockservice.serve.{module}" not in imported
