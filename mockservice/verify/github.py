"""GitHub Actions: problems as annotations, which it shows beside the lines of a pull request.

Source: GitHub's documentation of workflow commands ("Setting an error message"), and the escapes
of its toolkit (actions/toolkit, packages/core/src/command.ts).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mockservice.manifests.documents import STANDARD_INPUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mockservice.verify.verification import Problem

_COMMANDS: Final = {"error": "error", "note": "warning"}
_PLACE: Final = re.compile(r"(?P<path>[^:]+):(?P<line>[0-9]+): ")


def is_running(environ: Mapping[str, str]) -> bool:
    """Whether GitHub Actions runs this."""
    return environ.get("GITHUB_ACTIONS") == "true"


def annotation(problem: Problem) -> str:
    """The workflow command that shows a problem, in one line."""
    properties = {}
    if problem.source is not None:
        properties = _place(problem.source.path, str(problem.source.line))
    return _command(_COMMANDS[problem.level], properties, problem.about, problem.located)


def annotation_of_refusal(reason: str) -> str:
    """The same for a line that refuses a file, such as `FILE:LINE: OBJECT: FIELD: REASON`."""
    place = _PLACE.match(reason)
    properties = {}
    if place is not None:
        properties = _place(place["path"], place["line"])
    return _command("error", properties, "refused", reason)


def _command(name: str, properties: dict[str, str], title: str, message: str) -> str:
    named = {**properties, "title": f"mockservice verify: {title}"}
    written = ",".join(f"{key}={_property(value)}" for key, value in named.items())
    return f"::{name} {written}::{_data(message)}"


def _place(path: str, line: str) -> dict[str, str]:
    """File and line; nothing of standard input, which is no file of the repository."""
    return {} if path == str(STANDARD_INPUT) else {"file": _relative(path), "line": line}


def _relative(path: str) -> str:
    """A path from the working directory, if it is in there."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else path


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
