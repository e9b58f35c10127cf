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

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision

from mockservice import __version__
from mockservice.propagation import W3C_TRACE_HEADERS, FieldLines, Headers
from mockservice.serve.settings import SettingError
from mockservice.serve.telemetry import export, otlp
from mockservice.serve.telemetry.trace_context import Propagator, TraceContext
from mockservice.serve.upstream import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mockservice.serve.hop import Answer, Answers, Cancelable, Request
    from mockservice.serve.settings import Settings
    from mockservice.serve.telemetry.otlp import Attribute
    from mockservice.serve.upstream import Outcome, Upstream

# RFC 9110 section 9, RFC 5789, RFC 10008. Other methods become `_OTHER`, to bound the span names.
_METHODS: Final = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
)
# The random flag tells how the trace id was made, so it stays the same for the whole trace (W3C
# Trace Context Level 2, section 3.2.2.5.2).
_RANDOM: Final = 0x02
_KEPT: Final = _RANDOM | trace.TraceFlags.SAMPLED
# The end of the description of a sampler that does as the parent does.
_FOLLOWS: Final = (
    "".join(
        f",{parent}Sampled:AlwaysOnSampler,{parent}NotSampled:AlwaysOffSampler"
        for parent in ("remoteParent", "localParent")
    )
    + "}"
)
_UNSET: Final = trace.Status()
_ERROR: Final = trace.Status(trace.StatusCode.ERROR)
_FLUSH_TIMEOUT: Final = 3.0

_MAX_SPAN: Final = 16 * 1024
"""Cap on a span, in bytes, as thousands may wait for a collector. In larger spans texts are cut."""
_CUT: Final = 128
"""The length of a cut text, in characters."""
_MAX_CACHED: Final = 512
"""Cap on what is cached as encoded, in bytes."""


class Tracing:
    """OpenTelemetry tracing of one hop, configured by the `OTEL_*` variables."""

    def __init__(self, settings: Settings, env: Mapping[str, str], endpoint: str) -> None:
        """Set the SDK up, to export to `endpoint`, as the variables have it.

        Raises:
            SettingError: an `OTEL_*` variable has a value that is not allowed.
        """
        _check_exporter(env)
        self._propagator = Propagator(env.get("OTEL_PROPAGATORS"))
        own = Resource({"service.name": settings.app, "service.version": settings.version})
        # Resource attributes in the environment win over the settings.
        resource = Resource.create().merge(own).merge(OTELResourceDetector().detect())
        try:
            self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            exporter = export.Exporter(endpoint, resource, "mockservice", __version__)
            self._spans = _Spans(self._provider, export.Processor(exporter))
        except ValueError as error:
            raise SettingError("OTEL_*", str(error), "as the specification has it") from error

    def hop(self, hop: Answers) -> TracedHop:
        """`hop` with a server span around each answer."""
        return TracedHop(hop, self._spans, self._propagator)

    def upstream(self, upstream: Upstream) -> TracedUpstream:
        """`upstream` with a client span around each call: the parent of the next hop's span."""
        return TracedUpstream(upstream, self._spans, self._propagator)

    def mark(self, name: str, value: otlp.Value) -> None:
        """Set an attribute of the current server span."""
        if self._spans.current is not None:
            self._spans.current.attributes[name] = otlp.attribute(name, value)

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
        return None if current is None else current.context.trace_id.hex()

    def current(self) -> TraceContext | None:
        """The context of the current server span."""
        current = self._spans.current
        return None if current is None else current.context

    async def flush(self) -> None:
        """Export the remaining spans and stop, within three seconds."""
        # A daemon, as a collector that hangs may block it.
        thread = threading.Thread(target=self._spans.shutdown, daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, _FLUSH_TIMEOUT)


class _SpanName:
    """The name of spans, and their kind."""

    __slots__ = ("encoded", "kind", "text")

    def __init__(self, text: str, kind: trace.SpanKind) -> None:
        self.text = text
        self.kind = kind
        self.encoded = otlp.encode_name(text, kind)


_CLIENT: Final = _SpanName("GET", trace.SpanKind.CLIENT)
_OTHER: Final = _SpanName("HTTP", trace.SpanKind.SERVER)
_SERVER: Final = {method: _SpanName(method, trace.SpanKind.SERVER) for method in _METHODS}


class _OpenSpan:
    """A span that has not ended."""

    __slots__ = ("attributes", "context", "name", "parent", "start_time")

    def __init__(
        self,
        name: _SpanName,
        parent: TraceContext | None,
        context: TraceContext,
        attributes: dict[str, Attribute],
    ) -> None:
        self.name = name
        self.parent = parent
        self.context = context
        self.attributes = attributes
        self.start_time = time_ns()
        """Nanoseconds since the epoch."""


