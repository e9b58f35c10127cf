"""Every link to a file or a heading of this repository leads somewhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, name, prose

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(page))
    broken = []
    for target in targets:
        path, _, fragment = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        exists = linked.is_relative_to(ROOT) and linked.exists()
        if not exists or (fragment and fragment not in anchors(linked)):
            broken.append(target)
    assert broken == []


def test_every_page_is_linked() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(page))
    }
    # GitHub itself shows a folder's README, so that a link to the folder is one to its page.
    pages = [page for page in PAGES if page.name != "README.md"]
    assert [name(page) for page in pages if page not in linked] == []


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
