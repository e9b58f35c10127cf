"""An OTLP/HTTP receiver that decodes the protobuf."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.running import new_address, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Receiver:
    """Takes exports at `url`."""

    def __init__(self) -> None:
        self.spans: list[tuple[dict[str, object], Span]] = []
        """The attributes of the resource, and the span."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                receiver._take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, *_: object) -> None:
                pass

        address = new_address()
        self.url = f"http://{address}:4318"
        self.server = ThreadingHTTPServer((address, 4318), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def settings(self, **more: str) -> dict[str, str]:
        """The environment of a hop that exports to this receiver, and `more`."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            **more,
        }

    def _take(self, message: ExportTraceServiceRequest) -> None:
        for of_resource in message.resource_spans:
            resource = attributes(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                self.spans += [(resource, span) for span in of_scope.spans]

    def wait_for(self, count: int) -> list[tuple[dict[str, object], Span]]:
        """At least `count` spans, in the order of their start."""
        wait_until(lambda: len(self.spans) >= count)
        return sorted(self.spans, key=lambda pair: pair[1].start_time_unix_nano)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver, closed at the end of the block."""
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def attributes(pairs: Iterable[KeyValue]) -> dict[str, object]:
    """Attributes by name."""
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return None if kind is None else getattr(value, kind)
