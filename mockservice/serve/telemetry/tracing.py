"""Tracing: a server span around the hop, a client span around the upstream call, export by OTLP.

Imported only if an OTLP endpoint is configured. Attribute names are those of OpenTelemetry's stable
semantic conventions for HTTP spans.
"""

from __future__ import annotations

import asyncio
import threading
from functools import lru_cache
from time import time_ns
from typing import TYPE_CHECKING, Final, NamedTuple, cast
from urllib.parse import urlsplit

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mockservice import __version__
from mockservice.propagation import B3_HEADERS, W3C_TRACE_HEADERS, Headers, values_by_name
from mockservice.serve.settings import SettingError
from mockservice.serve.telemetry import otlp
from mockservice.serve.upstream import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.propagators.textmap import TextMapPropagator

    from mockservice.serve.hop import Answer, Answers, Cancelable, Request
    from mockservice.serve.settings import Settings
    from mockservice.serve.upstream import Outcome, Upstream

# For each name in OTEL_PROPAGATORS its propagator, and the headers that it replaces. Baggage has
# none: it goes on byte for byte, like any lane header.
_PROPAGATORS: Final[dict[str, tuple[type[TextMapPropagator] | None, frozenset[bytes]]]] = {
    "tracecontext": (TraceContextTextMapPropagator, W3C_TRACE_HEADERS),
    "baggage": (None, frozenset()),
    "b3": (B3SingleFormat, B3_HEADERS),
    "b3multi": (B3MultiFormat, B3_HEADERS),
    "none": (None, frozenset()),
}
# RFC 9110 section 9, RFC 5789, RFC 10008. Other methods become `_OTHER`, to bound the span names.
_METHODS: Final = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
)
_NO_CONTEXT: Final = otel_context.Context()
# The random flag tells how the trace id was made, so it stays the same for the whole trace (W3C
# Trace Context Level 2, section 3.2.2.5.2).
_RANDOM: Final = 0x02
_UNSET: Final = trace.Status()
_ERROR: Final = trace.Status(trace.StatusCode.ERROR)
_FLUSH_TIMEOUT: Final = 3.0

_MAX_SPAN: Final = 16 * 1024
"""Cap on a span, in bytes, as thousands may wait for a collector. In larger spans texts are cut."""
_CUT: Final = 128
"""The length of a cut text, in characters."""


class Tracing:
    """OpenTelemetry tracing of one hop, configured by the `OTEL_*` variables."""

    def __init__(self, settings: Settings, env: Mapping[str, str]) -> None:
        """Set the SDK up.

        Raises:
            SettingError: an `OTEL_*` variable has a value that is not allowed.
        """
        _check_exporter(env)
        self._propagator, self._rewritten = _propagation(env.get("OTEL_PROPAGATORS"))
        own = Resource({"service.name": settings.app, "service.version": settings.version})
        # Resource attributes in the environment win over the settings.
        resource = Resource.create().merge(own).merge(OTELResourceDetector().detect())
        try:
            self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            exporter = otlp.Exporter(resource, "mockservice", __version__)
            self._spans = _Spans(self._provider, otlp.Processor(exporter))
        except ValueError as error:
            raise SettingError("OTEL_*", str(error), "as the specification has it") from error

    def hop(self, hop: Answers) -> TracedHop:
        """`hop` with a server span around each answer."""
        return TracedHop(hop, self._spans, self._propagator)

    def upstream(self, upstream: Upstream) -> TracedUpstream:
        """`upstream` with a client span around each call: the parent of the next hop's span."""
        return TracedUpstream(upstream, self._spans, self._propagator, self._rewritten)

    def mark(self, name: str, value: otlp.Value) -> None:
        """Set an attribute of the current server span."""
        if self._spans.current is not None:
            self._spans.current.attributes[name] = value

    def in_current_span(self, call: Callable[[], None]) -> Callable[[], None]:
        """Wrap `call`, so that it runs later with the server span that is current now."""
        span = self._spans.current

        def resume() -> None:
            self._spans.current = span
            call()
            self._spans.current = None

        return resume

    def trace_id(self, _: Headers) -> str | None:
        """The trace id of the current server span."""
        current = self._spans.current
        return None if current is None else trace.format_trace_id(current.context.trace_id)

    def traceparent(self) -> bytes | None:
        """The current server span as a `traceparent` (W3C Trace Context section 3.2)."""
        current = self._spans.current
        if current is None:
            return None
        trace_id, span_id, _is_remote, flags, *_state = current.context
        return f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}".encode()

    async def flush(self) -> None:
        """Export the remaining spans and stop, within three seconds."""
        # A daemon, as a collector that hangs may block it.
        thread = threading.Thread(target=self._spans.shutdown, daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, _FLUSH_TIMEOUT)


