"""The error for manifests that cannot become a mesh."""

from __future__ import annotations


class RefusedError(Exception):
    """The manifests are invalid or not supported.

    Attributes:
        problems: one line for each problem.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
