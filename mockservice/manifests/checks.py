"""What no schema checks: that manifests which are applied together fit each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mockservice.manifests import lanes, routes, workloads
from mockservice.manifests.inventory import Inventory, kind_of
from mockservice.manifests.kinds import SHAPES
from mockservice.manifests.problems import Problem
from mockservice.manifests.shapes import misfits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mockservice.manifests.documents import Document

__all__ = ["Problem", "check"]


def check(documents: Sequence[Document]) -> list[Problem]:
    """Check manifests that are meant to be applied together.

    Every document is checked by itself first: the ASM kinds wholly, of other kinds the fields that
    matter here. Only where all of them hold what they should are they checked against each other.
    Documents of kinds that have nothing to do with lanes are let be.
    """
    found = [
        problem
        for document in documents
        if (shape := SHAPES.get(kind_of(document))) is not None
        for problem in misfits(document, shape, document.body)
    ]
    if not found:
        inventory = Inventory(documents)
        for part in (workloads, lanes, routes):
            found.extend(part.check(inventory))
    return list(dict.fromkeys(found))
