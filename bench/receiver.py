"""An OTLP/HTTP receiver that counts spans: POST takes an export, GET tells the spans so far.

Each path is counted by itself, so that every traced chain of a run sends to one of its own.
"""

from __future__ import annotations

import sys
from collections import Counter

import uvloop
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

MAX_EXPORT = 16 * 1024 * 1024
"""Bytes of one export."""

spans: Counter[str] = Counter()


async def export(request: web.Request) -> web.Response:
    """Take one batch (OTLP specification, "OTLP/HTTP Request")."""
    batch = ExportTraceServiceRequest.FromString(await request.read())
    spans[request.path] += sum(
        len(scope.spans) for resource in batch.resource_spans for scope in resource.scope_spans
    )
    return web.Response(
        body=ExportTraceServiceResponse().SerializeToString(),
        content_type="application/x-protobuf",
    )


async def count(request: web.Request) -> web.Response:
    """The number of spans that came to this path."""
    return web.Response(text=str(spans[request.path]))


def main(host: str, port: int) -> None:
    """Serve until SIGTERM."""
    app = web.Application(client_max_size=MAX_EXPORT)
    app.router.add_post("/{path:.*}", export)
    app.router.add_get("/{path:.*}", count)
    web.run_app(
        app, host=host, port=port, loop=uvloop.new_event_loop(), access_log=None, print=None
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
