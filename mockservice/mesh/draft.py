"""A lane while it is read out of rules: what tells it apart, and which pods rules give to it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mockservice.mesh.model import Text

if TYPE_CHECKING:
    from mockservice.manifests.documents import Source
    from mockservice.mesh.model import Pairs

HeaderTexts = tuple[tuple[str, Text], ...]
Versions = frozenset[str]


@dataclass(slots=True)
class Draft:
    """A lane while it is read."""

    name: str
    headers: HeaderTexts = ()
    values: Pairs = ()
    labels: Pairs = ()
    source: Source | None = None
    ruled: dict[str, Versions] = field(default_factory=dict)
    """By app, what rules for this lane alone lead to."""
    split: set[str] = field(default_factory=set)
    """The apps at which a rule leads to several destinations."""
    subsets: Counter[str] = field(default_factory=Counter)
    """At how many apps its rules lead to a subset of that name."""
    named: dict[str, Versions] = field(default_factory=dict)
    """By app, the pods of the subset that has the lane's name."""

    def explicit(self, app: str) -> Versions | None:
        """The pods of its own at an app, by rule or by name."""
        if app in self.split:
            return self.ruled[app]
        return self.named.get(app) or self.ruled.get(app)