class _OpenSpan(NamedTuple):
    """A span that has not ended."""

    name: str
    kind: trace.SpanKind
    parent: trace.SpanContext | None
    context: trace.SpanContext
    start_time: int
    """Nanoseconds since the epoch."""
    attributes: dict[str, otlp.Value]


class _Spans:
    """Starts and ends spans. Sampler, ids, limits, batches and export are the SDK's."""

    def __init__(self, provider: TracerProvider, processor: otlp.Processor) -> None:
        self.current: _OpenSpan | None = None
        """The server span of the current request. A plain variable will do, as a request goes from
        the server to the upstream call without a wait, but for `Tracing.in_current_span`."""
        self.shutdown = processor.shutdown
        self._on_end = cast("Callable[[otlp.EncodedSpan], None]", processor.on_end)
        self._ids = provider.id_generator
        self._should_sample = provider.sampler.should_sample
        limits = SpanLimits()
        self._max_attributes = limits.max_span_attributes
        self._max_value_length = limits.max_span_attribute_length

    def begin(
        self,
        name: str,
        kind: trace.SpanKind,
        parent: trace.SpanContext | None,
        attributes: dict[str, otlp.Value],
    ) -> _OpenSpan:
        """Start a span, and sample it (Tracing SDK specification, "SDK Span creation")."""
        context = None
        if parent is not None:
            context = trace.set_span_in_context(trace.NonRecordingSpan(parent), _NO_CONTEXT)
        trace_id = self._ids.generate_trace_id() if parent is None else parent.trace_id
        sampling = self._should_sample(context, trace_id, name, kind, attributes)
        flags = 0 if parent is None else parent.trace_flags & _RANDOM
        if sampling.decision is Decision.RECORD_AND_SAMPLE:
            flags |= trace.TraceFlags.SAMPLED
        span_context = trace.SpanContext(
            trace_id,
            self._ids.generate_span_id(),
            is_remote=False,
            trace_flags=trace.TraceFlags(flags),
            trace_state=sampling.trace_state,
        )
        return _OpenSpan(name, kind, parent, span_context, time_ns(), attributes)

    def end(self, span: _OpenSpan, status: trace.Status, attributes: dict[str, otlp.Value]) -> None:
        """End `span`, add `attributes`, and export it if it is sampled."""
        if not span.context.trace_flags.sampled:
            return
        whole: Mapping[str, otlp.Value] = span.attributes | attributes
        if self._max_value_length is not None or len(whole) > (self._max_attributes or 0):
            bounded = BoundedAttributes(
                self._max_attributes, whole, max_value_len=self._max_value_length
            )
            whole = cast("Mapping[str, otlp.Value]", bounded)
        end_time = time_ns()
        encoded = _encode(span, end_time, whole, status)
        if len(encoded.message) > _MAX_SPAN:
            cut = {name: _cut(value) for name, value in whole.items()}
            encoded = _encode(span, end_time, cut, status)
        self._on_end(encoded)


def _encode(
    span: _OpenSpan, end_time: int, attributes: Mapping[str, otlp.Value], status: trace.Status
) -> otlp.EncodedSpan:
    return otlp.encode(
        span.name,
        span.kind,
        span.context,
        span.parent,
        span.start_time,
        end_time,
        attributes,
        status,
    )


def _cut(value: otlp.Value) -> otlp.Value:
    if isinstance(value, str):
        return value[:_CUT]
    if isinstance(value, tuple):
        return tuple([item[:_CUT] for item in value])
    return value


class TracedHop:
    """Answers as its hop does, with a server span."""

    def __init__(self, hop: Answers, spans: _Spans, propagator: CompositePropagator) -> None:
        self._hop = hop
        self._spans = spans
        self._propagator = propagator

    def answer(self, request: Request, reply: Callable[[Answer], None]) -> Cancelable | None:
        """Reply with the hop's answer. The span is current while the hop calls its upstream."""
        carrier = values_by_name(request.lane_headers)
        context = self._propagator.extract(carrier, _NO_CONTEXT)
        parent = trace.get_current_span(context).get_span_context()
        span = self._spans.begin(
            request.method if request.method in _METHODS else "HTTP",
            trace.SpanKind.SERVER,
            parent if parent.is_valid else None,
            _server_attributes(request, carrier),
        )

        def end(answer: Answer) -> None:
            kind = None if answer.failure is None else answer.failure.kind
            self._spans.end(span, *_ended(answer.status, answer.status >= 500, kind))
            reply(answer)

        self._spans.current = span
        call = self._hop.answer(request, end)
        self._spans.current = None
        return call


