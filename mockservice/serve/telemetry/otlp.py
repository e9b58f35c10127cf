"""Encodes spans as OTLP bytes when they end, and exports them.

The SDK keeps spans writable and builds a protobuf message for each attribute, which takes most of
the CPU time of a traced request. Batches, retries, TLS, compression and the `OTEL_EXPORTER_*`
variables are the SDK's. Field numbers: opentelemetry-proto,
`opentelemetry/proto/trace/v1/trace.proto`.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import requests
import urllib3
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN_CONTEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import SpanKind, Status

    from mockservice.serve.telemetry.trace_context import TraceContext

Value = str | int | tuple[str, ...]
"""The value of a span's attribute."""

# SpanFlags: whether the parent is remote is known; that it is.
_FLAGS: Final = b"\x85\x01" + struct.pack("<I", 0x100)
_FLAGS_REMOTE: Final = b"\x85\x01" + struct.pack("<I", 0x100 | 0x200)
# Start and end, each after its tag.
_TIMES: Final = struct.Struct("<BQBQ")

_MAX_ANSWER: Final = 64 * 1024
"""Cap on a collector's answer, in bytes."""
_QUIET: Final = 60.0
"""Seconds between two warnings about a full queue."""


class Attribute(NamedTuple):
    """An attribute of a span."""

    name: str
    value: Value
    encoded: bytes
    """A `KeyValue`, as a field of the span."""


def attribute(name: str, value: Value) -> Attribute:
    """Encode an attribute. Those that come with every request are worth keeping."""
    return Attribute(
        name, value, _field(9, _field(1, name.encode()) + _field(2, _any_value(value)))
    )


def encode(
    name: bytes,
    context: TraceContext,
    parent: TraceContext | None,
    start: int,
    end: int,
    attributes: Iterable[Attribute],
    status: bytes,
) -> bytes:
    """Encode an ended span as a field of `ScopeSpans`.

    Args:
        name: the result of `encode_name`.
        context: the span's own.
        parent: its parent's; None for the first span of a trace.
        start: nanoseconds since the epoch.
        end: nanoseconds since the epoch.
        attributes: with different names.
        status: the result of `encode_status`.
    """
    parts = [b"\x0a\x10", context.trace_id, b"\x12\x08", context.span_id]
    if context.state:
        parts.append(_field(3, context.state))
    if parent is not None:
        parts += (b"\x22\x08", parent.span_id)
    parts += (name, _TIMES.pack(0x39, start, 0x41, end))
    parts += [attribute.encoded for attribute in attributes]
    parts += (status, _FLAGS_REMOTE if parent is not None and parent.is_remote else _FLAGS)
    return _field(2, b"".join(parts))


def encode_name(name: str, kind: SpanKind) -> bytes:
    """Encode the name and the kind of a span."""
    # In the protocol, the numbers of the kinds are higher by one than in the API.
    return _field(5, name.encode()) + b"\x30%c" % (kind.value + 1)


def encode_status(status: Status) -> bytes:
    """Encode the status of a span."""
    message = _field(2, status.description.encode()) if status.description else b""
    code = b"\x18%c" % status.status_code.value if status.status_code.value else b""
    return _field(15, message + code)


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


class _Session(requests.Session):
    """Reads at most `_MAX_ANSWER` bytes of a collector's answer."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: requests would read the whole body of a redirect, even if it does not follow it."""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        response = super().send(request, **{**options, "stream": True})
        with suppress(urllib3.exceptions.HTTPError, OSError):
            # The whole answer is read: the connection can be kept alive.
            if len(response.raw.read(_MAX_ANSWER)) < _MAX_ANSWER:
                return response
        response.close()
        return response


class Exporter(OTLPSpanExporter):
    """The SDK's exporter for encoded spans, all of one resource and scope."""

    def __init__(self, resource: Resource, scope: str, version: str) -> None:
        """Read the `OTEL_EXPORTER_OTLP_*` variables.

        Raises:
            ValueError: a variable has a value that is not allowed.
        """
        super().__init__(session=_Session())
        any_span = ReadableSpan(
            "",
            INVALID_SPAN_CONTEXT,
            resource=resource,
            instrumentation_scope=InstrumentationScope(scope, version),
        )
        [of_resource] = encode_spans([any_span]).resource_spans
        self._resource = _field(1, of_resource.resource.SerializeToString())
        self._scope = _field(1, of_resource.scope_spans[0].scope.SerializeToString())

    def export(self, spans: Sequence[ReadableSpan | bytes]) -> SpanExportResult:
        """Send `spans`. If that fails, after retries, drop them and log the failure."""
        messages = b"".join(cast("Sequence[bytes]", spans))
        of_scope = _field(2, self._scope + messages)
        # The last step of OTLPSpanExporter.export, after the encoding.
        sent = self._client.export(_field(1, self._resource + of_scope))
        return SpanExportResult.SUCCESS if sent.success else SpanExportResult.FAILURE


def _any_value(value: Value) -> bytes:
    if isinstance(value, str):
        return _field(1, value.encode("utf-8", "backslashreplace"))
    if isinstance(value, int):
        return b"\x18" + _varint(value)
    return _field(5, b"".join([_field(1, _any_value(item)) for item in value]))


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited field; `number` must be below 16."""
    length = len(payload)
    if length < 0x80:
        return bytes((number << 3 | 2, length)) + payload
    return bytes((number << 3 | 2, *_varint(length))) + payload


def _varint(value: int) -> bytes:
    """A non-negative number as a varint (Protocol Buffers, "Encoding")."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
