"""Exports the spans that `mockservice.serve.telemetry.otlp` has encoded.

Batches, retries, TLS, compression and the `OTEL_EXPORTER_*` variables are the SDK's.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from mockservice.serve.telemetry.otlp import field
from mockservice.serve.telemetry.transport import PlainTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.resources import Resource

_PROXIES: Final = ("http_proxy", "all_proxy")
"""The variables that name a proxy, in lower or upper case."""
_QUIET: Final = 60.0
"""Seconds between two warnings about a full queue."""


class Processor(BatchSpanProcessor):
    """The SDK's processor, but a full queue is logged once a minute instead of for each span.

    With a collector that hangs, logging took a tenth of a request's CPU time.
    """

    def __init__(self, exporter: Exporter) -> None:
        super().__init__(exporter)
        self._queue = self._batch_processor._queue
        self._emit = cast("Callable[[bytes], None]", self._batch_processor.emit)
        self._quiet_until = 0.0

    def add(self, span: bytes) -> None:
        """Queue a sampled and encoded span. If the queue is full, the oldest span is dropped."""
        if len(self._queue) == self._queue.maxlen:
            now = monotonic()
            if now < self._quiet_until:
                self._queue.appendleft(cast("ReadableSpan", span))
                return
            self._quiet_until = now + _QUIET
        self._emit(span)


class Exporter(OTLPSpanExporter):
    """The SDK's exporter for encoded spans, all of one resource and scope."""

    def __init__(self, endpoint: str, resource: Resource, scope: str, version: str) -> None:
        """Read the `OTEL_EXPORTER_OTLP_*` variables, one of which has the endpoint.

        Raises:
            ValueError: a variable has a value that is not allowed.
        """
        if _is_plain(endpoint):
            super().__init__(_transport=PlainTransport())
        else:
            from mockservice.serve.telemetry.session import Session

            super().__init__(session=Session())
        any_span = ReadableSpan(
            "",
            INVALID_SPAN_CONTEXT,
            resource=resource,
            instrumentation_scope=InstrumentationScope(scope, version),
        )
        [of_resource] = encode_spans([any_span]).resource_spans
        self._resource = field(1, of_resource.resource.SerializeToString())
        self._scope = field(1, of_resource.scope_spans[0].scope.SerializeToString())

    def export(self, spans: Sequence[ReadableSpan | bytes]) -> SpanExportResult:
        """Send `spans`. If that fails, after retries, drop them and log the failure."""
        messages = b"".join(cast("Sequence[bytes]", spans))
        of_scope = field(2, self._scope + messages)
        # The last step of OTLPSpanExporter.export, after the encoding.
        sent = self._client.export(field(1, self._resource + of_scope))
        return SpanExportResult.SUCCESS if sent.success else SpanExportResult.FAILURE


def _is_plain(endpoint: str) -> bool:
    """Whether exports go to a collector over plain HTTP: no TLS, no password, and no proxy."""
    url = urlsplit(endpoint)
    has_proxy = any(name.lower() in _PROXIES and value for name, value in os.environ.items())
    return url.scheme == "http" and "@" not in url.netloc and not has_proxy
