"""Every command of every page runs, and prints what the page shows."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import DATA, PAGES, ROOT, RUN, blocks, name, told
from tests.docs.shell import shell

if TYPE_CHECKING:
    from pathlib import Path


_TO_RUN = {
    page: [one for one in blocks(page) if one.language in RUN and one.reason is None]
    for page in PAGES
}
_NOT_RUN = [
    pytest.param(line, id=f"{name(page)}: {line}")
    for page in PAGES
    for block in blocks(page)
    if block.language in RUN and block.reason is not None
    for command in block.commands
    for line in command.text.replace("\\\n", " ").splitlines()
    if line.strip()
]
_TOOLS = {"cosign", "docker", "k3d", "kind", "kubectl", "minikube", "sed"}


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if _TO_RUN[page]], ids=name)
def test_the_commands_of_a_page_run_in_order(page: Path, tmp_path: Path) -> None:
    with shell(tmp_path) as session:
        for block in _TO_RUN[page]:
            for command in block.commands:
                session.run(command)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_says_what_it_is(page: Path) -> None:
    found = blocks(page)
    assert {block.language for block in found} <= RUN | DATA
    assert page.read_text().count("\n```") == 2 * len(found) - page.read_text().startswith("```")
    assert page.read_text().count("<!--") == sum(block.reason is not None for block in found)
    assert [one for one in found if one.reason is not None and not one.commands] == []


@pytest.mark.parametrize("line", _NOT_RUN)
def test_a_command_that_is_not_run_could_be(line: str) -> None:
    words = shlex.split(line, comments=True)
    while words and re.match(r"[A-Z_]+=", words[0]):
        del words[0]
    if not words:
        return
    tool, *arguments = words
    if tool == "make":
        subprocess.run([tool, "--dry-run", *arguments], cwd=ROOT, check=True, capture_output=True)
    elif tool == "mockservice":
        _is_accepted(arguments)
    else:
        assert tool in _TOOLS, f"{tool}: neither run nor known"
    own = [word for word in words if re.match(r"(docs|k8s|tests|bench)/", word)]
    assert [word for word in own if not (ROOT / word).exists()] == []


def _is_accepted(arguments: list[str]) -> None:
    """The verb exists, and its help has every option."""
    verb, *rest = arguments
    options = [word.partition("=")[0] for word in rest if word.startswith("-")]
    assert [one for one in options if not re.search(rf"(?<!\S){one}\b", told(verb))] == []
