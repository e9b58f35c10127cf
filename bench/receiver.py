"""An OTLP/HTTP receiver that counts spans: POST takes an export, GET returns the count.

Each path has its own count, and each traced chain of a run its own path.
"""

from __future__ import annotations

import sys
from collections import Counter

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from bench.serving import serve

MAX_EXPORT = 16 * 1024 * 1024
"""Cap on an export, in bytes."""

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
    """The number of spans received at this path."""
    return web.Response(text=str(spans[request.path]))


def main(host: str, port: str) -> None:
    """Serve until SIGTERM."""
    app = web.Application(client_max_size=MAX_EXPORT)
    app.router.add_post("/{path:.*}", export)
    app.router.add_get("/{path:.*}", count)
    serve(app, host, port)


if __name__ == "__main__":
    main(*sys.argv[1:])
