"""A real browser for the tests of the page: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from tests.ui import axe
from tests.ui.browsing import Browsing, chromium_path, keep_process, launch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser


# For one module: Playwright keeps an event loop running, beside which no test can be a coroutine.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if chromium_path() is None:
        assert "CI" not in os.environ, "CI has to install chromium-headless-shell"
        pytest.skip("takes chromium: apt-get install chromium-headless-shell")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        keep_process(browser)
        yield browser
        browser.close()


@pytest.fixture
def browsing(chromium: Browser) -> Iterator[Browsing]:
    """A browser that has to end without an error of its console, and without a foreign request."""
    browsing = Browsing(chromium)
    yield browsing
    assert browsing.problems == []


@pytest.fixture(scope="session")
def axe_source(pytestconfig: pytest.Config) -> str:
    assert pytestconfig.cache is not None
    return axe.script(pytestconfig.cache.mkdir("axe-core"))
