"""The bare server that memory and start are held against: aiohttp on uvloop, and one word."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import uvloop
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

ENV: Mapping[str, str] = os.environ


async def hello(_: web.Request) -> web.Response:
    """Say it."""
    return web.Response(text="hello")


def main() -> None:
    """Serve until SIGTERM."""
    app = web.Application()
    app.router.add_get("/", hello)
    web.run_app(
        app,
        host=ENV["host"],
        port=int(ENV["port"]),
        loop=uvloop.new_event_loop(),
        access_log=None,
        print=None,
    )


if __name__ == "__main__":
    main()
