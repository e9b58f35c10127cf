"""The trace context as read here is the one that the SDK's propagator reads."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mockservice.propagation import Headers, field_lines, values_by_name
from mockservice.serve.telemetry.trace_context import Propagator, TraceContext

_HEX = st.text("0123456789abcdefA", min_size=1, max_size=32)


def _hex(count: int) -> st.SearchStrategy[str]:
    """So many bytes, drawn at once, in hexadecimal."""
    return st.binary(min_size=count, max_size=count).map(bytes.hex)


_SPACE = st.sampled_from(["", " ", "\t"])
_MORE = st.just("") | st.characters(codec="utf-8", exclude_characters="\n").map("-{}".format)
_TRACEPARENT = st.one_of(
    st.builds("{}00-{}-{}-{}{}{}".format, _SPACE, _hex(16), _hex(8), _hex(1), _MORE, _SPACE),
    st.builds(
        "{}-{}-{}-{}".format,
        st.sampled_from(["00", "01", "ff"]),
        st.just("0" * 32) | _hex(16),
        st.just("0" * 16) | _hex(8),
        _hex(1),
    ),
    st.builds("-".join, st.lists(_HEX, max_size=5)),
)


def _letters(least: int, most: int) -> st.SearchStrategy[str]:
    return st.text("abcdefghijklmnopqrstuvwxyz", min_size=least, max_size=most)


_COMMA = st.sampled_from([",", ""])
_TRACESTATE = st.one_of(
    st.from_regex(r"\A([a-z]{1,2}=[a-zA-Z0-9]{1,3}[, ]{0,2}){0,5}\Z"),
    st.lists(
        st.builds("{}={}{}".format, _letters(1, 2), _letters(100, 100), _COMMA),
        min_size=3,
        max_size=6,
    ).map("".join),
    st.text("ab=,é ", max_size=12),
)
_VALID = (b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-03")
_HEADERS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([b"traceparent", b"TraceParent"]), _TRACEPARENT.map(str.encode)),
        st.tuples(st.sampled_from([b"tracestate", b"Tracestate"]), _TRACESTATE.map(str.encode)),
    ),
    max_size=4,
)


@given(_HEADERS)
@settings(max_examples=200)
@example([(b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")])
@example(
    [(b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-03"), (b"tracestate", b"\xff")]
)
def test_it_is_read_as_the_sdk_reads_it(headers: Headers) -> None:
    context = TraceContextTextMapPropagator().extract(values_by_name(headers), Context())
    expected = trace.get_current_span(context).get_span_context()
    read = Propagator("tracecontext").read(headers)
    assert read == (TraceContext.of(expected) if expected.is_valid else None)


@given(_HEADERS)
@settings(max_examples=200)
def test_it_is_written_as_the_sdk_writes_it(headers: Headers) -> None:
    propagator = Propagator("tracecontext")
    if (context := propagator.read(headers)) is None:
        return
    written: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(written, context.around_sdk())
    expected = [f"{name}: {value}".encode() for name, value in written.items()]
    assert propagator.write(field_lines(headers), context) == expected
