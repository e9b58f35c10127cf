"""The pages of the repository, read: their fenced blocks, the commands in these, and their links.

What a block is for is said by its language:

- `console`: lines that begin with `$ ` are run; the lines below each are what it prints.
- `sh`: run as it stands, and has to end with exit code 0.
- any other language: data, which nobody runs.

A block that takes Docker, a cluster or minutes has a line of its own before it, which a reader of
the page does not see: `<!-- not run: REASON -->`.
"""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

PAGES: Final = sorted(
    {*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "k8s").rglob("*.md")}
)
"""Every page that people read."""

RUN: Final = frozenset({"console", "sh"})
DATA: Final = frozenset({"diff", "json", "mermaid", "text", "yaml"})

_BLOCK: Final = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n\n?)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Command:
    """A command as the page has it, and what it prints."""

    text: str
    shown: tuple[str, ...] = ()
    """Lines. Empty: the page does not show what it prints."""


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    text: str
    reason: str | None
    """Why its commands are not run; None if they are."""

    @property
    def commands(self) -> list[Command]:
        """The commands to run, in order; none in a block of data."""
        if self.language == "sh":
            return [Command(self.text)]
        if self.language != "console":
            return []
        commands = []
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            # A command goes on in the next line where this one ends with a backslash.
            match = re.match(r"(?:.*\\\n)*.*\n", part)
            assert match is not None
            shown = part[match.end() :].strip("\n")
            commands.append(Command(match[0], tuple(shown.split("\n")) if shown else ()))
        return commands


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    matches = _BLOCK.finditer(page.read_text("utf-8"))
    return [Block(match["language"], match["text"], match["reason"]) for match in matches]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def told(verb: str) -> str:
    """The help of a verb of `mockservice`."""
    output = io.StringIO()
    with redirect_stdout(output), suppress(SystemExit):
        import_module(f"mockservice.{verb}.command").main(["--help"])
    return output.getvalue()


def name(page: Path) -> str:
    """What a test of a page is called."""
    return str(page.relative_to(ROOT))
