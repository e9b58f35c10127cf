"""Requests on the wire, good and bad, and the outcome of each."""

from __future__ import annotations

from dataclasses import dataclass

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\nx-lane: smuggled\r\n\r\n"
"""A request that is only seen if the bytes before it are misread."""


def get(*lines: bytes) -> bytes:
    """A GET with these header lines."""
    return b"\r\n".join((b"GET / HTTP/1.1", b"Host: a", *lines, b"", b""))


def post(*lines: bytes, body: bytes = b"") -> bytes:
    """A POST with these header lines."""
    return b"\r\n".join((b"POST / HTTP/1.1", b"Host: a", *lines, b"", body))


def chunked(body: bytes) -> bytes:
    """A POST with these chunks."""
    return post(b"Transfer-Encoding: chunked", body=body)


@dataclass(frozen=True)
class Row:
    """One or more requests that are answered."""

    rule: str
    sent: bytes
    stays: bool = True
    """Whether the connection stays open."""
    statuses: tuple[int, ...] = (200,)
    carried: bytes = b""
    """The header lines that go on to the upstream."""
    may_continue: bool = False
    """Whether a 100 may come first. It is optional once the body has arrived (RFC 9110 section
    10.1.1)."""


ANSWERED = [
    Row("a connection is kept", get()),
    Row("keep-alive", get(b"Connection: keep-alive")),
    Row("close", get(b"Connection: close"), stays=False),
    Row("close among others", get(b"connection: foo,\t CLOSE"), stays=False),
    Row("close in a second line", get(b"Connection: foo", b"Connection: close"), stays=False),
    Row("close wins", get(b"Connection: keep-alive", b"Connection: close"), stays=False),
    Row("HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", stays=False),
    Row("HTTP/1.0 needs no Host", b"GET / HTTP/1.0\r\n\r\n", stays=False),
    Row("HTTP/1.0 keep-alive", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
    Row("HEAD", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Row("absolute-form", b"GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n"),
    Row("absolute-form, other Host", b"GET http://a HTTP/1.1\r\nHost: b\r\n\r\n"),
    Row("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    Row("empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    Row("Host with a port", b"GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n"),
    Row("an empty line before", b"\r\n" + get()),
    Row("empty lines before", b"\r\n\r\n\r\n" + get()),
    Row("a long target", b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (8192 * b"x")),
    Row("a long header", get(b"x-lane: " + 8192 * b"x"), carried=b"x-lane: %b\r\n" % (8192 * b"x")),
    Row("100 headers", get(*[b"x-%d: y" % number for number in range(99)])),
    Row("names without case", get(b"X-LANE: A"), carried=b"X-LANE: A\r\n"),
    Row("space around values", get(b"x-lane: \t a b \t "), carried=b"x-lane: a b\r\n"),
    Row("no space before values", get(b"x-lane:a"), carried=b"x-lane: a\r\n"),
    Row("empty values", get(b"x-lane:"), carried=b"x-lane: \r\n"),
    Row("any bytes in values", get(b"x-lane: \xe6\xff"), carried=b"x-lane: \xe6\xff\r\n"),
    Row("GET with a body", get(b"Content-Length: 5") + b"hello"),
    Row(
        "a body that looks like a request",
        post(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED),
    ),
    Row("an empty body", post(b"Content-Length: 0")),
    Row("no body", post()),
    Row("chunks", chunked(b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")),
    Row("chunk sizes", chunked(b"00a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n")),
    Row("chunk extensions", chunked(b'5;a=b;c\r\nhello\r\n0;d="e;f"\r\n\r\n')),
    Row("a chunk that looks like the end", chunked(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n")),
    Row("trailers", chunked(b"0\r\nx-lane: a\r\nx-env: b\r\n\r\n")),
    Row(
        "trailers stay with their request",
        chunked(b"0\r\nx-lane: a\r\n\r\n") + get(),
        statuses=(200, 200),
    ),
    Row(
        "Expect",
        post(b"Content-Length: 5", b"Expect: 100-continue", body=b"hello"),
        may_continue=True,
    ),
    Row("Expect without a body", get(b"Expect: 100-continue")),
    Row(
        "Expect in HTTP/1.0",
        b"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
        stays=False,
    ),
    Row("another Expect", get(b"Expect: the best")),
    Row("an upgrade", get(b"Connection: Upgrade", b"Upgrade: websocket")),
    Row(
        "an upgrade to HTTP/2",
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
    ),
    Row(
        "a request behind an upgrade",
        get(b"Connection: Upgrade", b"Upgrade: h2c") + get(),
        statuses=(200, 200),
    ),
    Row("a request behind close", get(b"Connection: close") + SMUGGLED, stays=False),
    Row("another method", b"PURGE / HTTP/1.1\r\nHost: a\r\n\r\n"),
]


def of_length(length: bytes) -> bytes:
    """A POST with a body of 5 bytes, and this `Content-Length`."""
    return post(b"Content-Length: " + length, body=b"hello")


def _line(line: bytes) -> bytes:
    return line + b"\r\nHost: a\r\n\r\n"


CHUNKED = b"Transfer-Encoding: chunked"
END = b"0\r\n\r\n"

REFUSED = {
    # Host: RFC 9112 section 3.2.
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "no Host, absolute-form": b"GET http://a/ HTTP/1.1\r\n\r\n",
    "two Hosts": get(b"Host: b"),
    "the same Host twice": get(b"host: a"),
    "Host with a space": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "Host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    # Too much.
    "a target of 20 KiB": b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (20480 * b"x"),
    "a header of 20 KiB": get(b"x-lane: " + 20480 * b"x"),
    "200 headers": get(*[b"x-%d: y" % number for number in range(199)]),
    # Request lines: RFC 9112 section 3.
    "no version": _line(b"GET /"),
    "no HTTP": _line(b"GET / HTTPS/1.1"),
    "version 0.9": _line(b"GET / HTTP/0.9"),
    "version 1.2": _line(b"GET / HTTP/1.2"),
    "version 1": _line(b"GET / HTTP/1"),
    "version 1.1.1": _line(b"GET / HTTP/1.1.1"),
    "version in lower case": _line(b"GET / http/1.1"),
    "no method": _line(b"/ HTTP/1.1"),
    "a method in lower case": _line(b"get / HTTP/1.1"),
    "a method in both cases": _line(b"Get / HTTP/1.1"),
    "an unknown method in both cases": _line(b"BREw / HTTP/1.1"),
    "a tab after an unknown method": _line(b"BREW\t/ HTTP/1.1"),
    "NUL in a method": _line(b"BRE\0W / HTTP/1.1"),
    "nothing but an unknown method": _line(b"BREW"),
    "a method of RTSP": _line(b"SETUP / HTTP/1.1"),
    "an answer": b"HTTP/1.1 200 OK\r\n\r\n",
    "a space before": _line(b" GET / HTTP/1.1"),
    "a tab": _line(b"GET\t/ HTTP/1.1"),
    "a space after": _line(b"GET / HTTP/1.1 "),
    "a space in the target": _line(b"GET /a b HTTP/1.1"),
    "a tab in the target": _line(b"GET /a\tb HTTP/1.1"),
    "NUL in the target": _line(b"GET /a\0b HTTP/1.1"),
    "bare CR in the target": _line(b"GET /a\rb HTTP/1.1"),
    "a target without a slash": _line(b"GET a HTTP/1.1"),
    "GET *": _line(b"GET * HTTP/1.1"),
    # Header lines: RFC 9112 section 5.
    "space before the colon": get(b"x-lane : a"),
    "tab before the colon": get(b"x-lane\t: a"),
    "space before the colon of a length": post(b"Content-Length : 5", body=b"hello"),
    "space before the colon of an encoding": post(b"Transfer-Encoding : chunked", body=END),
    "space before the first name": b"GET / HTTP/1.1\r\n x-lane: a\r\nHost: a\r\n\r\n",
    "a folded line": get(b"x-lane: a", b" b"),
    "a line folded with a tab": get(b"x-lane: a", b"\tb"),
    "a folded name": get(b"x-lane: a", b" Transfer-Encoding: chunked"),
    "a folded encoding": post(b"Transfer-Encoding:", b" chunked", body=END),
    "a folded length": post(b"Content-Length:", b" 5", body=b"hello"),
    "no colon": get(b"x-lane"),
    "no name": get(b": a"),
    "a name with a space": get(b"x lane: a"),
    "a name with NUL": get(b"x-lane\0: a"),
    "a name with a high byte": get(b"x-lane\xe9: a"),
    "a name with a control": get(b"x-lane\x0b: a"),
    "a name with a parenthesis": get(b"x-lane(: a"),
    "a name with a quote": get(b'x"lane: a'),
    "a name with a slash": get(b"x/lane: a"),
    "a value with NUL": get(b"x-lane: a\0b"),
    "a value with bare CR": get(b"x-lane: a\rx-env: b"),
    "a value with bare LF": get(b"x-lane: a\nx-env: b"),
    "a value that ends in bare CR": get(b"x-lane: a\r"),
    "bare LF ends a line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF ends all lines": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF ends the head": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    "bare CR ends a line": b"GET / HTTP/1.1\r\nHost: a\rx-lane: a\r\n\r\n",
    "bare CR ends the head": b"GET / HTTP/1.1\r\nHost: a\r\n\r",
    # Where the message ends: RFC 9112 section 6.
    "a length and an encoding": post(b"Content-Length: 5", CHUNKED, body=END),
    "an encoding and a length": post(CHUNKED, b"Content-Length: 5", body=END),
    "two lengths": post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"),
    "the same length twice": post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
    "a list of lengths": of_length(b"5, 5"),
    "a length with a plus": of_length(b"+5"),
    "a negative length": of_length(b"-5"),
    "a hexadecimal length": of_length(b"0x5"),
    "a length with a space": of_length(b"5 5"),
    "a length with an underscore": of_length(b"0_5"),
    "a length in other digits": of_length(b"\xd9\xa5"),
    "an empty length": of_length(b""),
    "a length past 64 bits": of_length(b"18446744073709551621"),
    "xchunked": post(b"Transfer-Encoding: xchunked", body=END),
    "chunked is not the last": post(b"Transfer-Encoding: chunked, identity", body=END),
    "identity": post(b"Transfer-Encoding: identity", body=END),
    "chunked after a control": post(b"Transfer-Encoding: \x0bchunked", body=END),
    "chunked before a control": post(b"Transfer-Encoding: chunked\x0b", body=END),
    "chunked with a quote": post(b'Transfer-Encoding: "chunked"', body=END),
    "another encoding before chunked": post(b"Transfer-Encoding: gzip, chunked", body=END),
    "another encoding in a line before": post(b"Transfer-Encoding: x", CHUNKED, body=END),
    "two encodings": post(CHUNKED, CHUNKED, body=END),
    "two other encodings": post(CHUNKED, b"Transfer-Encoding: identity", body=END),
    # Chunks: RFC 9112 section 7.1.
    "no chunk size": chunked(b"\r\nhello\r\n" + END),
    "a chunk size of g": chunked(b"g\r\nhello\r\n" + END),
    "a chunk size of 0x5": chunked(b"0x5\r\nhello\r\n" + END),
    "a chunk size of +5": chunked(b"+5\r\nhello\r\n" + END),
    "a chunk size of -5": chunked(b"-5\r\nhello\r\n" + END),
    "a space before the chunk size": chunked(b" 5\r\nhello\r\n" + END),
    "a space after the chunk size": chunked(b"5 \r\nhello\r\n" + END),
    "a chunk size past 64 bits": chunked(b"10000000000000005\r\nhello\r\n" + END),
    "a chunk that is longer": chunked(b"5\r\nhello!\r\n" + END),
    "a chunk that is shorter": chunked(b"5\r\nhell\r\n" + END),
    "bare LF after the chunk size": chunked(b"5\nhello\r\n" + END),
    "bare LF after the chunk": chunked(b"5\r\nhello\n" + END),
    "bare CR after the chunk size": chunked(b"5\rhello\r\n" + END),
    "bare LF in a chunk extension": chunked(b"5;a\nb\r\nhello\r\n" + END),
    "bare CR in a chunk extension": chunked(b"5;a\rb\r\nhello\r\n" + END),
    "a chunk extension with NUL": chunked(b"5;a\0\r\nhello\r\n" + END),
    "bare LF after the chunks": chunked(b"0\r\n\n"),
    "a trailer without a colon": chunked(b"0\r\nx-lane\r\n\r\n"),
    "a trailer with a space": chunked(b"0\r\nx-lane : a\r\n\r\n"),
    "a length in the trailers": chunked(b"0\r\nContent-Length: 5\r\n\r\n"),
    "an encoding in the trailers": chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a folded trailer": chunked(b"0\r\nx-lane: a\r\n b\r\n\r\n"),
}

UNSUPPORTED = {
    # The major version alone decides, whatever follows: RFC 9110 section 15.6.6.
    "version 2.0": (505, _line(b"GET / HTTP/2.0")),
    "version 2.1": (505, _line(b"GET / HTTP/2.1")),
    "version 3.0": (505, _line(b"POST / HTTP/3.0")),
    "version 9.9": (505, _line(b"GET http://a/ HTTP/9.9")),
    "version 2": (505, _line(b"GET / HTTP/2")),
    "version 2.0 without a Host": (505, b"GET / HTTP/2.0\r\n\r\n"),
    "version 2.0 and another fault": (505, b"GET / HTTP/2.0\r\nx lane: a\r\n\r\n"),
    "version 2.0 of CONNECT": (505, _line(b"CONNECT a:80 HTTP/2.0")),
    # RFC 9113 section 3.4: with prior knowledge.
    "the preface of HTTP/2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    # RFC 9110 section 15.6.2.
    "method BREW": (501, _line(b"BREW / HTTP/1.1")),
    "method G": (501, _line(b"G / HTTP/1.1")),
    "method GETS": (501, _line(b"GETS / HTTP/1.1")),
    "method VERSION-CONTROL": (501, _line(b"VERSION-CONTROL / HTTP/1.1")),
    "method M_SEARCH": (501, _line(b"M_SEARCH / HTTP/1.1")),
    "the method of 32 bytes": (501, _line(32 * b"X" + b" / HTTP/1.1")),
    "an unknown method, version 2.0": (501, _line(b"BREW / HTTP/2.0")),
    "an unknown method and another fault": (501, b"BREW \r\n\r\n"),
    "empty lines before an unknown method": (501, b"\r\n\n\r\n" + _line(b"BREW / HTTP/1.1")),
}
"""The status of what is well-formed, but not for this server."""
