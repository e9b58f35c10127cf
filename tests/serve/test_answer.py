"""The answers of a hop: exact bytes, JSON, reserved paths, any method, foreign upstreams."""

import json
import re
import socket
from collections.abc import Iterator

import pytest

from tests.running import (
    RunningHop,
    Scripted,
    answering,
    exchange,
    ok,
    peer,
    request,
    running,
    running_chain,
    running_scripted,
)

_JSON = {"Accept": "application/json"}


@pytest.fixture(scope="module")
def chain() -> Iterator[list[RunningHop]]:
    with running_chain() as hops:
        yield hops


@pytest.fixture(scope="module")
def last(chain: list[RunningHop]) -> RunningHop:
    return chain[-1]


def test_three_hops_answer_the_chain_in_one_line(chain: list[RunningHop]) -> None:
    response = request(f"{chain[0].url}mock")
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.body == "".join(hop.line for hop in chain).encode()


def test_the_bytes_on_the_wire_end_with_the_chain(last: RunningHop) -> None:
    answer = exchange(last.address, b"GET / HTTP/1.1\r\nHost: mockc\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"Content-Length: {len(last.line)}".encode() in head.split(b"\r\n")
    assert body == last.line.encode()


def test_json_has_one_object_per_hop_in_order(chain: list[RunningHop]) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01", "X-Asm-Prefer-Tag": "v2"}
    response = request(chain[0].url, {**_JSON, **headers})
    assert response.headers["Content-Type"] == "application/json"
    document = json.loads(response.body)
    assert list(document) == ["hops"]
    assert [hop["ip"] for hop in document["hops"]] == [hop.address for hop in chain]
    durations = [hop.pop("duration_ms") for hop in document["hops"]]
    assert durations == sorted(durations, reverse=True)
    assert min(durations) > 0
    for app, hop in zip(("mocka", "mockb", "mockc"), document["hops"], strict=True):
        assert hop == {
            "app": app,
            "version": "v1",
            "ip": hop["ip"],
            "status": 200,
            "lane_headers": {name.lower(): value for name, value in headers.items()},
            "trace_id": trace_id,
            "fault": None,
        }


@pytest.mark.parametrize(
    ("headers", "trace_id"),
    [
        ({}, None),
        ({"traceparent": "garbage"}, None),
        (
            {"b3": "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1"},
            "463ac35c9f6413ad48485a3953bb6124",
        ),
        ({"X-B3-TraceId": "463ac35c9f6413ad"}, "463ac35c9f6413ad"),
    ],
)
def test_json_names_the_trace(
    last: RunningHop, headers: dict[str, str], trace_id: str | None
) -> None:
    [hop] = json.loads(request(last.url, {**_JSON, **headers}).body)["hops"]
    assert hop["trace_id"] == trace_id


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "PURGE", "QUERY"]
)
@pytest.mark.parametrize("path", ["", "mock", "a/b%20c?d=e", "healthz/", "readyz2", "%00"])
def test_any_method_and_path_get_the_chain(last: RunningHop, method: str, path: str) -> None:
    response = request(f"{last.url}{path}", method=method)
    assert (response.status, response.text) == (200, last.line)


def test_head_has_the_headers_and_no_body(last: RunningHop) -> None:
    answer = exchange(last.address, b"HEAD / HTTP/1.1\r\nHost: mockc\r\nConnection: close\r\n\r\n")
    assert f"\r\nContent-Length: {len(last.line)}\r\n".encode() in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("healthz", 200, "alive"),
        ("readyz", 200, "ready"),
        ("readyz?x", 200, "ready"),
    ],
)
def test_reserved_paths(last: RunningHop, path: str, status: int, text: str) -> None:
    response = request(f"{last.url}{path}")
    assert (response.status, response.text) == (status, text)


def test_a_request_body_is_read_and_discarded(last: RunningHop) -> None:
    body = b"x" * 1024 * 1024
    pipelined = (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%bGET / HTTP/1.1\r\nHost: a\r\n"
        b"Connection: close\r\n\r\n" % (len(body), body)
    )
    assert exchange(last.address, pipelined).count(last.line.encode()) == 2


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 1048577\r\n\r\n",
        b"Content-Length: 1048577\r\nExpect: 100-continue\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + 17 * (b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    ],
)
def test_a_larger_request_body_is_refused(last: RunningHop, head: bytes) -> None:
    answer = exchange(last.address, b"POST / HTTP/1.1\r\nHost: a\r\n" + head)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"-> mockc(rejected: a request body of more than 1048576 bytes)")


