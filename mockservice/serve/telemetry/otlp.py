"""Encodes spans as OTLP bytes when they end, and exports them.

The SDK keeps spans writable and builds a protobuf message for each attribute, which takes most of
the CPU time of a traced request. Batches, retries, TLS, compression and the `OTEL_EXPORTER_*`
variables are the SDK's. Field numbers: opentelemetry-proto,
`opentelemetry/proto/trace/v1/trace.proto`.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import requests
import urllib3
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN_CONTEXT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import SpanContext, SpanKind, Status

Value = str | int | tuple[str, ...]
"""The value of a span's attribute."""

# SpanFlags: "is remote" is known, and true.
_HAS_IS_REMOTE: Final = 0x100
_IS_REMOTE: Final = 0x200

_MAX_ANSWER: Final = 64 * 1024
"""Cap on a collector's answer, in bytes."""
_QUIET: Final = 60.0
"""Seconds between two warnings about a full queue."""


class EncodedSpan(NamedTuple):
    """An ended span, encoded."""

    context: SpanContext
    """Tells the span processor whether the span is sampled."""
    message: bytes
    """The span, encoded as a field of `ScopeSpans`."""


def encode(
    name: str,
    kind: SpanKind,
    context: SpanContext,
    parent: SpanContext | None,
    start: int,
    end: int,
    attributes: Mapping[str, Value],
    status: Status,
) -> EncodedSpan:
    """Encode an ended span. `start` and `end` are nanoseconds since the epoch."""
    flags = _HAS_IS_REMOTE
    parts = [
        b"\x0a\x10",
        context.trace_id.to_bytes(16, "big"),
        b"\x12\x08",
        context.span_id.to_bytes(8, "big"),
    ]
    if context.trace_state:
        parts.append(_field(3, context.trace_state.to_header().encode()))
    if parent is not None:
        parts += (b"\x22\x08", parent.span_id.to_bytes(8, "big"))
        flags |= _IS_REMOTE if parent.is_remote else 0
    parts += (
        _field(5, name.encode()),
        # In the protocol, the numbers of the kinds are higher by one than in the API.
        b"\x30%c" % (kind.value + 1),
        b"\x39",
        struct.pack("<Q", start),
        b"\x41",
        struct.pack("<Q", end),
    )
    parts += [_attribute(key, value) for key, value in attributes.items()]
    parts += (_status(status), b"\x85\x01", struct.pack("<I", flags))
    return EncodedSpan(context, _field(2, b"".join(parts)))


class Processor(BatchSpanProcessor):
    """The SDK's processor, but a full queue is logged once a minute instead of for each span.

    With a collector that hangs, logging took a tenth of a request's CPU time.
    """

    def __init__(self, exporter: Exporter) -> None:
        super().__init__(exporter)
        self._queue = self._batch_processor._queue
        self._quiet_until = 0.0

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span. If the queue is full, the oldest span is dropped."""
        if len(self._queue) == self._queue.maxlen:
            now = monotonic()
            if now < self._quiet_until:
                self._queue.appendleft(span)
                return
            self._quiet_until = now + _QUIET
        super().on_end(span)


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

    def export(self, spans: Sequence[ReadableSpan | EncodedSpan]) -> SpanExportResult:
        """Send `spans`. If that fails, after retries, drop them and log the failure."""
        messages: Iterable[bytes] = (span.message for span in spans)  # type: ignore[union-attr]
        of_scope = _field(2, self._scope + b"".join(messages))
        # The last step of OTLPSpanExporter.export, after the encoding.
        sent = self._client.export(_field(1, self._resource + of_scope))
        return SpanExportResult.SUCCESS if sent.success else SpanExportResult.FAILURE


def _status(status: Status) -> bytes:
    message = _field(2, status.description.encode()) if status.description else b""
    code = b"\x18%c" % status.status_code.value if status.status_code.value else b""
    return _field(15, message + code)


@lru_cache(maxsize=512)
def _attribute(key: str, value: Value) -> bytes:
    """A `KeyValue`, as a field of the span."""
    return _field(9, _field(1, key.encode()) + _field(2, _any_value(value)))


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
        return b"%c%c%b" % (number << 3 | 2, length, payload)
    return b"%c%b%b" % (number << 3 | 2, _varint(length), payload)


def _varint(value: int) -> bytes:
    """A non-negative number as a varint (Protocol Buffers, "Encoding")."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
