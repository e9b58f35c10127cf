"""Tracing: a server span around the hop, a client span around the upstream call, OTLP out.

Imported only where an OTLP endpoint is configured. Attribute names are those of OpenTelemetry's
semantic conventions for HTTP spans, the stable ones.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mockservice import __version__
from mockservice.propagation import B3_HEADERS, W3C_TRACE_HEADERS, Headers, values_by_name
from mockservice.settings import SettingError
from mockservice.upstream import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.util.types import AttributeValue

    from mockservice.hop import Answer, Answers, Request
    from mockservice.settings import Settings
    from mockservice.upstream import Outcome, Upstream

# What each name in OTEL_PROPAGATORS reads and writes, and the headers that it writes anew.
# Baggage is only carried, never changed, so that it goes on byte for byte like any lane header.
_PROPAGATORS: Final[dict[str, tuple[type[TextMapPropagator] | None, frozenset[bytes]]]] = {
    "tracecontext": (TraceContextTextMapPropagator, W3C_TRACE_HEADERS),
    "baggage": (None, frozenset()),
    "b3": (B3SingleFormat, B3_HEADERS),
    "b3multi": (B3MultiFormat, B3_HEADERS),
    "none": (None, frozenset()),
}
# RFC 9110 section 9, RFC 5789, RFC 10008; any other name is `_OTHER`, to bound the span names.
_METHODS: Final = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
)
_CLIENT_SPAN: Final = "GET"
_FLUSH_TIMEOUT: Final = 3.0


class Tracing:
    """OpenTelemetry for one hop, configured by the `OTEL_*` variables."""

    def __init__(self, settings: Settings, env: Mapping[str, str]) -> None:
        """Set the SDK up.

        Raises:
            SettingError: an `OTEL_*` variable has a value that is not allowed.
        """
        _check_exporter(env)
        self._propagator, self.rewritten = _propagation(env.get("OTEL_PROPAGATORS"))
        own = Resource({"service.name": settings.app, "service.version": settings.version})
        # What the environment says of the resource wins over what the settings do.
        resource = Resource.create().merge(own).merge(OTELResourceDetector().detect())
        try:
            processor = BatchSpanProcessor(OTLPSpanExporter())
            self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        except ValueError as error:
            raise SettingError("OTEL_*", str(error), "as the specification has it") from error
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("mockservice", __version__)

    def hop(self, hop: Answers) -> TracedHop:
        """`hop` with a server span around each answer."""
        return TracedHop(hop, self._tracer, self._propagator)

    def upstream(self, upstream: Upstream) -> TracedUpstream:
        """`upstream` with a client span around each call, which is the next hop's parent."""
        return TracedUpstream(upstream, self._tracer, self._propagator, self.rewritten)

    @staticmethod
    def trace_id(_: Headers) -> str | None:
        """The id of the trace that the current span belongs to."""
        return trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)

    async def flush(self) -> None:
        """Export what is left and stop, within three seconds."""
        # A thread that nobody waits for at exit, as a collector that hangs would hold it.
        thread = threading.Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, _FLUSH_TIMEOUT)


class TracedHop:
    """Answers as its hop does, in a server span."""

    def __init__(self, hop: Answers, tracer: trace.Tracer, propagator: CompositePropagator) -> None:
        self._hop = hop
        self._tracer = tracer
        self._propagator = propagator

    def answer(self, request: Request, reply: Callable[[Answer], None]) -> None:
        """The hop's answer; the span is current while the hop calls its upstream."""
        context = self._propagator.extract(
            values_by_name(request.lane_headers), otel_context.Context()
        )
        span = self._tracer.start_span(
            request.method if request.method in _METHODS else "HTTP",
            context,
            trace.SpanKind.SERVER,
            _server_attributes(request),
        )

        def end(answer: Answer) -> None:
            span.set_attribute("http.response.status_code", answer.status)
            if answer.status >= 500:
                span.set_attribute("error.type", str(answer.status))
                span.set_status(trace.StatusCode.ERROR)
            span.end()
            reply(answer)

        token = otel_context.attach(trace.set_span_in_context(span, context))
        try:
            self._hop.answer(request, end)
        finally:
            otel_context.detach(token)


class TracedUpstream:
    """Calls as its upstream does, in a client span."""

    def __init__(
        self,
        upstream: Upstream,
        tracer: trace.Tracer,
        propagator: CompositePropagator,
        rewritten: frozenset[bytes],
    ) -> None:
        self._upstream = upstream
        self._tracer = tracer
        self._propagator = propagator
        self._rewritten = rewritten
        self._attributes: dict[str, AttributeValue] = {
            "http.request.method": "GET",
            "server.address": upstream.url.host,
            "server.port": upstream.url.port,
            "url.full": upstream.url.text,
        }

    def get(self, headers: Headers, timeout: float, done: Callable[[Outcome], None]) -> None:
        """The upstream's answer to `headers` with the trace context of the client span."""
        span = self._tracer.start_span(
            _CLIENT_SPAN, kind=trace.SpanKind.CLIENT, attributes=self._attributes
        )
        written: dict[str, str] = {}
        self._propagator.inject(written, trace.set_span_in_context(span))
        headers = [header for header in headers if header[0].lower() not in self._rewritten]
        headers += [(name.encode(), value.encode()) for name, value in written.items()]

        def end(outcome: Outcome) -> None:
            if isinstance(outcome, UpstreamError):
                span.set_attribute("error.type", outcome.failure.kind)
                span.set_status(trace.StatusCode.ERROR, outcome.failure.reason)
            else:
                span.set_attribute("http.response.status_code", outcome.status)
                if outcome.status >= 400:
                    span.set_attribute("error.type", str(outcome.status))
                    span.set_status(trace.StatusCode.ERROR)
            span.end()
            done(outcome)

        self._upstream.get(headers, timeout, end)


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
    """What carries trace context, and the headers that it writes anew."""
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


def _server_attributes(request: Request) -> dict[str, AttributeValue]:
    path, _, query = request.target.partition("?")
    attributes: dict[str, AttributeValue] = {"url.scheme": "http", "url.path": path}
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
                attributes |= _server_address(value.decode("latin-1"))
            case b"user-agent":
                attributes["user_agent.original"] = value.decode("utf-8", "backslashreplace")
    for header, values in values_by_name(request.lane_headers).items():
        if header.encode() not in W3C_TRACE_HEADERS:
            attributes[f"http.request.header.{header}"] = values
    return attributes


def _server_address(host: str) -> dict[str, Any]:
    try:
        url = urlsplit(f"//{host}")
        port = url.port
    except ValueError:
        return {}
    return {"server.address": url.hostname or "", "server.port": port or 80}
