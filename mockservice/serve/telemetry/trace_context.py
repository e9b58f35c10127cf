"""The trace context of a request: read from its headers, written into those of an upstream call.

What most requests have, a valid `traceparent` of version 00, is read and written here, which takes
a fifth of the SDK's time. All else, B3 included, is left to the SDK's propagators.
"""

from __future__ import annotations

import re
from binascii import hexlify, unhexlify
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mockservice.propagation import (
    B3_HEADERS,
    W3C_TRACE_HEADERS,
    FieldLines,
    Headers,
    values_by_name,
)
from mockservice.serve.settings import SettingError

if TYPE_CHECKING:
    from opentelemetry.propagators.textmap import TextMapPropagator

# For each name in OTEL_PROPAGATORS its propagator, and the headers that it replaces. Baggage has
# none: it goes on byte for byte, like any lane header.
_PROPAGATORS: Final[dict[str, tuple[type[TextMapPropagator] | None, frozenset[bytes]]]] = {
    "tracecontext": (TraceContextTextMapPropagator, W3C_TRACE_HEADERS),
    "baggage": (None, frozenset()),
    "b3": (B3SingleFormat, B3_HEADERS),
    "b3multi": (B3MultiFormat, B3_HEADERS),
    "none": (None, frozenset()),
}
_TRACEPARENT: Final = re.compile(
    rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
)
"""W3C Trace Context section 3.2.2, with the version of today."""
_MAX_STATE: Final = 512
"""Cap on the `tracestate` that is parsed here, in bytes; the SDK drops a longer one."""
_HEX: Final = [b"%02x" % number for number in range(256)]
_NO_CONTEXT: Final = otel_context.Context()
_SAMPLED: Final = int(trace.TraceFlags.SAMPLED)


# mypyc compiles an `__init__` that is written down, and not one that `dataclass` writes.
@dataclass(slots=True, init=False)
class TraceContext:
    """What a span tells other spans (W3C Trace Context section 3.2 and 3.3)."""

    trace_id: bytes
    """16 bytes."""
    span_id: bytes
    """8 bytes."""
    flags: int
    state: bytes
    """The `tracestate` header, empty for none."""
    is_remote: bool

    def __init__(
        self,
        trace_id: bytes,
        span_id: bytes,
        flags: int,
        state: bytes = b"",
        is_remote: bool = False,
    ) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.flags = flags
        self.state = state
        self.is_remote = is_remote

    @property
    def is_sampled(self) -> bool:
        """Whether the trace is recorded."""
        return bool(self.flags & _SAMPLED)

    @property
    def traceparent(self) -> bytes:
        """The value of `traceparent`."""
        ids = (b"00", hexlify(self.trace_id), hexlify(self.span_id), _HEX[self.flags])
        return b"-".join(ids)

    @classmethod
    def of(cls, context: trace.SpanContext) -> TraceContext:
        """The SDK's form in this form."""
        return cls(
            context.trace_id.to_bytes(16, "big"),
            context.span_id.to_bytes(8, "big"),
            context.trace_flags,
            context.trace_state.to_header().encode(),
            context.is_remote,
        )

    def for_sdk(self) -> trace.SpanContext:
        """This in the SDK's form."""
        return trace.SpanContext(
            int.from_bytes(self.trace_id, "big"),
            int.from_bytes(self.span_id, "big"),
            self.is_remote,
            trace.TraceFlags(self.flags),
            trace.TraceState.from_header([self.state.decode()]),
        )

    def around_sdk(self) -> otel_context.Context:
        """The SDK's context with a span of this."""
        return trace.set_span_in_context(trace.NonRecordingSpan(self.for_sdk()), _NO_CONTEXT)


class Propagator:
    """Reads and writes the headers that `OTEL_PROPAGATORS` names."""

    def __init__(self, names: str | None) -> None:
        """Read the variable.

        Raises:
            SettingError: a name is not known.
        """
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
        # The beginnings of the lines that are replaced.
        self._rewritten = tuple(name + b":" for name in rewritten)
        self._initials = frozenset(b"".join(name[:1] + name[:1].upper() for name in rewritten))
        self._by_sdk = CompositePropagator(propagators)
        self._is_w3c = rewritten == W3C_TRACE_HEADERS

    def read(self, headers: Headers) -> TraceContext | None:
        """The context of the caller's span; None without a valid one."""
        if self._is_w3c and (found := _read_w3c(headers)):
            return found
        context = self._by_sdk.extract(values_by_name(headers), _NO_CONTEXT)
        found_by_sdk = trace.get_current_span(context).get_span_context()
        return TraceContext.of(found_by_sdk) if found_by_sdk.is_valid else None

    def write(self, lines: FieldLines, context: TraceContext) -> FieldLines:
        """The headers in `lines` with `context` in place of what they say."""
        others = [
            line
            for line in lines
            # Most lines need no second look.
            if line[0] not in self._initials or not line.lower().startswith(self._rewritten)
        ]
        if self._is_w3c:
            others.append(b"traceparent: " + context.traceparent)
            if context.state:
                others.append(b"tracestate: " + context.state)
            return others
        written: dict[str, str] = {}
        self._by_sdk.inject(written, context.around_sdk())
        return others + [f"{name}: {value}".encode() for name, value in written.items()]


def _read_w3c(headers: Headers) -> TraceContext | None:
    """The context in these headers, if it is as most are; None leaves the rest to the SDK."""
    traceparent: bytes | None = None
    states: tuple[bytes, ...] = ()
    size = 0
    for name, value in headers:
        if len(name) == 11 and traceparent is None and name.lower() == b"traceparent":
            traceparent = value
        elif len(name) == 10 and name.lower() == b"tracestate":
            states += (value,)
            size += len(value) + 1
    if traceparent is None:
        return None
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or size > _MAX_STATE:
        return None
    trace_id, span_id, flags = match.groups()
    state = _state(states) if states else b""
    return TraceContext(
        unhexlify(trace_id), unhexlify(span_id), unhexlify(flags)[0], state, is_remote=True
    )


@lru_cache(maxsize=256)
def _state(values: tuple[bytes, ...]) -> bytes:
    """`tracestate` as the SDK understands these headers, as one."""
    texts = [value.decode("utf-8", "backslashreplace") for value in values]
    return trace.TraceState.from_header(texts).to_header().encode()
