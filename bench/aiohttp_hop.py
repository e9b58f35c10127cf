"""The reference in Python: a hop as an aiohttp application with a ClientSession.

It reads the same environment variables as mockservice, carries the same headers and answers the
same text. `opentelemetry-instrument` adds tracing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from aiohttp import ClientError, ClientSession, ClientTimeout, web
from multidict import CIMultiDict

from bench.serving import serve
from mockservice.propagation import CARRIED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

CARRIED_NAMES = frozenset(name.decode() for name in CARRIED)
SESSION = web.AppKey("session", ClientSession)

ENV: Mapping[str, str] = os.environ
LINE = f"-> {ENV['app']}(version: {ENV['version']}, ip: {ENV['host']})"
UPSTREAM_URL = ENV.get("upstream_url", "")


async def session(app: web.Application) -> AsyncIterator[None]:
    """Open the session of the application, and close it at the end."""
    async with ClientSession(timeout=ClientTimeout(total=5)) as app[SESSION]:
        yield


async def chain(request: web.Request) -> web.Response:
    """Answer with this hop's line and the upstream's answer."""
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
    serve(app, ENV["host"], ENV["port"])


if __name__ == "__main__":
    main()