class TracedUpstream:
    """Calls the upstream, with a client span."""

    def __init__(
        self,
        upstream: Upstream,
        spans: _Spans,
        propagator: CompositePropagator,
        rewritten: frozenset[bytes],
    ) -> None:
        self._upstream = upstream
        self._spans = spans
        self._propagator = propagator
        self._rewritten = rewritten
        self._attributes: dict[str, otlp.Value] = {
            "http.request.method": "GET",
            "server.address": upstream.url.host,
            "server.port": upstream.url.port,
            "url.full": upstream.url.text,
        }

    def get(
        self, headers: Headers, timeout: float, done: Callable[[Outcome], None]
    ) -> Cancelable | None:
        """GET the upstream with `headers` and the trace context of the client span."""
        server = self._spans.current
        parent = None if server is None else server.context
        span = self._spans.begin("GET", trace.SpanKind.CLIENT, parent, self._attributes)
        written: dict[str, str] = {}
        context = trace.set_span_in_context(trace.NonRecordingSpan(span.context), _NO_CONTEXT)
        self._propagator.inject(written, context)
        headers = [header for header in headers if header[0].lower() not in self._rewritten]
        headers += [(name.encode(), value.encode()) for name, value in written.items()]

        def end(outcome: Outcome) -> None:
            if isinstance(outcome, UpstreamError):
                status = trace.Status(trace.StatusCode.ERROR, outcome.failure.reason)
                self._spans.end(span, status, {"error.type": outcome.failure.kind})
            else:
                self._spans.end(span, *_ended(outcome.status, outcome.status >= 400))
            done(outcome)

        return self._upstream.get(headers, timeout, end)


def _check_exporter(env: Mapping[str, str]) -> None:
    exporter = env.get("OTEL_TRACES_EXPORTER") or "otlp"
    if exporter.strip().lower() != "otlp":
        raise SettingError("OTEL_TRACES_EXPORTER", exporter, "otlp or none")
    for part in ("_TRACES", ""):
        name = f"OTEL_EXPORTER_OTLP{part}_PROTOCOL"
        protocol = env.get(name)
        if protocol and protocol.strip().lower() != "http/protobuf":
            raise SettingError(name, protocol, "http/protobuf")
        name = f"OTEL_EXPORTER_OTLP{part}_ENDPOINT"
        endpoint = env.get(name)
        if endpoint and not _is_http_url(endpoint):
            raise SettingError(name, endpoint, "an http or https URL with a host")


def _is_http_url(value: str) -> bool:
    try:
        url = urlsplit(value)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


def _propagation(names: str | None) -> tuple[CompositePropagator, frozenset[bytes]]:
    """The propagators by these names, and the headers that they replace."""
    propagators: list[TextMapPropagator] = []
    rewritten: frozenset[bytes] = frozenset()
    for name in (names or "tracecontext,baggage").split(","):
        if name.strip() not in _PROPAGATORS:
            allowed = f"names out of {', '.join(_PROPAGATORS)}, comma-separated"
            raise SettingError("OTEL_PROPAGATORS", name.strip(), allowed)
        propagator, headers = _PROPAGATORS[name.strip()]
        if propagator is not None:
            propagators.append(propagator())
        rewritten |= headers
    return CompositePropagator(propagators), rewritten


def _ended(
    status: int, is_error: bool, kind: str | None = None
) -> tuple[trace.Status, dict[str, otlp.Value]]:
    if is_error:
        return _ERROR, {"http.response.status_code": status, "error.type": kind or str(status)}
    return _UNSET, {"http.response.status_code": status}


def _server_attributes(
    request: Request, lane_headers: Mapping[str, list[str]]
) -> dict[str, otlp.Value]:
    path, _, query = request.target.partition("?")
    attributes: dict[str, otlp.Value] = {"url.scheme": "http", "url.path": path}
    if request.method in _METHODS:
        attributes["http.request.method"] = request.method
    else:
        attributes["http.request.method"] = "_OTHER"
        attributes["http.request.method_original"] = request.method
    if query:
        attributes["url.query"] = query
    if request.client_ip:
        attributes["client.address"] = request.client_ip
    for name, value in request.headers:
        match name.lower():
            case b"host":
                attributes |= _server_address(value)
            case b"user-agent":
                attributes["user_agent.original"] = value.decode("utf-8", "backslashreplace")
    for header, values in lane_headers.items():
        if header.encode() not in W3C_TRACE_HEADERS:
            attributes[f"http.request.header.{header}"] = tuple(values)
    return attributes


@lru_cache(maxsize=64)
def _server_address(host: bytes) -> dict[str, otlp.Value]:
    try:
        url = urlsplit(f"//{host.decode('latin-1')}")
        port = url.port
    except ValueError:
        return {}
    return {"server.address": url.hostname or "", "server.port": port or 80}
