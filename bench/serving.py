"""Runs an aiohttp application on uvloop: for the references and the receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import uvloop
from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.web import Application


def serve(app: Application, host: str, port: str) -> None:
    """Serve until SIGTERM."""
    web.run_app(
        app,
        host=host,
        port=int(port),
        loop=uvloop.new_event_loop(),
        access_log=None,
        print=None,
    )
