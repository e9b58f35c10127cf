"""axe-core, the checker of accessibility, as npm's registry has it."""

from __future__ import annotations

import hashlib
import io
import tarfile
import urllib.request
from base64 import b64encode
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

OF_COLORS = ("color-contrast", "link-in-text-block")
"""The rules that a color scheme changes something for."""

VERSION = "4.14.1"
# As `npm view axe-core@VERSION dist.integrity` says.
SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
URL = f"https://registry.npmjs.org/axe-core/-/axe-core-{VERSION}.tgz"


def script(cache: Path) -> str:
    """Its source, kept in `cache` once it has been fetched."""
    kept = cache / f"axe-{VERSION}.js"
    if not kept.exists():
        with urllib.request.urlopen(URL) as answer:
            packed = answer.read()
        assert b64encode(hashlib.sha512(packed).digest()).decode() == SHA512
        with tarfile.open(fileobj=io.BytesIO(packed)) as package:
            member = package.extractfile("package/axe.min.js")
            assert member is not None
            kept.write_bytes(member.read())
    return kept.read_text()


def faults(page: Page, source: str, rules: tuple[str, ...] = ()) -> list[str]:
    """The serious accessibility faults of what a page shows now.

    Args:
        page: the page.
        source: the source of axe.
        rules: only faults of these; by default of all.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(source)
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = rules
    found: dict[str, Any] = page.evaluate("options => axe.run(options)", options)
    return [
        f"{violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
