"""HTTP on the wire: each request has one outcome, whatever way its bytes come.

Each row of the tables is sent in several ways, and each way must have the same outcome.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from tests.running import (
    RunningHop,
    ok,
    peer,
    read_head,
    request,
    running,
    running_command,
    wait_until,
)
from tests.shapes import (
    ANSWERED,
    CHUNKED,
    END,
    REFUSED,
    SMUGGLED,
    UNSUPPORTED,
    Row,
    chunked,
    get,
    of_length,
    post,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIMEOUT = 10.0
_PLAIN = b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n"
_SLOW = b"GET /slow HTTP/1.1\r\nHost: a\r\nx-env: slow\r\n\r\n"
_LAST = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """A parsed answer."""

    status: int
    fields: dict[str, str]
    body: bytes
    closes: bool
    """Whether it announces the end of the connection (RFC 9112 section 9.3)."""


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
        """Send all of it, or as much as the peer takes before it closes."""
        with suppress(ConnectionError):
            self.socket.sendall(sent)

    def end(self) -> None:
        """Half-close: send nothing more."""
        self.socket.shutdown(socket.SHUT_WR)

    def answer(self, method: str = "GET") -> Answer | None:
        """The next answer; None if the peer has closed."""
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
    """A hop, and its upstream, which records the requests byte for byte."""

    def __init__(self, hop: RunningHop, upstream: str, calls: list[bytes]) -> None:
        self.hop = hop
        self.chain = f"{hop.line}-> up".encode()
        self._upstream = upstream
        self._calls = calls

    def connect(self, receive_buffer: int | None = None) -> Wire:
        """A new connection to the hop."""
        return Wire(self.hop.address, receive_buffer)

    def call(self, carried: bytes = b"") -> bytes:
        """The expected upstream call, with these header lines."""
        return (
            b"GET / HTTP/1.1\r\nHost: %b:8000\r\nAccept-Encoding: identity\r\n"
            b"Accept: text/plain\r\nx-mock-hops: ID\r\n%b\r\n" % (self._upstream.encode(), carried)
        )

    def take_calls(self) -> list[bytes]:
        """The upstream calls since the last call of this method."""
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

    with peer(serve, read=False) as upstream, running_command(upstream_url=upstream.url) as hop:
        # Read standard error, as a full pipe would block the hop.
        assert hop.process.stderr is not None
        threading.Thread(target=hop.process.stderr.read, daemon=True).start()
        yield Service(hop, upstream.address, calls)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with _serving() as serving:
        yield serving


# The ways to send a request. Some send another one before it, read its answer, and return its
# upstream call.


def _whole(_: Service, wire: Wire, *parts: bytes) -> list[bytes]:
    for part in parts:
        wire.send(part)
        time.sleep(0.002)
    return []


def _in_pieces(_: Service, wire: Wire, *parts: bytes) -> list[bytes]:
    # Cut at all characters with a meaning in HTTP.
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


@_in_each_way
@pytest.mark.parametrize("row", ANSWERED, ids=lambda row: row.rule)
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


@_in_each_way
@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
def test_refused(service: Service, sent: bytes, way: _Way) -> None:
    service.take_calls()
    with service.connect() as wire:
        calls = way(service, wire, sent, SMUGGLED)
        answer = wire.answer()
        assert answer is not None
        assert answer.status == 400
        assert answer.closes
        assert wire.answer() is None
    assert service.take_calls() == calls


@_in_each_way
@pytest.mark.parametrize(("status", "sent"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_unsupported(service: Service, status: int, sent: bytes, way: _Way) -> None:
    service.take_calls()
    with service.connect() as wire:
        calls = way(service, wire, sent, SMUGGLED)
        answer = wire.answer()
        assert answer is not None
        assert (answer.status, answer.body) == (status, _rejected(status, sent))
        assert answer.closes
        assert wire.answer() is None
    assert service.take_calls() == calls


def _rejected(status: int, sent: bytes) -> bytes:
    """The answer to what is unsupported."""
    reason = b"neither HTTP/1.1 nor HTTP/1.0" if status == 505 else sent.lstrip().split(b" ")[0]
    return b"-> mocka(rejected: %b)" % reason


@pytest.mark.parametrize(
    "before",
    [
        b"",
        _PLAIN,
        post(b"Content-Length: 6", body=b"BREW /"),
        post(CHUNKED, body=b"a\r\n\r\n\r\nBREW \r\r\n" + END),
        get(b"Connection: Upgrade", b"Upgrade: h2c"),
    ],
    ids=["alone", "pipelined", "behind a body", "behind chunks", "behind an upgrade"],
)
@pytest.mark.parametrize(("status", "sent"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_unsupported_wherever_it_is_cut(
    service: Service, status: int, sent: bytes, before: bytes
) -> None:
    stream = before + sent
    with ExitStack() as stack:
        # A connection for each cut, so that one wait lets the hop read all first parts.
        wires = [stack.enter_context(service.connect()) for _ in stream[1:]]
        for cut, wire in enumerate(wires, 1):
            wire.send(stream[:cut])
        time.sleep(0.02)
        for cut, wire in enumerate(wires, 1):
            wire.send(stream[cut:])
        for cut, wire in enumerate(wires, 1):
            if before:
                _assert_chain(service, wire.answer())
            answer = wire.answer()
            assert answer is not None
            assert (answer.status, answer.body) == (status, _rejected(status, sent)), cut
            assert wire.answer() is None


@pytest.mark.parametrize("before", [b"", _PLAIN], ids=["alone", "pipelined"])
@pytest.mark.parametrize(("status", "sent"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_unsupported_byte_by_byte(
    service: Service, status: int, sent: bytes, before: bytes
) -> None:
    with service.connect() as wire:
        for byte in before + sent:
            wire.send(bytes([byte]))
            time.sleep(0.0005)
        if before:
            _assert_chain(service, wire.answer())
        answer = wire.answer()
        assert answer is not None
        assert (answer.status, answer.body) == (status, _rejected(status, sent))
        assert wire.answer() is None


@pytest.mark.parametrize("end", [b"", b" / HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_a_method_past_any_length_is_answered_at_once(service: Service, end: bytes) -> None:
    for name in (33 * b"X", 10_000 * b"X"):
        for parts in ([name + end], [name[:5], name[5:] + end]):
            with service.connect() as wire:
                _whole(service, wire, *parts)
                answer = wire.answer()
                assert answer is not None
                assert answer.status == 501
                assert answer.body == b"-> mocka(rejected: a method of more than 32 bytes)"
                assert wire.answer() is None


@pytest.mark.parametrize(
    "sent", [b"BREw", b"B\0", b"b", b"\x16\x03\x01", b"GETs", b"BREW\r"], ids=repr
)
def test_what_becomes_no_method_is_refused_at_once(service: Service, sent: bytes) -> None:
    for way in (_whole, _after_a_plain_one):
        with service.connect() as wire:
            way(service, wire, *[bytes([byte]) for byte in sent])
            answer = wire.answer()
            assert answer is not None
            assert answer.status == 400
            assert wire.answer() is None


@pytest.mark.slow
def test_an_unknown_method_whose_rest_never_comes_times_out(service: Service) -> None:
    with service.connect() as wire:
        wire.socket.settimeout(2 * _TIMEOUT)
        wire.send(b"BRE")
        answer = wire.answer()
        assert answer is not None
        assert answer.status == 408
        assert wire.answer() is None


def test_the_preface_of_http_2_is_answered_before_all_of_it_has_come(service: Service) -> None:
    with service.connect() as wire:
        wire.send(b"PRI * HTTP/2.0\r\n\r\n")
        answer = wire.answer()
        assert answer is not None
        assert answer.status == 505


@pytest.mark.parametrize(
    "sent",
    [
        b"HEAD / HTTP/1.1\r\n\r\n",
        b"HEAD / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nx lane: a\r\n\r\n",
        b"HEAD /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (20480 * b"x"),
        b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n",
    ],
    ids=["no Host", "another version", "not HTTP", "a long target", "a long body"],
)
def test_a_refused_head_request_gets_no_body(service: Service, sent: bytes) -> None:
    with service.connect() as wire:
        wire.send(_PLAIN + sent)
        _assert_chain(service, wire.answer())
        answer = wire.answer("HEAD")
        assert answer is not None
        assert answer.status in (400, 413, 505)
        assert answer.closes
        assert wire.answer() is None


def test_connect_opens_no_tunnel(service: Service) -> None:
    # A 2xx would open a tunnel (RFC 9110 section 9.3.6).
    for way in (_whole, _in_pieces):
        service.take_calls()
        with service.connect() as wire:
            way(service, wire, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", SMUGGLED)
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
        (post(b"x-env: slow", b"Content-Length: 5", body=b"hello"), 1),
        (post(b"x-env: slow", CHUNKED, body=b"5\r\nhello\r\n" + END), 1),
    ],
    ids=["one", "two", "three", "a length", "chunks"],
)
def test_a_client_that_half_closes_still_gets_its_answers(
    service: Service, sent: bytes, answers: int, way: _Way
) -> None:
    with service.connect() as wire:
        way(service, wire, sent)
        wire.end()
        for _ in range(answers):
            _assert_chain(service, wire.answer())
        assert wire.answer() is None


@pytest.mark.parametrize(
    "sent",
    [b"", b"\r\n", b"GE", b"BRE", b"GET / HT", _PLAIN[:-2], of_length(b"9"), chunked(b"5\r\nhel")],
)
def test_an_incomplete_request_does_not_reach_the_upstream(service: Service, sent: bytes) -> None:
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
    """The number of the hop's open client connections (proc_pid_net(5), /proc/net/tcp)."""
    local = f"{int.from_bytes(socket.inet_aton(hop.address), 'little'):08X}:{8000:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    listens = "0A"
    return sum(line[1] == local and line[3] != listens and line[9] != "0" for line in lines)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_connections_of_clients_that_leave_are_closed(service: Service, reset: bool) -> None:
    for sent in (
        b"",
        b"BRE",
        b"GET / HT",
        _PLAIN[:-2],
        _SLOW,
        3 * _SLOW,
        of_length(b"9"),
        _SLOW + b"\0",
    ):
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


