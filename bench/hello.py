"""The reference for memory and start time: a bare aiohttp server on uvloop that says hello."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from aiohttp import web

from bench.serving import serve

if TYPE_CHECKING:
    from collections.abc import Mapping

ENV: Mapping[str, str] = os.environ


async def hello(_: web.Request) -> web.Response:
    """Say hello."""
    return web.Response(text="hello")


def main() -> None:
    """Serve until SIGTERM."""
    app = web.Application()
    app.router.add_get("/", hello)
    serve(app, ENV["host"], ENV["port"])


if __name__ == "__main__":
    main()
