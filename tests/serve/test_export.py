"""What sends exports: plain HTTP by a transport of our own, all else by requests."""

from __future__ import annotations

import socket
import ssl
import threading
from base64 import b64encode
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from mockservice.serve.telemetry.transport import PlainTransport
from tests.running import (
    answering,
    certificate,
    new_address,
    ok,
    peer,
    read_head,
    request,
    running,
    wait_until,
)
from tests.serve.receiver import receiving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.running import Peer, RunningHop

_EMPTY = b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def transport() -> Iterator[PlainTransport]:
    transport = PlainTransport()
    yield transport
    transport.close()


def _keeping(*answers: bytes) -> Callable[[socket.socket], None]:
    """Give these answers to the requests of one connection, and close it."""

    def serve(connection: socket.socket) -> None:
        for answer in answers:
            read_head(connection)
            connection.sendall(answer)

    return serve


def test_a_request_has_all_that_it_is_given(transport: PlainTransport) -> None:
    received: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        head = b""
        while not head.endswith(b"spans"):
            head += connection.recv(65536)
        received.append(head)
        connection.sendall(_EMPTY.replace(b"\r\n", b"\r\nRetry-After: 7\r\n", 1) % b"503 Not Now")

    with peer(serve, read=False) as collector:
        url = f"{collector.url}v1/traces?key=1"
        result = transport.request("POST", url, headers={"x-token": "a"}, timeout=10, data=b"spans")
    assert received == [
        f"POST /v1/traces?key=1 HTTP/1.1\r\nhost: {collector.address}:8000\r\n"
        "x-token: a\r\ncontent-length: 5\r\n\r\nspans".encode()
    ]
    assert (result.status_code, result.reason, result.error) == (503, "Not Now", None)
    assert result.headers()["retry-after"] == "7"


@pytest.mark.parametrize(
    "answer",
    [
        _EMPTY % b"100 Continue" + _EMPTY % b"200 OK",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok(b"taken"),
    ],
)
def test_interim_answers_do_not_count(transport: PlainTransport, answer: bytes) -> None:
    with peer(answering(answer)) as collector:
        result = transport.request("POST", collector.url, timeout=10, data=b"")
    assert (result.status_code, result.reason, result.error) == (200, "OK", None)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nup to the end",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nless",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmore than that",
        *(_EMPTY % b"200 OK" + _EMPTY % other for other in (b"500 Oops", b"100 Continue")),
        _EMPTY % b"200 OK" + b"HTTP/1.1 4",
    ],
)
def test_an_answer_may_be_the_last_one_of_its_connection(
    transport: PlainTransport, answer: bytes
) -> None:
    with peer(answering(answer)) as collector:
        for _ in range(2):
            assert transport.request("POST", collector.url, timeout=10).status_code == 200


def test_a_connection_is_kept_until_the_collector_closes_it(transport: PlainTransport) -> None:
    connections = []

    def serve(connection: socket.socket) -> None:
        connections.append(connection)
        _keeping(ok(b"1"), ok(b"2"))(connection)

    with peer(serve, read=False) as collector:
        for _ in range(2):
            assert transport.request("POST", collector.url, timeout=10).status_code == 200
        wait_until(lambda: connections[0].fileno() == -1)
        assert transport.request("POST", collector.url, timeout=10).status_code == 200
    assert len(connections) == 2


def test_what_a_collector_says_between_two_answers_is_none(transport: PlainTransport) -> None:
    connections = []

    def serve(connection: socket.socket) -> None:
        connections.append(connection)
        read_head(connection)
        connection.sendall(ok(b""))
        connection.sendall(_EMPTY % b"408 Request Timeout")

    with peer(serve, read=False) as collector:
        for count in range(1, 4):
            assert transport.request("POST", collector.url, timeout=10).status_code == 200
            wait_until(lambda: connections[-1].fileno() == -1)
            assert len(connections) == count


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("", "/"),
        ("a b", "/a%20b"),
        ("a%20b?c=d e", "/a%20b?c=d%20e"),
        ("\u65e5", "/%E6%97%A5"),
    ],
)
def test_a_target_is_encoded(transport: PlainTransport, path: str, sent: str) -> None:
    with peer(answering(ok(b""))) as collector:
        assert transport.request("POST", collector.url + path, timeout=10).status_code == 200
    assert collector.requests[0].startswith(f"POST {sent} HTTP/1.1\r\n".encode())


def test_a_host_of_ones_own_replaces_that_of_the_url(transport: PlainTransport) -> None:
    headers = {"Host": "other.example", "Content-Length": "7"}
    with peer(answering(ok(b""))) as collector:
        transport.request("POST", collector.url, headers=headers, timeout=10)
    assert collector.requests == [
        b"POST / HTTP/1.1\r\nhost: other.example\r\ncontent-length: 0\r\n\r\n"
    ]


