"""HTTP on the wire: each request has one outcome, whatever way its bytes come.

Plain requests and all others are answered by different code (mockservice/connection.py), so each
row of the tables is sent in several ways, and each way must come to the same.
"""

from __future__ import annotations

import json
import re
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from tests.running import RunningHop, ok, peer, read_head, request, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIMEOUT = 10.0
_PLAIN = b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n"
_SLOW = b"GET /slow HTTP/1.1\r\nHost: a\r\nx-env: slow\r\n\r\n"
_LAST = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
_SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\nx-lane: smuggled\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """An answer as it came."""

    status: int
    fields: dict[str, str]
    body: bytes
    closes: bool
    """Whether it says that the connection ends (RFC 9112 section 9.3)."""


class Wire:
    """A client's connection."""

    def __init__(self, address: str, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(_TIMEOUT)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect((address, 8000))
        self._stream = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self.socket.close()

    def send(self, sent: bytes) -> None:
        """Send all of it, unless the peer has closed meanwhile."""
        with suppress(ConnectionError):
            self.socket.sendall(sent)

    def end(self) -> None:
        """Have nothing more to send."""
        self.socket.shutdown(socket.SHUT_WR)

    def answer(self, method: str = "GET") -> Answer | None:
        """The next answer, None once the peer has closed."""
        try:
            status_line = self._stream.readline()
        except ConnectionResetError:
            return None
        if not status_line:
            return None
        status = re.fullmatch(rb"HTTP/1\.([01]) ([1-5]\d\d) [^\r\n]*\r\n", status_line)
        assert status, status_line
        fields: dict[str, str] = {}
        while (line := self._stream.readline()) != b"\r\n":
            field = re.fullmatch(rb"([A-Za-z-]+): ([^\r\n]*)\r\n", line)
            assert field, line
            name = field[1].decode().lower()
            assert name not in fields
            fields[name] = field[2].decode()
        has_body = method != "HEAD" and not status[2].startswith(b"1")
        body = self._stream.read(int(fields["content-length"])) if has_body else b""
        connection = fields.get("connection")
        closes = connection == "close" or (status[1] == b"0" and connection != "keep-alive")
        return Answer(int(status[2]), fields, body, closes)


class Service:
    """A hop, and the upstream of its chain, which remembers what it was asked, byte for byte."""

    def __init__(self, hop: RunningHop, upstream: str, calls: list[bytes]) -> None:
        self.hop = hop
        self.chain = f"{hop.line}-> up".encode()
        self._upstream = upstream
        self._calls = calls

    def connect(self, receive_buffer: int | None = None) -> Wire:
        """A new connection to the hop."""
        return Wire(self.hop.address, receive_buffer)

    def call(self, carried: bytes = b"") -> bytes:
        """The upstream call that carries these header lines."""
        return (
            b"GET / HTTP/1.1\r\nHost: %b:8000\r\nAccept-Encoding: identity\r\n"
            b"Accept: text/plain\r\nx-mock-hops: ID\r\n%b\r\n" % (self._upstream.encode(), carried)
        )

    def take_calls(self) -> list[bytes]:
        """The upstream calls since this was last asked."""
        taken, self._calls[:] = self._calls[:], []
        return [re.sub(rb"(?m)^x-mock-hops: [0-9a-f]+", b"x-mock-hops: ID", it) for it in taken]


@contextmanager
def _serving() -> Iterator[Service]:
    calls: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        while head := read_head(connection):
            calls.append(head)
            if b"x-env: slow" in head:
                time.sleep(0.02)
            connection.sendall(ok(b"-> up"))

    with peer(serve, read=False) as upstream, running(upstream_url=upstream.url) as hop:
        # A pipe that nobody reads would block the hop in the end.
        assert hop.process.stderr is not None
        threading.Thread(target=hop.process.stderr.read, daemon=True).start()
        yield Service(hop, upstream.address, calls)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with _serving() as serving:
        yield serving


# The ways in which a request can come. Each returns the upstream calls of the requests before it,
# whose answers it has read.


def _whole(_: Service, wire: Wire, *parts: bytes) -> list[bytes]:
    for part in parts:
        wire.send(part)
        time.sleep(0.002)
    return []


def _in_pieces(_: Service, wire: Wire, *parts: bytes) -> list[bytes]:
    # Cut at all that HTTP has a meaning for.
    for piece in re.findall(rb"[^\r\n\t :;]+|[\r\n\t :;]", b"".join(parts)):
        wire.send(piece)
        time.sleep(0.0005)
    return []


def _after_a_plain_one(service: Service, wire: Wire, *parts: bytes) -> list[bytes]:
    wire.send(_PLAIN)
    _assert_chain(service, wire.answer())
    _whole(service, wire, *parts)
    return [service.call()]


def _pipelined(service: Service, wire: Wire, *parts: bytes) -> list[bytes]:
    wire.send(b"".join((_PLAIN, *parts)))
    _assert_chain(service, wire.answer())
    return [service.call()]


def _while_one_is_answered(service: Service, wire: Wire, *parts: bytes) -> list[bytes]:
    wire.send(_SLOW)
    time.sleep(0.005)
    _whole(service, wire, *parts)
    _assert_chain(service, wire.answer())
    return [service.call(b"x-env: slow\r\n")]


_Way = Callable[..., list[bytes]]


def _assert_chain(service: Service, answer: Answer | None) -> None:
    assert answer is not None
    assert (answer.status, answer.body) == (200, service.chain)


_WAYS = [_whole, _in_pieces, _after_a_plain_one, _pipelined, _while_one_is_answered]
_in_each_way = pytest.mark.parametrize("way", _WAYS, ids=lambda way: way.__name__.strip("_"))


def _get(*lines: bytes) -> bytes:
    """A GET with these header lines."""
    return b"\r\n".join((b"GET / HTTP/1.1", b"Host: a", *lines, b"", b""))


def _post(*lines: bytes, body: bytes = b"") -> bytes:
    """A POST with these header lines."""
    return b"\r\n".join((b"POST / HTTP/1.1", b"Host: a", *lines, b"", body))


def _chunked(body: bytes) -> bytes:
    return _post(b"Transfer-Encoding: chunked", body=body)


@dataclass(frozen=True)
class Row:
    """Requests that are answered."""

    rule: str
    sent: bytes
    stays: bool = True
    """Whether the connection stays open."""
    statuses: tuple[int, ...] = (200,)
    carried: bytes = b""
    """Header lines that go on to the upstream."""
    may_continue: bool = False
    """Whether 100 may come first; it need not where the body is there (RFC 9110 section 10.1.1)."""


_ANSWERED = [
    Row("a connection is kept", _get()),
    Row("keep-alive", _get(b"Connection: keep-alive")),
    Row("close", _get(b"Connection: close"), stays=False),
    Row("close among others", _get(b"connection: foo,\t CLOSE"), stays=False),
    Row("close in a second line", _get(b"Connection: foo", b"Connection: close"), stays=False),
    Row("close wins", _get(b"Connection: keep-alive", b"Connection: close"), stays=False),
    Row("HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", stays=False),
    Row("HTTP/1.0 needs no Host", b"GET / HTTP/1.0\r\n\r\n", stays=False),
    Row("HTTP/1.0 keep-alive", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
    Row("HEAD", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Row("absolute-form", b"GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n"),
    Row("absolute-form, other Host", b"GET http://a HTTP/1.1\r\nHost: b\r\n\r\n"),
    Row("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    Row("empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    Row("Host with a port", b"GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n"),
    Row("an empty line before", b"\r\n" + _get()),
    Row("empty lines before", b"\r\n\r\n\r\n" + _get()),
    Row("a long target", b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (8192 * b"x")),
    Row(
        "a long header", _get(b"x-lane: " + 8192 * b"x"), carried=b"x-lane: %b\r\n" % (8192 * b"x")
    ),
    Row("100 headers", _get(*[b"x-%d: y" % number for number in range(99)])),
    Row("names without case", _get(b"X-LANE: A"), carried=b"X-LANE: A\r\n"),
    Row("space around values", _get(b"x-lane: \t a b \t "), carried=b"x-lane: a b\r\n"),
    Row("no space before values", _get(b"x-lane:a"), carried=b"x-lane: a\r\n"),
    Row("empty values", _get(b"x-lane:"), carried=b"x-lane: \r\n"),
    Row("any bytes in values", _get(b"x-lane: \xe6\xff"), carried=b"x-lane: \xe6\xff\r\n"),
    Row("GET with a body", _get(b"Content-Length: 5") + b"hello"),
    Row(
        "a body that looks like a request",
        _post(b"Content-Length: %d" % len(_SMUGGLED), body=_SMUGGLED),
    ),
    Row("an empty body", _post(b"Content-Length: 0")),
    Row("no body", _post()),
    Row("chunks", _chunked(b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")),
    Row("chunk sizes", _chunked(b"00a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n")),
    Row("chunk extensions", _chunked(b'5;a=b;c\r\nhello\r\n0;d="e;f"\r\n\r\n')),
    Row("a chunk that looks like the end", _chunked(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n")),
    Row("trailers", _chunked(b"0\r\nx-lane: a\r\nx-env: b\r\n\r\n")),
    Row(
        "trailers stay with their request",
        _chunked(b"0\r\nx-lane: a\r\n\r\n") + _get(),
        statuses=(200, 200),
    ),
    Row(
        "Expect",
        _post(b"Content-Length: 5", b"Expect: 100-continue", body=b"hello"),
        may_continue=True,
    ),
    Row("Expect without a body", _get(b"Expect: 100-continue")),
    Row(
        "Expect in HTTP/1.0",
        b"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
        stays=False,
    ),
    Row("another Expect", _get(b"Expect: the best")),
    Row("an upgrade", _get(b"Connection: Upgrade", b"Upgrade: websocket")),
    Row(
        "an upgrade to HTTP/2",
        _get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
    ),
    Row(
        "a request behind an upgrade",
        _get(b"Connection: Upgrade", b"Upgrade: h2c") + _get(),
        statuses=(200, 200),
    ),
    Row("a request behind close", _get(b"Connection: close") + _SMUGGLED, stays=False),
    Row("another method", b"PURGE / HTTP/1.1\r\nHost: a\r\n\r\n"),
]


@_in_each_way
@pytest.mark.parametrize("row", _ANSWERED, ids=lambda row: row.rule)
def test_answered(service: Service, row: Row, way: _Way) -> None:
    service.take_calls()
    method = "HEAD" if row.sent.startswith(b"HEAD") else "GET"
    with service.connect() as wire:
        calls = way(service, wire, row.sent)
        for status in row.statuses:
            answer = wire.answer(method)
            if row.may_continue and answer is not None and answer.status == 100:
                answer = wire.answer(method)
            assert answer is not None
            assert answer.status == status
            assert answer.body == (service.chain if method == "GET" and status == 200 else b"")
            if status == 200:
                assert answer.fields["content-length"] == str(len(service.chain))
                calls.append(service.call(row.carried))
        assert answer is not None
        assert answer.closes is not row.stays
        if row.stays:
            wire.send(_LAST)
            last = wire.answer()
            assert last is not None
            assert last.body == b"alive"
        assert wire.answer() is None
    assert service.take_calls() == calls


def _of_length(length: bytes) -> bytes:
    return _post(b"Content-Length: " + length, body=b"hello")


def _line(line: bytes) -> bytes:
    return line + b"\r\nHost: a\r\n\r\n"


_CHUNKED = b"Transfer-Encoding: chunked"
_END = b"0\r\n\r\n"

# Each is followed by a request that only who misreads it sees.
_REFUSED = {
    # Host: RFC 9112 section 3.2.
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "no Host, absolute-form": b"GET http://a/ HTTP/1.1\r\n\r\n",
    "two Hosts": _get(b"Host: b"),
    "the same Host twice": _get(b"host: a"),
    "Host with a space": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "Host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    # Too much.
    "a target of 20 KiB": b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (20480 * b"x"),
    "a header of 20 KiB": _get(b"x-lane: " + 20480 * b"x"),
    "200 headers": _get(*[b"x-%d: y" % number for number in range(199)]),
    # Request lines: RFC 9112 section 3.
    "no version": _line(b"GET /"),
    "no HTTP": _line(b"GET / HTTPS/1.1"),
    "version 0.9": _line(b"GET / HTTP/0.9"),
    "version 2.0": _line(b"GET / HTTP/2.0"),
    "version 1": _line(b"GET / HTTP/1"),
    "version 1.1.1": _line(b"GET / HTTP/1.1.1"),
    "version in lower case": _line(b"GET / http/1.1"),
    "no method": _line(b"/ HTTP/1.1"),
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
    "space before the colon": _get(b"x-lane : a"),
    "tab before the colon": _get(b"x-lane\t: a"),
    "space before the colon of a length": _post(b"Content-Length : 5", body=b"hello"),
    "space before the colon of an encoding": _post(b"Transfer-Encoding : chunked", body=_END),
    "space before the first name": b"GET / HTTP/1.1\r\n x-lane: a\r\nHost: a\r\n\r\n",
    "a folded line": _get(b"x-lane: a", b" b"),
    "a line folded with a tab": _get(b"x-lane: a", b"\tb"),
    "a folded name": _get(b"x-lane: a", b" Transfer-Encoding: chunked"),
    "a folded encoding": _post(b"Transfer-Encoding:", b" chunked", body=_END),
    "a folded length": _post(b"Content-Length:", b" 5", body=b"hello"),
    "no colon": _get(b"x-lane"),
    "no name": _get(b": a"),
    "a name with a space": _get(b"x lane: a"),
    "a name with NUL": _get(b"x-lane\0: a"),
    "a name with a high byte": _get(b"x-lane\xe9: a"),
    "a name with a control": _get(b"x-lane\x0b: a"),
    "a name with a parenthesis": _get(b"x-lane(: a"),
    "a name with a quote": _get(b'x"lane: a'),
    "a name with a slash": _get(b"x/lane: a"),
    "a value with NUL": _get(b"x-lane: a\0b"),
    "a value with bare CR": _get(b"x-lane: a\rx-env: b"),
    "a value with bare LF": _get(b"x-lane: a\nx-env: b"),
    "a value that ends in bare CR": _get(b"x-lane: a\r"),
    "bare LF ends a line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF ends all lines": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF ends the head": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    "bare CR ends a line": b"GET / HTTP/1.1\r\nHost: a\rx-lane: a\r\n\r\n",
    "bare CR ends the head": b"GET / HTTP/1.1\r\nHost: a\r\n\r",
    # Where the message ends: RFC 9112 section 6.
    "a length and an encoding": _post(b"Content-Length: 5", _CHUNKED, body=_END),
    "an encoding and a length": _post(_CHUNKED, b"Content-Length: 5", body=_END),
    "two lengths": _post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"),
    "the same length twice": _post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
    "a list of lengths": _of_length(b"5, 5"),
    "a length with a plus": _of_length(b"+5"),
    "a negative length": _of_length(b"-5"),
    "a hexadecimal length": _of_length(b"0x5"),
    "a length with a space": _of_length(b"5 5"),
    "a length with an underscore": _of_length(b"0_5"),
    "a length in other digits": _of_length(b"\xd9\xa5"),
    "an empty length": _of_length(b""),
    "a length past 64 bits": _of_length(b"18446744073709551621"),
    "xchunked": _post(b"Transfer-Encoding: xchunked", body=_END),
    "chunked is not the last": _post(b"Transfer-Encoding: chunked, identity", body=_END),
    "identity": _post(b"Transfer-Encoding: identity", body=_END),
    "chunked after a control": _post(b"Transfer-Encoding: \x0bchunked", body=_END),
    "chunked before a control": _post(b"Transfer-Encoding: chunked\x0b", body=_END),
    "chunked with a quote": _post(b'Transfer-Encoding: "chunked"', body=_END),
    "two encodings": _post(_CHUNKED, _CHUNKED, body=_END),
    "two other encodings": _post(_CHUNKED, b"Transfer-Encoding: identity", body=_END),
    # Chunks: RFC 9112 section 7.1.
    "no chunk size": _chunked(b"\r\nhello\r\n" + _END),
    "a chunk size of g": _chunked(b"g\r\nhello\r\n" + _END),
    "a chunk size of 0x5": _chunked(b"0x5\r\nhello\r\n" + _END),
    "a chunk size of +5": _chunked(b"+5\r\nhello\r\n" + _END),
    "a chunk size of -5": _chunked(b"-5\r\nhello\r\n" + _END),
    "a space before the chunk size": _chunked(b" 5\r\nhello\r\n" + _END),
    "a space after the chunk size": _chunked(b"5 \r\nhello\r\n" + _END),
    "a chunk size past 64 bits": _chunked(b"10000000000000005\r\nhello\r\n" + _END),
    "a chunk that is longer": _chunked(b"5\r\nhello!\r\n" + _END),
    "a chunk that is shorter": _chunked(b"5\r\nhell\r\n" + _END),
    "bare LF after the chunk size": _chunked(b"5\nhello\r\n" + _END),
    "bare LF after the chunk": _chunked(b"5\r\nhello\n" + _END),
    "bare CR after the chunk size": _chunked(b"5\rhello\r\n" + _END),
    "bare LF in a chunk extension": _chunked(b"5;a\nb\r\nhello\r\n" + _END),
    "bare CR in a chunk extension": _chunked(b"5;a\rb\r\nhello\r\n" + _END),
    "a chunk extension with NUL": _chunked(b"5;a\0\r\nhello\r\n" + _END),
    "bare LF after the chunks": _chunked(b"0\r\n\n"),
    "a trailer without a colon": _chunked(b"0\r\nx-lane\r\n\r\n"),
    "a trailer with a space": _chunked(b"0\r\nx-lane : a\r\n\r\n"),
    "a length in the trailers": _chunked(b"0\r\nContent-Length: 5\r\n\r\n"),
    "an encoding in the trailers": _chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a folded trailer": _chunked(b"0\r\nx-lane: a\r\n b\r\n\r\n"),
}


@_in_each_way
@pytest.mark.parametrize("sent", _REFUSED.values(), ids=_REFUSED)
def test_refused(service: Service, sent: bytes, way: _Way) -> None:
    service.take_calls()
    with service.connect() as wire:
        calls = way(service, wire, sent, _SMUGGLED)
        answer = wire.answer()
        assert answer is not None
        assert answer.status == 400
        assert answer.closes
        assert wire.answer() is None
    assert service.take_calls() == calls


def test_connect_opens_no_tunnel(service: Service) -> None:
    # RFC 9110 section 9.3.6: to the client a 2xx would be one.
    for way in (_whole, _in_pieces):
        service.take_calls()
        with service.connect() as wire:
            way(service, wire, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", _SMUGGLED)
            answer = wire.answer()
            assert answer is not None
            assert answer.status in (400, 405, 501)
            assert wire.answer() is None
        assert service.take_calls() == []


@pytest.mark.parametrize("way", [_whole, _in_pieces], ids=["whole", "in_pieces"])
@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (_SLOW, 1),
        (_PLAIN + _SLOW, 2),
        (_SLOW + _PLAIN + _SLOW, 3),
        (_post(b"x-env: slow", b"Content-Length: 5", body=b"hello"), 1),
        (_post(b"x-env: slow", _CHUNKED, body=b"5\r\nhello\r\n" + _END), 1),
    ],
    ids=["one", "two", "three", "a length", "chunks"],
)
def test_who_has_sent_all_still_gets_the_answers(
    service: Service, sent: bytes, answers: int, way: _Way
) -> None:
    with service.connect() as wire:
        way(service, wire, sent)
        wire.end()
        for _ in range(answers):
            _assert_chain(service, wire.answer())
        assert wire.answer() is None


@pytest.mark.parametrize(
    "sent", [b"", b"\r\n", b"GET / HT", _PLAIN[:-2], _of_length(b"9"), _chunked(b"5\r\nhel")]
)
def test_half_a_request_is_not_answered_by_the_chain(service: Service, sent: bytes) -> None:
    service.take_calls()
    with service.connect() as wire:
        wire.send(sent)
        wire.end()
        answer = wire.answer()
        if answer is not None:
            assert answer.status == 400
            assert wire.answer() is None
    assert service.take_calls() == []


def _open_connections(hop: RunningHop) -> int:
    """The clients' connections that the hop has open (proc_pid_net(5), /proc/net/tcp)."""
    local = f"{int.from_bytes(socket.inet_aton(hop.address), 'little'):08X}:{8000:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    listens = "0A"
    return sum(line[1] == local and line[3] != listens and line[9] != "0" for line in lines)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_clients_that_go_away_leave_nothing_behind(service: Service, reset: bool) -> None:
    for sent in (b"", b"GET / HT", _PLAIN[:-2], _SLOW, 3 * _SLOW, _of_length(b"9"), _SLOW + b"\0"):
        with service.connect() as wire:
            if reset:
                at_once = struct.pack("ii", 1, 0)
                wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            wire.send(sent)
            time.sleep(0.005)
    assert request(service.hop.url).body == service.chain
    wait_until(lambda: _open_connections(service.hop) == 0)


def test_200_pipelined_requests_get_200_answers_in_order(service: Service) -> None:
    sent = b"".join(
        b"GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nx-lane: %d\r\n\r\n" % number
        for number in range(200)
    )
    with service.connect() as wire:
        wire.send(sent)
        for number in range(200):
            answer = wire.answer()
            assert answer is not None
            [hop] = json.loads(answer.body)["hops"]
            assert hop["lane_headers"] == {"x-lane": str(number)}


def test_a_silent_connection_gets_nothing(service: Service) -> None:
    with service.connect() as wire:
        wire.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            wire.socket.recv(1)
        wire.socket.settimeout(_TIMEOUT)
        wire.send(_PLAIN)
        assert service.chain in wire.socket.recv(65536)


def _memory(hop: RunningHop) -> int:
    """Bytes that the hop has resident (proc_pid_statm(5))."""
    pages = int(Path(f"/proc/{hop.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.parametrize("at_a_time", [1, 100])
def test_a_client_that_reads_nothing_is_not_read_from_forever(
    service: Service, at_a_time: int
) -> None:
    # The answers are as long as the requests.
    one = _get(b"Accept: application/json", b"x-lane: " + 8192 * b"x")
    limit = 64 * 1024 * 1024
    before = _memory(service.hop)
    sent = 0
    with service.connect(receive_buffer=4096) as wire:
        wire.socket.settimeout(1)
        with suppress(TimeoutError):
            while sent < limit:
                sent += wire.socket.send((at_a_time * one)[sent % len(one) :])
                if at_a_time == 1:
                    time.sleep(0.001)
        assert sent < limit
        assert _memory(service.hop) - before < 32 * 1024 * 1024
        assert request(service.hop.url).body == service.chain
        # Once the client reads, it goes on.
        wire.socket.settimeout(_TIMEOUT)
        for _ in range(sent // len(one)):
            answer = wire.answer()
            assert answer is not None
            assert answer.status == 200


def test_what_is_refused_is_a_line_in_the_logs_at_most() -> None:
    with running() as hop:
        for sent in _REFUSED.values():
            with Wire(hop.address) as wire:
                wire.send(sent + _SMUGGLED)
                wire.answer()
        assert hop.stop() == 0
        lines = hop.errors().splitlines()
    assert len(lines) <= len(_REFUSED)
    assert [line for line in lines if len(line) > 1000 or not line.isprintable()] == []
