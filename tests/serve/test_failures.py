"""A failure gets an answer in time, with a status, the hop that failed and the reason."""

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.misbehaving import (
    dribble_body,
    endless_chunks,
    endless_header,
    endless_headers,
    hang,
    reset,
)
from tests.running import (
    Peer,
    Scripted,
    answering,
    certificate,
    new_address,
    ok,
    peer,
    request,
    running,
    running_chain,
    running_scripted,
)

pytestmark = pytest.mark.slow

_MIB = 1024 * 1024

_TOO_LARGE = "(invalid: an answer of more than 1048576 bytes)"
_LONG_HEAD = "(invalid: headers of more than 65536 bytes)"
_NOT_HTTP = "(invalid: not HTTP)"
_TOO_EARLY = "(invalid: an answer that ends too early)"
_TIMEOUT = "(timeout: no answer within 0.5 s)"


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    with running_scripted(upstream_timeout="0.5") as scripted:
        yield scripted


@pytest.mark.parametrize(
    ("serve", "status", "reason"),
    [
        (reset, 502, "(unreachable: connection reset)"),
        (answering(b""), 502, "(unreachable: closed without an answer)"),
        (hang, 504, _TIMEOUT),
        (dribble_body, 504, _TIMEOUT),
        (answering(ok(b"x" * (_MIB + 1))), 502, _TOO_LARGE),
        (endless_chunks, 502, _TOO_LARGE),
        (answering(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (_MIB + 1)), 502, _TOO_LARGE),
        (endless_headers, 502, _LONG_HEAD),
        (endless_header, 502, _LONG_HEAD),
        (answering(b"SSH-2.0-OpenSSH_9.2\r\n"), 502, _NOT_HTTP),
        (answering(b"<html>HTTP/0.9"), 502, _NOT_HTTP),
        (answering(b"HTTP/1.1 000 Huh\r\n\r\n"), 502, "(invalid: a status of 0)"),
        (answering(b"HTTP/1.1 600 Huh\r\n\r\n"), 502, "(invalid: a status of 600)"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), 502, _NOT_HTTP),
        (
            answering(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
            502,
            _NOT_HTTP,
        ),
        (answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), 502, _NOT_HTTP),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"), 502, _TOO_EARLY),
        (answering(b"HTTP/1.1 200 OK\r\nConte"), 502, _TOO_EARLY),
        (
            answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"),
            502,
            _TOO_EARLY,
        ),
        (
            answering(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
            ),
            502,
            "(invalid: a protocol switch that nobody asked for)",
        ),
    ],
)
def test_an_upstream_that_fails_is_named(
    scripted: Scripted, serve: Callable[[socket.socket], None], status: int, reason: str
) -> None:
    scripted.serve = serve
    hop, upstream = scripted.hop, f"{scripted.upstream.address}:8000"
    response = request(hop.url)
    assert (response.status, response.text) == (status, f"{hop.line}-> {upstream}{reason}")
    document = json.loads(request(hop.url, {"Accept": "application/json"}).body)
    kind, _, why = reason.strip("()").partition(": ")
    assert document["error"] == {"hop": upstream, "kind": kind, "reason": why}
    assert [hop["status"] for hop in document["hops"]] == [status]


def test_an_upstream_that_is_not_there_is_named() -> None:
    with running(upstream_url=f"http://{new_address()}:8000/") as hop:
        response = request(hop.url)
        assert response.status == 502
        assert response.text.endswith(":8000(unreachable: connection refused)")


def test_an_unknown_host_is_named() -> None:
    with running(upstream_url="http://mockb.invalid:8000/") as hop:
        response = request(hop.url)
        assert response.status == 502
        assert response.text == f"{hop.line}-> mockb.invalid(unreachable: unknown host)"


def test_the_chain_so_far_and_the_upstreams_own_status_are_passed_on() -> None:
    with running_chain(f"http://{new_address()}:8000/") as hops:
        response = request(hops[0].url)
        assert response.status == 502
        assert response.text.startswith("".join(hop.line for hop in hops))
        assert response.text.endswith("(unreachable: connection refused)")
        document = json.loads(request(hops[0].url, {"Accept": "application/json"}).body)
        assert [hop["app"] for hop in document["hops"]] == ["mocka", "mockb", "mockc"]
        assert [hop["status"] for hop in document["hops"]] == [502, 502, 502]
        assert document["error"]["reason"] == "connection refused"


def test_the_last_hop_times_out_first_and_names_the_upstream_that_hangs() -> None:
    # Each hop waits 3 % less than the one before it: 240 ms, more than a busy machine takes.
    with peer(hang) as other, running_chain(other.url, upstream_timeout="8") as hops:
        response = request(hops[0].url)
        assert response.status == 504
        lines = "".join(hop.line for hop in hops)
        assert response.text.startswith(f"{lines}-> {other.address}:8000(timeout: ")


def test_a_failure_does_not_affect_the_next_request() -> None:
    answers = iter([b"garbage", ok(b"good"), b"", ok(b"good")])

    def serve(connection: socket.socket) -> None:
        connection.sendall(next(answers))

    with peer(serve) as other, running(upstream_url=other.url) as hop:
        assert [request(hop.url).status for _ in range(4)] == [502, 200, 502, 200]


@pytest.fixture(scope="module", name="certificate")
def _certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls_peer(certificate: Path) -> Iterator[Peer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(connection: socket.socket) -> None:
        with suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(65536)
            tls.sendall(ok(b"secure"))

    with peer(serve, read=False) as other:
        yield other


def test_a_certificate_that_is_not_trusted_is_a_failure(tls_peer: Peer) -> None:
    with running(upstream_url=tls_peer.url.replace("http:", "https:")) as hop:
        response = request(hop.url)
        assert response.status == 502
        assert response.text.endswith(":8000(unreachable: TLS: self-signed certificate)")


def test_a_certificate_for_another_name_is_a_failure(tls_peer: Peer, certificate: Path) -> None:
    url = tls_peer.url.replace("http:", "https:")
    with running(upstream_url=url, SSL_CERT_FILE=str(certificate)) as hop:
        response = request(hop.url)
        assert response.status == 502
        assert "(unreachable: TLS: IP address mismatch" in response.text


def test_a_trusted_https_upstream_answers(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("localhost", 0))
    port = listener.getsockname()[1]
    url = f"https://localhost:{port}/"
    with listener, running(upstream_url=url, SSL_CERT_FILE=str(certificate)) as hop:
        client = socket.create_connection((hop.address, 8000), 30)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True) as tls:
            assert tls.recv(65536).startswith(b"GET / HTTP/1.1\r\n")
            tls.sendall(ok(b"secure"))
            with client:
                answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.endswith(f"{hop.line}secure".encode())


def test_an_https_upstream_that_speaks_plain_http_is_a_failure() -> None:
    with peer(answering(ok(b"plain")), read=False) as other:
        url = other.url.replace("http:", "https:")
        with running(upstream_url=url) as hop:
            response = request(hop.url)
            assert response.status == 502
            assert response.text.startswith(f"{hop.line}-> {other.address}:8000(unreachable: ")
