"""Checks that no schema can do: that manifests which are applied together fit each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mockservice.manifests import lanes, routes, workloads
from mockservice.manifests.inventory import Inventory, kind_of
from mockservice.manifests.kinds import SHAPES
from mockservice.manifests.problems import Problem
from mockservice.manifests.shapes import violations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mockservice.manifests.documents import Document

__all__ = ["Problem", "check"]


def check(documents: Sequence[Document]) -> list[Problem]:
    """Check manifests that are applied together.

    Each document is checked alone first: all fields of the ASM kinds, and of other kinds the
    fields that the checks read. If all of these hold, the documents are checked against each
    other. Kinds that have nothing to do with lanes are skipped.
    """
    found = [
        problem
        for document in documents
        if (shape := SHAPES.get(kind_of(document))) is not None
        for problem in violations(document, shape, document.body)
    ]
    if not found:
        inventory = Inventory(documents)
        for module in (workloads, lanes, routes):
            found.extend(module.check(inventory))
    return list(dict.fromkeys(found))