def test_a_collector_may_have_an_ipv6_address(transport: PlainTransport) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        url = f"http://[::1]:{listener.getsockname()[1]}/"

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                heads.append(read_head(connection))
                connection.sendall(ok(b""))

        heads: list[bytes] = []
        thread = threading.Thread(target=accept)
        thread.start()
        assert transport.request("POST", url, timeout=10).status_code == 200
        thread.join()
    assert f"\r\nhost: {url[7:-1]}\r\n".encode() in heads[0]


@pytest.mark.parametrize(
    "answer",
    [b"garbage", b"", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 200 OK\r\nA" + b"a" * 2**17],
)
def test_what_is_no_answer_may_be_sent_again(transport: PlainTransport, answer: bytes) -> None:
    with peer(answering(answer)) as collector:
        result = transport.request("POST", collector.url, timeout=10)
    assert result.status_code is None
    assert transport.is_connection_error(result.error)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_an_answer_has_to_come_in_time(transport: PlainTransport, start: bytes) -> None:
    with peer(_then_nothing(start)) as collector:
        result = transport.request("POST", collector.url, timeout=0.2)
    assert isinstance(result.error, TimeoutError)


def test_a_body_that_never_comes_does_not_matter(transport: PlainTransport) -> None:
    head = b"HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\n"
    with peer(_then_nothing(head)) as collector:
        assert transport.request("POST", collector.url, timeout=0.2).status_code == 202


@pytest.mark.parametrize("value", ["a\r\nx-b: c", "a\nb", "\0", "日本"])
def test_a_header_cannot_become_two(transport: PlainTransport, value: str) -> None:
    result = transport.request("POST", "http://127.0.0.1:1/", headers={"x-a": value}, timeout=10)
    assert isinstance(result.error, ValueError)
    assert not transport.is_connection_error(result.error)


def _then_nothing(start: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.sendall(start)
        connection.recv(1)

    return serve


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_plain_http_takes_neither_requests_nor_openssl(compression: str) -> None:
    with receiving() as receiver:
        env = receiver.settings(OTEL_EXPORTER_OTLP_COMPRESSION=compression)
        with running(**env) as hop:
            assert request(hop.url).status == 200
            receiver.wait_for(1)
            assert not _has_openssl(hop)


@pytest.mark.slow
def test_a_collector_may_be_reached_over_tls(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    exports: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as tls:
            exports.append(read_head(tls))
            tls.sendall(ok(b""))

    with peer(serve, read=False) as collector:
        context.load_cert_chain(certificate(tmp_path, f"IP:{collector.address}"))
        url = collector.url.replace("http:", "https:")
        trusted = str(tmp_path / "cert.pem")
        with _tracing_to(url, OTEL_EXPORTER_OTLP_CERTIFICATE=trusted) as hop:
            assert request(hop.url).status == 200
            wait_until(lambda: bool(exports))
            assert _has_openssl(hop)
    assert exports[0].startswith(b"POST /v1/traces HTTP/1.1\r\n")


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["http_proxy", "ALL_PROXY"])
def test_a_collector_may_be_reached_by_a_proxy(variable: str) -> None:
    with (
        peer(answering(ok(b""))) as proxy,
        _tracing_to("http://collector.invalid:4318", **{variable: proxy.url}) as hop,
    ):
        assert request(hop.url).status == 200
        head = _first(proxy)
    assert head.startswith(b"POST http://collector.invalid:4318/v1/traces HTTP/1.1\r\n")


@pytest.mark.slow
def test_a_collector_may_ask_for_a_password() -> None:
    with peer(answering(ok(b""))) as collector:
        url = collector.url.replace("http://", "http://user:secret@")
        with _tracing_to(url) as hop:
            assert request(hop.url).status == 200
            head = _first(collector)
    assert b"\r\nAuthorization: Basic %b\r\n" % b64encode(b"user:secret") in head


@pytest.mark.slow
def test_a_collector_that_is_not_there_is_told() -> None:
    address = new_address()
    with _tracing_to(f"http://{address}:4318") as hop:
        assert request(hop.url).status == 200
        assert hop.stop() == 0
        assert "Connection refused" in hop.errors()


def _tracing_to(url: str, **env: str) -> AbstractContextManager[RunningHop]:
    return running(OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_BSP_SCHEDULE_DELAY="50", **env)


def _first(collector: Peer) -> bytes:
    wait_until(lambda: bool(collector.requests))
    return collector.requests[0]


def _has_openssl(hop: RunningHop) -> bool:
    return "/libssl" in (hop.proc / "maps").read_text()
