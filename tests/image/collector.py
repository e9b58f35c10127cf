"""An OTLP/HTTP receiver that prints `service:trace` for each span."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Handler(BaseHTTPRequestHandler):
    """Takes one export."""

    def do_POST(self) -> None:
        """Print its spans."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = [
                    a.value.string_value
                    for a in resource.resource.attributes
                    if a.key == "service.name"
                ]
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        sys.stdout.write(f"{names[0]}:{span.trace_id.hex()}\n")
        self.send_response(200 if self.path == "/v1/traces" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: standard output is for spans."""


HTTPServer(("", 4318), Handler).serve_forever()
