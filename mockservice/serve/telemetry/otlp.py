"""Encodes spans as OTLP bytes when they end, and exports them.

The SDK keeps spans writable and builds a protobuf message for each attribute, which takes most of
the CPU time of a traced request. Batches, retries, TLS, compression and the `OTEL_EXPORTER_*`
variables are the SDK's. Field numbers: opentelemetry-proto,
`opentelemetry/proto/trace/v1/trace.proto`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.trace import SpanKind, Status

    from mockservice.serve.telemetry.trace_context import TraceContext

Value = str | int | tuple[str, ...]
"""The value of a span's attribute."""

# SpanFlags: whether the parent is remote is known; that it is.
_FLAGS: Final = b"\x85\x01" + struct.pack("<I", 0x100)
_FLAGS_REMOTE: Final = b"\x85\x01" + struct.pack("<I", 0x100 | 0x200)
_BYTES: Final = [bytes((number,)) for number in range(256)]
# Start and end, each after its tag.
_TIMES: Final = struct.Struct("<BQBQ")


class Attribute(NamedTuple):
    """An attribute of a span."""

    name: str
    value: Value
    encoded: bytes
    """A `KeyValue`, as a field of the span."""


def attribute(name: str, value: Value) -> Attribute:
    """Encode an attribute. Those that come with every request are worth keeping."""
    return Attribute(name, value, field(9, field(1, name.encode()) + field(2, _any_value(value))))


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
        parts.append(field(3, context.state))
    if parent is not None:
        parts += (b"\x22\x08", parent.span_id)
    parts += (name, _TIMES.pack(0x39, start, 0x41, end))
    parts += [attribute.encoded for attribute in attributes]
    parts += (status, _FLAGS_REMOTE if parent is not None and parent.is_remote else _FLAGS)
    return field(2, b"".join(parts))


def encode_name(name: str, kind: SpanKind) -> bytes:
    """Encode the name and the kind of a span."""
    # In the protocol, the numbers of the kinds are higher by one than in the API.
    return field(5, name.encode()) + b"\x30%c" % (kind.value + 1)


def encode_status(status: Status) -> bytes:
    """Encode the status of a span."""
    message = field(2, status.description.encode()) if status.description else b""
    code = b"\x18%c" % status.status_code.value if status.status_code.value else b""
    return field(15, message + code)


def _any_value(value: Value) -> bytes:
    if isinstance(value, str):
        return field(1, value.encode("utf-8", "backslashreplace"))
    if isinstance(value, int):
        return b"\x18" + _varint(value)
    return field(5, b"".join([field(1, _any_value(item)) for item in value]))


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field; `number` must be below 16."""
    return _BYTES[number << 3 | 2] + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    """A non-negative number as a varint (Protocol Buffers, "Encoding")."""
    encoded = b""
    while value >= 0x80:
        encoded += _BYTES[value & 0x7F | 0x80]
        value >>= 7
    return encoded + _BYTES[value]
