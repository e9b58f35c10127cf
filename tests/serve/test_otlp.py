"""The encoding of spans equals the SDK's, and only the start of a collector's answer is read."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import (
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from mockservice.serve.telemetry import export, otlp
from mockservice.serve.telemetry.trace_context import TraceContext
from tests.running import Peer, new_address, ok, peer, read_head, request, running, wait_until

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    import pytest

_NANOSECONDS = st.integers(0, 2**63 - 1)
_CONTEXTS = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.sampled_from([TraceFlags(1), TraceFlags(3)]),
    st.sampled_from([TraceState(), TraceState([("a", "1"), ("b", "2")])]),
)
_TEXTS = st.text(max_size=300)
_VALUES = _TEXTS | st.integers(0, 2**40) | st.lists(_TEXTS, max_size=3).map(tuple)
_STATUSES = st.just(Status()) | st.builds(
    Status, st.just(StatusCode.ERROR), st.none() | st.text(min_size=1)
)


@given(
    name=_TEXTS,
    kind=st.sampled_from([SpanKind.SERVER, SpanKind.CLIENT]),
    context=_CONTEXTS,
    parent=st.none() | _CONTEXTS,
    start=_NANOSECONDS,
    end=_NANOSECONDS,
    attributes=st.dictionaries(_TEXTS, _VALUES, max_size=8),
    status=_STATUSES,
)
def test_the_encoding_is_the_sdks(
    name: str,
    kind: SpanKind,
    context: SpanContext,
    parent: SpanContext | None,
    start: int,
    end: int,
    attributes: dict[str, otlp.Value],
    status: Status,
) -> None:
    encoded = otlp.encode(
        otlp.encode_name(name, kind),
        TraceContext.of(context),
        None if parent is None else TraceContext.of(parent),
        start,
        end,
        [otlp.attribute(key, value) for key, value in attributes.items()],
        otlp.encode_status(status),
    )
    span = ReadableSpan(
        name,
        context,
        parent,
        attributes=attributes,
        kind=kind,
        status=status,
        start_time=start,
        end_time=end,
    )
    expected = encode_spans([span]).resource_spans[0].scope_spans[0].spans
    assert list(ScopeSpans.FromString(encoded).spans) == list(expected)


def test_a_span_may_have_text_that_is_not_unicode() -> None:
    path = otlp.attribute("url.path", b"/\xff".decode("utf-8", "surrogateescape"))
    name, status = otlp.encode_name("GET", SpanKind.SERVER), otlp.encode_status(Status())
    context = TraceContext(bytes(15) + b"1", bytes(7) + b"1", flags=1)
    [span] = ScopeSpans.FromString(otlp.encode(name, context, None, 1, 2, [path], status)).spans
    assert span.attributes[0].value.string_value == r"/\udcff"


def test_a_full_queue_is_logged_once_and_drops_the_oldest_spans(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = f"http://{new_address()}:4318"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    words: list[str] = []
    make = logging.getLogRecordFactory()

    def heard(*of: Any, **more: Any) -> logging.LogRecord:
        record = make(*of, **more)
        words.append(record.getMessage())
        return record

    monkeypatch.setattr(logging, "_logRecordFactory", heard)
    exporting, release = threading.Event(), threading.Event()
    exported: list[str] = []

    class Hanging(export.Exporter):
        def export(self, spans: Sequence[ReadableSpan | bytes]) -> SpanExportResult:
            exported.extend(span.decode() for span in spans if isinstance(span, bytes))
            exporting.set()
            release.wait(10)
            return SpanExportResult.SUCCESS

    processor = export.Processor(Hanging(endpoint, Resource({}), "test", "1"))
    for number in range(8):
        processor.add(b"%d" % number)
    assert exporting.wait(10)
    for number in range(100, 200):
        processor.add(b"%d" % number)
    release.set()
    processor.shutdown()  # type: ignore[no-untyped-call]
    assert exported == [str(number) for number in (*range(8), *range(192, 200))]
    assert len([word for word in words if word.startswith("Queue full")]) == 1


def test_only_the_start_of_an_endless_answer_of_a_collector_is_read() -> None:
    taken: list[int] = []

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        for _ in range(2**30 // 65536):
            connection.sendall(b"x" * 65536)
            taken.append(65536)

    with peer(serve) as collector, running(**_exporting_to(collector)) as hop:
        assert request(hop.url).status == 200
        wait_until(lambda: bool(taken))
        assert hop.stop() == 0
    # Most of these bytes are in the buffers of the sockets.
    assert sum(taken) < 2**26


def test_the_connection_to_a_collector_is_kept() -> None:
    exports: list[bytes] = []
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        connections.append(connection)
        while head := read_head(connection):
            exports.append(head)
            connection.sendall(ok(b"taken"))

    with peer(serve, read=False) as collector, running(**_exporting_to(collector)) as hop:
        for count in range(1, 4):
            assert request(hop.url).status == 200
            wait_until(lambda: len(exports) >= count)  # noqa: B023
        assert hop.stop() == 0
    assert len(connections) == 1


def _exporting_to(collector: Peer) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
