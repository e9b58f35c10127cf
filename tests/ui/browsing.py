"""The page: served by `mockservice ui` or from a thread, and open in a browser."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from unittest.mock import patch
from urllib.parse import urlsplit

from playwright.sync_api import expect

from mockservice.ui import run
from mockservice.ui.command import main
from mockservice.ui.server import PageServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Locator, Page, Playwright, Request

    from mockservice.ui.view import View

TIMEOUT = 30.0
"""Seconds that the page gets to show something, on a busy machine."""

_POLL = 50.0
"""Milliseconds; by default a condition is asked for with every picture."""

expect.set_options(timeout=TIMEOUT * 1000)


# What it would like to ask of its maker's servers, and a sandbox that root cannot have.
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Each page would start a process of its own.
    "--renderer-process-limit=1",
)


def chromium_path() -> str | None:
    """Where Debian's Chromium is: its headless shell takes half the CPU of the whole browser."""
    return shutil.which("chromium-headless-shell") or shutil.which("chromium")


def launch(playwright: Playwright) -> Browser:
    """Debian's Chromium."""
    path = chromium_path()
    return playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)


def keep_process(browser: Browser) -> None:
    """Open a page of the site of all others, in whose process these are shown."""
    page = context(browser).new_page()
    page.route("**", lambda route: route.fulfill(body=""))
    page.goto("http://127.0.0.1/")


def context(browser: Browser) -> BrowserContext:
    """One for all pages, as each starts processes; the page itself keeps nothing in it."""
    if browser.contexts:
        return browser.contexts[0]
    return browser.new_context(permissions=["clipboard-read", "clipboard-write"])


@contextmanager
def serving(url: str, *options: str) -> Iterator[str]:
    """Run `mockservice ui`; the URL of its page. By default at any port that is free."""
    port = () if "--port" in options else ("--port", str(free_port()))
    process = subprocess.Popen(
        [sys.executable, "-m", "mockservice", "ui", url, *port, *options],
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().removeprefix("ui ").strip()
    finally:
        process.terminate()
        try:
            assert process.wait(TIMEOUT) == 0
        finally:
            process.kill()
            process.stdout.close()


def view_of(url: str, *options: str) -> View:
    """What `mockservice ui` makes of its arguments."""
    with patch.object(run, "run") as serve:
        main([url, *options])
    view: View = serve.call_args.args[0]
    return view


@contextmanager
def showing(view: View) -> Iterator[str]:
    """Serve the page of a view from a thread, which costs less than a process; its URL."""
    started: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        async with PageServer(view, port=0) as page:
            started.set_result((page.url, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    url, loop, stop = started.result(TIMEOUT)
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(TIMEOUT)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Browsing:
    """A browser, and what went wrong in it."""

    browser: Browser
    problems: list[str] = field(default_factory=list)
    forgiven: str = "nothing"
    """What the console may say: browsers report each connection that fails."""

    @contextmanager
    def open(
        self,
        url: str,
        width: int = 1280,
        height: int = 800,
        scheme: Literal["light", "dark"] = "light",
        via: str | None = None,
        moving: bool = False,
    ) -> Iterator[Page]:
        """A page in a window of this size, closed with the block.

        Args:
            via: the page from which it is reached, if any.
            moving: whether requests are drawn as they run, which takes the browser much time.
        """
        page = context(self.browser).new_page()
        page.set_viewport_size({"width": width, "height": height})
        motion: Literal["no-preference", "reduce"] = "no-preference" if moving else "reduce"
        page.emulate_media(color_scheme=scheme, reduced_motion=motion)
        origin = urlsplit(url).netloc
        if via is not None:
            page.goto(via)

        def check(request: Request) -> None:
            if urlsplit(request.url).netloc != origin:
                self.problems.append(f"a request to {request.url}")

        def listen(kind: str, text: str) -> None:
            if kind in ("error", "warning") and self.forgiven not in text:
                self.problems.append(f"{kind}: {text}")

        page.on("request", check)
        page.on("websocket", lambda socket: listen_to(socket.url))
        page.on("console", lambda message: listen(message.type, message.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))

        def listen_to(url: str) -> None:
            if urlsplit(url).netloc != origin:
                self.problems.append(f"a WebSocket to {url}")

        try:
            if via is None:
                page.goto(url)
            else:
                page.evaluate("url => { location.href = url; }", url)
                page.wait_for_url(url)
            yield page
        finally:
            page.close()


def requests_seen(page: Page) -> int:
    """The requests that the page has counted."""
    return int((page.locator("#request-count").text_content() or "").replace(",", ""))


def wait_for_requests(page: Page, count: int) -> None:
    """Wait until the page has counted so many."""
    page.wait_for_function(
        "count => Number(document.querySelector('#request-count').textContent"
        ".replaceAll(',', '')) >= count",
        arg=count,
        polling=_POLL,
        timeout=TIMEOUT * 1000,
    )


def share(page: Page, lane: str) -> float:
    """The share of a lane among the last requests, 0 to 1."""
    text = page.locator(f".share[data-lane='{lane}'] strong").text_content() or ""
    return float(text.removesuffix(" %")) / 100


def nodes(page: Page, lane: str, app: str) -> Locator:
    """What stands in the row of a lane, under an app."""
    heads = page.locator("#pods thead th").all_text_contents()
    row = page.locator("#pods tbody tr").filter(
        has=page.locator("th .name").get_by_text(lane, exact=True)
    )
    # The gateway's cell is in the first row only.
    names = page.locator("#pods tbody th .name").all_text_contents()
    column = heads.index(app) - (1 if names.index(lane) == 0 else 2)
    return row.locator("td").nth(column).locator(".node")


def state(page: Page) -> dict[str, list[str]]:
    """What the address holds."""
    said: dict[str, Any] = page.evaluate(
        "() => { const said = new URLSearchParams(location.search);"
        " return Object.fromEntries([...said.keys()].map((key) => [key, said.getAll(key)])); }"
    )
    return said
