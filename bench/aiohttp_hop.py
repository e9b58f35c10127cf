"""One hop of the chain the way a Python team writes it: an aiohttp application, a ClientSession.

It takes the same environment variables as mockservice, carries the same headers and answers the
same text. It knows nothing of tracing: `opentelemetry-instrument` puts that around it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import uvloop
from aiohttp import ClientError, ClientSession, ClientTimeout, web
from multidict import CIMultiDict

from mockservice.propagation import CARRIED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

CARRIED_NAMES = frozenset(name.decode() for name in CARRIED)
SESSION = web.AppKey("session", ClientSession)

ENV: Mapping[str, str] = os.environ
LINE = f"-> {ENV['app']}(version: {ENV['version']}, ip: {ENV['host']})"
UPSTREAM_URL = ENV.get("upstream_url", "")


async def session(app: web.Application) -> AsyncIterator[None]:
    """The one session of the application, closed with it."""
    async with ClientSession(timeout=ClientTimeout(total=5)) as app[SESSION]:
        yield


async def chain(request: web.Request) -> web.Response:
    """This hop and what its upstream says."""
    if not UPSTREAM_URL:
        return web.Response(text=LINE)
    headers = CIMultiDict(
        (name, value) for name, value in request.headers.items() if name.lower() in CARRIED_NAMES
    )
    try:
        async with request.app[SESSION].get(
            UPSTREAM_URL, headers=headers, allow_redirects=False
        ) as upstream:
            return web.Response(status=upstream.status, text=LINE + await upstream.text())
    except (ClientError, TimeoutError) as error:
        return web.Response(status=502, text=f"{LINE}-> {UPSTREAM_URL}(unreachable: {error})")


def main() -> None:
    """Serve until SIGTERM."""
    app = web.Application()
    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{path:.*}", chain)
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