def test_a_client_that_expects_100_continue_gets_it(last: RunningHop) -> None:
    with socket.create_connection((last.address, 8000), 30) as client:
        client.sendall(
            b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
            b"Connection: close\r\n\r\n"
        )
        assert client.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hi")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(last.line.encode())


def test_version_and_app_may_be_any_printable_text() -> None:
    with running("模拟 a", "v1 (<b>é</b>)") as hop:
        assert request(hop.url).text == hop.line
        [answered] = json.loads(request(hop.url, _JSON).body)["hops"]
        assert (answered["app"], answered["version"]) == ("模拟 a", "v1 (<b>é</b>)")


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    with running_scripted() as scripted:
        yield scripted


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (ok(b"hello\n"), 200, b"hello\n"),
        (ok(b"<html>\xe9\x00", "text/html"), 200, b"<html>\xe9\x00"),
        (ok(b'{"hops": 1}', "application/json"), 200, b'{"hops": 1}'),
        (ok(b""), 200, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 200, b""),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", 200, b""),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\nx: y\r\n\r\n",
            200,
            b"hello",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", 200, b"old"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok(b"late"), 200, b"late"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n"
            b"Content-Length: 5\r\n\r\nmoved",
            302,
            b"moved",
        ),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone", 404, b"none"),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", 503, b""),
    ],
)
def test_the_answer_of_a_foreign_upstream_is_passed_on(
    scripted: Scripted, answer: bytes, status: int, body: bytes
) -> None:
    scripted.serve = answering(answer)
    hop = scripted.hop
    response = request(hop.url)
    assert (response.status, response.body) == (status, hop.line.encode() + body)
    document = json.loads(request(hop.url, _JSON).body)
    assert document["upstream_body"] == body.decode("utf-8", "replace")
    assert [hop["status"] for hop in document["hops"]] == [status]


def test_the_upstream_url_is_called_exactly_as_configured() -> None:
    with (
        peer(answering(ok(b""))) as other,
        running(upstream_url=f"{other.url}a/../b?c=%20d&e") as hop,
    ):
        request(f"{hop.url}ignored?too", method="POST", body=b"dropped")
        request(hop.url, {"Accept": "text/html, application/json;q=0.9"})
    text, as_json = other.requests
    assert text.startswith(
        f"GET /a/../b?c=%20d&e HTTP/1.1\r\nHost: {other.address}:8000\r\n".encode()
    )
    assert re.search(rb"\r\nAccept: text/plain\r\n", text)
    assert re.search(rb"\r\nAccept: application/json\r\n", as_json)


def test_cookies_are_not_kept() -> None:
    with (
        peer(answering(ok(b"", more="Set-Cookie: a=b; Path=/\r\n"))) as other,
        running(upstream_url=other.url) as hop,
    ):
        first, second = request(hop.url), request(hop.url)
    assert "Set-Cookie" not in first.headers
    assert second.status == 200
    assert b"ookie" not in b"".join(other.requests)


def test_connections_are_kept_alive() -> None:
    taken = []

    def serve(connection: socket.socket) -> None:
        taken.append(connection)
        while True:
            connection.sendall(ok(b"x"))
            if not connection.recv(65536):
                return

    with peer(serve) as other, running(upstream_url=other.url) as hop:
        for _ in range(5):
            assert request(hop.url).text == f"{hop.line}x"
    assert len(taken) == 1


def test_a_stale_connection_is_replaced() -> None:
    # The peer closes, although its answer says keep-alive.
    with peer(answering(ok(b"x"))) as other, running(upstream_url=other.url) as hop:
        for _ in range(20):
            response = request(hop.url)
            assert (response.status, response.text) == (200, f"{hop.line}x")


def test_a_proxy_is_asked_in_absolute_form() -> None:
    with (
        peer(answering(ok(b"x"))) as proxy,
        running(upstream_url="http://mockb:8000/a?b", upstream_proxy=proxy.url) as hop,
    ):
        assert request(hop.url).text == f"{hop.line}x"
    assert proxy.requests[0].startswith(
        b"GET http://mockb:8000/a?b HTTP/1.1\r\nHost: mockb:8000\r\n"
    )


def test_a_hop_listens_on_all_interfaces_by_default() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with running(host="", port=port) as hop:
        assert hop.url.startswith("http://localhost:")
        for address in ("127.0.0.1", "[::1]"):
            assert request(f"http://{address}:{port}/").text.startswith("-> mocka(version: v1, ip:")


def test_a_second_answer_is_discarded_and_ends_the_connection() -> None:
    with peer(answering(ok(b"A") + ok(b"B"))) as other, running(upstream_url=other.url) as hop:
        for count in (1, 2):
            assert request(hop.url).text == f"{hop.line}A"
            assert len(other.requests) == count
