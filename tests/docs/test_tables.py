"""The tables of the reference name what there is, no more and no less."""

from __future__ import annotations

import re

import pytest

from mockservice.propagation import CARRIED
from mockservice.serve.settings import Settings
from tests.docs.pages import ROOT, prose, told


def test_settings_has_every_variable() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", prose(ROOT / "docs/settings.md"), re.MULTILINE)

    class Recorder(dict[str, str]):
        """An environment that keeps what it was asked for."""

        def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
            asked.add(key)
            return super().get(key, default)

    asked: set[str] = set()
    settings_read = Settings.from_env(
        Recorder(app="mocka", version="v1", fault_delay="1", fault_abort="503")
    )
    assert len(settings_read.faults) == 2
    assert set(listed) == asked | {"OTEL_EXPORTER_OTLP_ENDPOINT"}


def test_propagation_has_every_header() -> None:
    page = prose(ROOT / "docs/propagation.md")
    rows = re.findall(r"^\| [\w0-9', ]+ \| (`.*`) \|$", page, re.MULTILINE)
    listed = re.findall(r"`([\w-]+)`", " ".join(rows))
    assert sorted(listed) == sorted(header.decode() for header in CARRIED)


def test_threats_names_files_and_constants_that_exist() -> None:
    page = prose(ROOT / "docs/threats.md")
    code = ROOT / "mockservice"
    files = re.findall(r"`([\w/]+\.py)`", page)
    assert [file for file in files if not (code / file).is_file()] == []
    source = "\n".join(file.read_text() for file in code.rglob("*.py"))
    constants = set(re.findall(r"`(_?(?:MAX|IDLE|REQUEST|FLUSH|NEVER|LISTS)[A-Z_]*)`", page))
    assert len(constants) > 20
    assert [one for one in constants if not re.search(rf"^{one}\b", source, re.MULTILINE)] == []


@pytest.mark.parametrize("verb", ["lanes", "probe", "ui"])
def test_a_verb_has_every_option_in_its_page(verb: str) -> None:
    page = prose(ROOT / f"docs/{verb}.md")
    rows = re.findall(r"^\| (`--?[^|]*) \|", page, re.MULTILINE)
    listed = re.findall(r"`(--?[\w-]+)", " ".join(rows))
    options = set(re.findall(r"^  (--?[\w-]+)", told(verb), re.MULTILINE))
    assert sorted(listed) == sorted(options - {"-h"})