def test_one_connection_cannot_starve_the_others() -> None:
    over = threading.Event()

    def flood(wire: Wire) -> None:
        with suppress(OSError):
            while not over.is_set():
                wire.socket.sendall(500 * get())

    def drain(wire: Wire) -> None:
        with suppress(OSError):
            while wire.socket.recv(65536):
                pass

    with running() as hop, ExitStack() as stack:
        for _ in range(4):
            wire = stack.enter_context(Wire(hop.address))
            for work in (flood, drain):
                threading.Thread(target=work, args=(wire,), daemon=True).start()
        stack.callback(over.set)
        begin = time.monotonic()
        with Wire(hop.address) as other:
            for _ in range(20):
                other.send(get())
                answer = other.answer()
                assert answer is not None
                assert answer.body == hop.line.encode()
        # Without the run queue, each took seconds.
        assert time.monotonic() - begin < _TIMEOUT


@pytest.mark.parametrize("at_a_time", [1, 100])
def test_a_client_that_reads_nothing_is_not_read_from_forever(
    service: Service, at_a_time: int
) -> None:
    # Each answer is as long as its request.
    one = get(b"Accept: application/json", b"x-lane: " + 8192 * b"x")
    limit = 64 * 1024 * 1024
    before = service.hop.resident_memory()
    sent = 0
    with service.connect(receive_buffer=4096) as wire:
        wire.socket.settimeout(1)
        with suppress(TimeoutError):
            while sent < limit:
                sent += wire.socket.send((at_a_time * one)[sent % len(one) :])
                if at_a_time == 1:
                    time.sleep(0.001)
        assert sent < limit
        assert service.hop.resident_memory() - before < 32 * 1024 * 1024
        assert request(service.hop.url).body == service.chain
        # Once the client reads, it goes on.
        wire.socket.settimeout(_TIMEOUT)
        for _ in range(sent // len(one)):
            answer = wire.answer()
            assert answer is not None
            assert answer.status == 200


def test_malformed_requests_are_not_logged() -> None:
    with running() as hop:
        for sent in REFUSED.values():
            with Wire(hop.address) as wire:
                wire.send(sent + SMUGGLED)
                wire.answer()
        assert hop.stop() == 0
        assert hop.errors() == ""
