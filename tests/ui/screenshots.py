"""Takes the README's pictures of the page, beside real local lanes: `make screenshots`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

from tests.lanes.running import K8S, lanes
from tests.ui.browsing import Browsing, launch, wait_for_requests

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DOCS = K8S.parent / "docs"
RELEASE = K8S / "release-v3"
WIDTH, HEIGHT = 1280, 960


def main() -> None:
    """Write the pictures into docs/."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = launch(playwright)
        release = (K8S / "workloads", RELEASE / "workloads", RELEASE / "asm")
        take(browser, "ui-lanes.png", *release, folder=Path(folder))
        take(browser, "ui-leak.png", leaking(Path(folder)), folder=Path(folder))
        shop = (K8S / "shop" / "workloads", K8S / "shop" / "strict")
        take(browser, "ui-tree.png", *shop, folder=Path(folder))
        browser.close()


def leaking(folder: Path) -> Path:
    """Strict lanes of Istio, of which somebody forgot the route to mockc."""
    leaky = folder / "leaky"
    shutil.copytree(K8S / "workloads", leaky)
    shutil.copytree(K8S / "istio" / "strict", leaky, dirs_exist_ok=True)
    routes = leaky / "lane-routes.yaml"
    documents = routes.read_text().split("\n---\n")
    routes.write_text("\n---\n".join(one for one in documents if "name: mockc" not in one))
    return leaky


def take(browser: Browser, name: str, *manifests: Path, folder: Path) -> None:
    """Take a picture of these lanes under way."""
    browsing = Browsing(browser)
    with lanes(*manifests, folder=folder, options=("--ui",)) as running:
        url = f"{running.events[0]['page']}?rate=60&last=500"
        with browsing.open(url, WIDTH, HEIGHT, moving=True) as page:
            wait_for_requests(page, 1200)
            # As many dots as the eye can follow.
            page.get_by_label("Requests per second").fill("15")
            page.get_by_label("Requests per second").press("Enter")
            page.get_by_label("Requests per second").blur()
            wait_for_requests(page, 1310)
            page.screenshot(path=DOCS / name)


if __name__ == "__main__":
    main()
