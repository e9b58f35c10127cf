"""docs/ci.md: its jobs run what there is, and its cases are cases; its commands: see tests/docs."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mockservice.verify.cases import read_cases
from mockservice.verify.command import _parser
from tests.docs.pages import ROOT, blocks, prose, told

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs/ci.md"
YAML = [block.text for block in blocks(PAGE) if block.language == "yaml"]
GITHUB, OTHER_STEPS, GITLAB, CASES = YAML


def commands() -> list[str]:
    """What the two jobs run."""
    github: dict[str, Any] = yaml.safe_load(GITHUB)
    gitlab: dict[str, Any] = yaml.safe_load(GITLAB)
    steps = [step["run"] for step in github["jobs"]["verify"]["steps"] if "run" in step]
    return [*steps, *gitlab["lanes"]["before_script"], *gitlab["lanes"]["script"]]


def test_the_jobs_install_and_run_verify() -> None:
    tools = [shlex.split(command)[:2] for command in commands()]
    assert tools == [
        ["pip", "install"],
        ["mockservice", "verify"],
        ["git", "clone"],
        ["pip", "install"],
        ["mockservice", "verify"],
    ]


@pytest.mark.parametrize("command", [one for one in commands() if "mockservice verify" in one])
def test_what_a_job_verifies_is_there(command: str) -> None:
    words = shlex.split(command)[2:]
    assert [one for one in words if one.startswith("k8s/") and not (ROOT / one).is_dir()] == []
    options = [one for one in words if one.startswith("--")]
    assert [one for one in options if one not in told("verify")] == []


def test_the_other_steps_run_verify() -> None:
    steps = [step["run"] for step in yaml.safe_load(OTHER_STEPS)]
    parsed = [
        _parser().parse_args(shlex.split(step.partition("mockservice verify ")[2]))
        for step in steps
    ]
    assert [str(path) for path in parsed[0].paths] == ["-"]
    (replaced,) = parsed[1].replace
    # The step starts the service at that port, with the proxy that belongs to it.
    assert steps[1].startswith("http_proxy=http://127.0.0.1:19000 ")
    assert (replaced.app, replaced.value) == ("cart", "http://127.0.0.1:9000")


def test_the_cases_of_the_page_are_cases(tmp_path: Path) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text(CASES)
    assert len(read_cases(file)) == 3


def test_the_page_has_every_option() -> None:
    listed = re.findall(r"^\| `(--?[\w-]+)", prose(PAGE), re.MULTILINE)
    options = set(re.findall(r"^  (--?[\w-]+)", told("verify"), re.MULTILINE))
    assert set(listed) == options - {"-h"}