class _Spans:
    """Starts and ends spans. Sampler, ids, limits, batches and export are the SDK's."""

    def __init__(self, provider: TracerProvider, processor: export.Processor) -> None:
        self.current: _OpenSpan | None = None
        """The server span of the current request. A plain variable will do, as a request goes from
        the server to the upstream call without a wait, but for `Tracing.in_current_span`."""
        self.shutdown = processor.shutdown
        self._add = processor.add
        self._ids = provider.id_generator
        self._should_sample = provider.sampler.should_sample
        sampler = provider.sampler.get_description()
        self._follows_parent = sampler.startswith("ParentBased{") and sampler.endswith(_FOLLOWS)
        limits = SpanLimits()
        self._max_attributes = limits.max_span_attributes
        self._max_value_length = limits.max_span_attribute_length

    def begin(
        self,
        name: _SpanName,
        parent: TraceContext | None,
        attributes: dict[str, Attribute],
    ) -> _OpenSpan:
        """Start a span, and sample it (Tracing SDK specification, "SDK Span creation")."""
        span_id = self._ids.generate_span_id().to_bytes(8, "big")
        if parent is not None and self._follows_parent:
            flags = parent.flags & _KEPT
            context = TraceContext(parent.trace_id, span_id, flags, parent.state)
        else:
            context = self._sampled(span_id, name, parent, attributes)
        return _OpenSpan(name, parent, context, attributes)

    def _sampled(
        self,
        span_id: bytes,
        name: _SpanName,
        parent: TraceContext | None,
        attributes: dict[str, Attribute],
    ) -> TraceContext:
        """The context of a span that the SDK's sampler decides on."""
        if parent is None:
            number = self._ids.generate_trace_id()
        else:
            number = int.from_bytes(parent.trace_id, "big")
        context = None if parent is None else parent.around_sdk()
        values = {attribute.name: attribute.value for attribute in attributes.values()}
        sampling = self._should_sample(context, number, name.text, name.kind, values)
        flags = 0 if parent is None else parent.flags & _RANDOM
        if sampling.decision is Decision.RECORD_AND_SAMPLE:
            flags |= trace.TraceFlags.SAMPLED
        state = sampling.trace_state.to_header().encode() if sampling.trace_state else b""
        return TraceContext(number.to_bytes(16, "big"), span_id, flags, state)

    def end(self, span: _OpenSpan, ended: _Ended) -> None:
        """End `span`, add the attributes of `ended`, and export it if it is sampled."""
        if not span.context.is_sampled:
            return
        attributes = span.attributes | ended.attributes
        if self._max_value_length is not None or len(attributes) > (self._max_attributes or 0):
            bounded = BoundedAttributes(
                self._max_attributes,
                {name: attribute.value for name, attribute in attributes.items()},
                max_value_len=self._max_value_length,
            )
            values = cast("Mapping[str, otlp.Value]", bounded)
            attributes = {name: otlp.attribute(name, value) for name, value in values.items()}
        end_time = time_ns()
        encoded = _encode(span, end_time, attributes, ended.status)
        if len(encoded) > _MAX_SPAN:
            cut = {
                name: otlp.attribute(name, _cut(attribute.value))
                for name, attribute in attributes.items()
            }
            encoded = _encode(span, end_time, cut, ended.status)
        self._add(encoded)


