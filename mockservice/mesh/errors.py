"""What can go wrong when manifests are read as a mesh."""

from __future__ import annotations


class RefusedError(Exception):
    """Manifests that cannot be run, with one line for each reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