def _encode(
    span: _OpenSpan, end_time: int, attributes: Mapping[str, Attribute], status: bytes
) -> bytes:
    return otlp.encode(
        span.name.encoded,
        span.context,
        span.parent,
        span.start_time,
        end_time,
        attributes.values(),
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

    def __init__(self, hop: Answers, spans: _Spans, propagator: Propagator) -> None:
        self._hop = hop
        self._spans = spans
        self._propagator = propagator

    def answer(self, request: Request, reply: Callable[[Answer], None]) -> Cancelable | None:
        """Reply with the hop's answer. The span is current while the hop calls its upstream."""
        span = self._spans.begin(
            _SERVER.get(request.method, _OTHER),
            self._propagator.read(request.lane_headers),
            _server_attributes(request),
        )

        def end(answer: Answer) -> None:
            kind = None if answer.failure is None else answer.failure.kind
            self._spans.end(span, _ended(answer.status, answer.status >= 500, kind))
            reply(answer)

        self._spans.current = span
        call = self._hop.answer(request, end)
        self._spans.current = None
        return call


class TracedUpstream:
    """Calls the upstream, with a client span."""

    def __init__(self, upstream: Upstream, spans: _Spans, propagator: Propagator) -> None:
        self._upstream = upstream
        self._spans = spans
        self._propagator = propagator
        self._attributes = _attributes(
            {
                "http.request.method": "GET",
                "server.address": upstream.url.host,
                "server.port": upstream.url.port,
                "url.full": upstream.url.text,
            }
        )

    def get(
        self, lines: FieldLines, timeout: float, done: Callable[[Outcome], None]
    ) -> Cancelable | None:
        """GET the upstream with these headers and the trace context of the client span."""
        server = self._spans.current
        parent = None if server is None else server.context
        span = self._spans.begin(_CLIENT, parent, self._attributes)

        def end(outcome: Outcome) -> None:
            if isinstance(outcome, UpstreamError):
                status = trace.Status(trace.StatusCode.ERROR, outcome.failure.reason)
                error = _attributes({"error.type": outcome.failure.kind})
                self._spans.end(span, _Ended(otlp.encode_status(status), error))
            else:
                self._spans.end(span, _ended(outcome.status, outcome.status >= 400))
            done(outcome)

        return self._upstream.get(self._propagator.write(lines, span.context), timeout, end)


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


class _Ended(NamedTuple):
    """How a span has ended."""

    status: bytes
    """Encoded."""
    attributes: dict[str, Attribute]


# What most requests have in common is encoded once. Longer texts are encoded anew, so that clients
# cannot fill the memory.


@lru_cache(maxsize=64)
def _ended(status: int, is_error: bool, kind: str | None = None) -> _Ended:
    values: dict[str, otlp.Value] = {"http.response.status_code": status}
    if is_error:
        values["error.type"] = kind or str(status)
    return _Ended(otlp.encode_status(_ERROR if is_error else _UNSET), _attributes(values))


def _server_attributes(request: Request) -> dict[str, Attribute]:
    host: bytes | None = None
    user_agent: bytes | None = None
    for name, value in request.headers:
        # Comparing lengths first is faster.
        if len(name) == 4 and name.lower() == b"host":
            host = value
        elif len(name) == 10 and name.lower() == b"user-agent":
            user_agent = value
    size = len(request.target) + len(host or b"") + len(user_agent or b"")
    common: Callable[..., dict[str, Attribute]] = (
        _common_attributes if size <= _MAX_CACHED else _common_attributes.__wrapped__
    )
    attributes = common(request.method, request.target, request.client_ip, host, user_agent).copy()
    for name, value in request.lane_headers:
        if name in W3C_TRACE_HEADERS:
            continue
        of_header: Callable[[bytes, bytes], Attribute | None] = (
            _of_header if len(value) <= _MAX_CACHED else _of_header.__wrapped__
        )
        attribute = of_header(name, value)
        if attribute is None:
            continue
        key = attribute.name
        if key in attributes:
            first = cast("tuple[str, ...]", attributes[key].value)
            attribute = otlp.attribute(key, first + cast("tuple[str, ...]", attribute.value))
        attributes[key] = attribute
    return attributes


@lru_cache(maxsize=64)
def _common_attributes(
    method: str, target: str, client_ip: str | None, host: bytes | None, user_agent: bytes | None
) -> dict[str, Attribute]:
    """The attributes that are the same for all requests of a client to one path."""
    path, _, query = target.partition("?")
    values: dict[str, otlp.Value] = {"url.scheme": "http", "url.path": path}
    if method in _METHODS:
        values["http.request.method"] = method
    else:
        values["http.request.method"] = "_OTHER"
        values["http.request.method_original"] = method
    if query:
        values["url.query"] = query
    if client_ip:
        values["client.address"] = client_ip
    if host is not None:
        values |= _server_address(host)
    if user_agent is not None:
        values["user_agent.original"] = user_agent.decode("utf-8", "backslashreplace")
    return _attributes(values)


@lru_cache(maxsize=256)
def _of_header(name: bytes, value: bytes) -> Attribute | None:
    """The attribute of a lane header; None if the span has it anyway."""
    lower = name.decode("ascii").lower()
    if lower.encode() in W3C_TRACE_HEADERS:
        return None
    text = value.decode("utf-8", "backslashreplace")
    return otlp.attribute(f"http.request.header.{lower}", (text,))


def _server_address(host: bytes) -> dict[str, otlp.Value]:
    try:
        url = urlsplit(f"//{host.decode('latin-1')}")
        port = url.port
    except ValueError:
        return {}
    return {"server.address": url.hostname or "", "server.port": port or 80}


def _attributes(values: Mapping[str, otlp.Value]) -> dict[str, Attribute]:
    return {name: otlp.attribute(name, value) for name, value in values.items()}
