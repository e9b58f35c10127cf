"""Logs: what is logged, what a line contains, and destinations that fail."""

import json
import os
import re
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mockservice.serve.telemetry.lines import MAX_LINE, MAX_WAITING, Lines
from tests.running import (
    RunningHop,
    answering,
    exchange,
    launch,
    new_address,
    peer,
    request,
    running,
    running_chain,
    running_into,
    wait_until,
)
from tests.serve.receiver import receiving

pytestmark = pytest.mark.slow

_TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
_SPAN_ID = "b7ad6b7169203331"
_TRACED = {"traceparent": f"00-{_TRACE_ID}-{_SPAN_ID}-01"}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_FIRST = ["time", "level", "app", "version", "trace_id", "span_id", "message"]


def _lines(hop: RunningHop) -> list[dict[str, Any]]:
    """Stop the hop, and return what it has logged."""
    assert hop.stop() == 0
    return _read(hop.errors())


def _read(text: str) -> list[dict[str, Any]]:
    lines = []
    for line in text.splitlines():
        assert line.isascii()
        assert line.isprintable()
        assert len(line) < 16384
        document = json.loads(line)
        assert list(document)[: len(_FIRST)] == _FIRST
        assert _TIME.fullmatch(document["time"])
        assert all(isinstance(value, str | int | float | None) for value in document.values())
        lines.append(document)
    return lines


def _refusing() -> str:
    return f"http://{new_address()}:8000/"


def test_a_failed_request_is_one_line() -> None:
    url = _refusing()
    with running(upstream_url=url) as hop:
        assert request(f"{hop.url}mock?secret=1", _TRACED, method="POST").status == 502
        [line] = _lines(hop)
    assert line.pop("time")
    assert 0 < line.pop("duration_ms") < 60_000
    upstream = url.removeprefix("http://").rstrip("/")
    assert line == {
        "level": "error",
        "app": "mocka",
        "version": "v1",
        "trace_id": _TRACE_ID,
        "span_id": _SPAN_ID,
        "message": f"{upstream} unreachable: connection refused",
        "http_request_method": "POST",
        "url_path": "/mock",
        "client_address": "127.0.0.1",
        "http_response_status_code": 502,
        "error_type": "unreachable",
        "upstream": upstream,
    }


def test_every_hop_of_a_failed_chain_logs_it_once_in_one_trace() -> None:
    url = _refusing()
    with running_chain(url) as hops:
        assert request(hops[0].url, _TRACED).status == 502
        lines = [_lines(hop) for hop in hops]
    assert [len(of_hop) for of_hop in lines] == [1, 1, 1]
    assert [line["error_type"] for [line] in lines] == ["502", "502", "unreachable"]
    assert {line["trace_id"] for [line] in lines} == {_TRACE_ID}
    assert lines[0][0]["message"] == f"{hops[1].address}:8000 answered 502"


@pytest.mark.parametrize("status", [500, 503, 599])
def test_an_error_of_the_upstream_is_logged(status: int) -> None:
    answer = f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n".encode()
    with peer(answering(answer)) as other, running(upstream_url=other.url) as hop:
        assert request(hop.url).status == status
        [line] = _lines(hop)
    assert (line["http_response_status_code"], line["error_type"]) == (status, str(status))


def test_a_loop_is_logged() -> None:
    address = new_address()
    with running(host=address, upstream_url=f"http://{address}:8000/") as hop:
        assert request(hop.url).status == 508
        lines = _lines(hop)
    assert [line["error_type"] for line in lines] == ["loop", "508"]
    assert lines[0]["message"] == "mocka loop: already in this chain"


def test_neither_successes_nor_errors_of_the_client_are_logged() -> None:
    answer = b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n"
    with peer(answering(answer)) as other, running(upstream_url=other.url) as hop:
        assert request(hop.url).status == 404
        assert request(f"{hop.url}healthz").status == 200
        exchange(hop.address, b"nonsense\r\n\r\n")
        exchange(hop.address, b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert _lines(hop) == []


def test_with_an_access_log_every_request_is_logged() -> None:
    with running(access_log="on") as hop:
        request(f"{hop.url}a", {"b3": f"{_TRACE_ID}-{_SPAN_ID}-1"})
        request(f"{hop.url}b", {"X-B3-TraceId": _TRACE_ID, "X-B3-SpanId": _SPAN_ID})
        request(f"{hop.url}c", {"X-B3-TraceId": _TRACE_ID})
        request(f"{hop.url}d", method="DELETE")
        exchange(hop.address, b"nonsense\r\n\r\n")
        request(f"{hop.url}healthz")
        lines = _lines(hop)
    assert [(line["level"], line.get("url_path")) for line in lines] == [
        ("info", "/a"),
        ("info", "/b"),
        ("info", "/c"),
        ("info", "/d"),
        ("info", None),
    ]
    assert [(line["trace_id"], line["span_id"]) for line in lines] == [
        (_TRACE_ID, _SPAN_ID),
        (_TRACE_ID, _SPAN_ID),
        (_TRACE_ID, None),
        (None, None),
        (None, None),
    ]
    assert lines[3]["http_request_method"] == "DELETE"
    assert lines[4]["message"] == "mocka rejected: not HTTP"
    assert lines[4]["http_response_status_code"] == 400


@pytest.mark.parametrize("flags", ["00", "01"])
def test_with_tracing_a_line_names_the_hops_own_span(flags: str) -> None:
    with (
        receiving() as receiver,
        running(upstream_url=_refusing(), **receiver.settings()) as hop,
    ):
        request(hop.url, {"traceparent": f"00-{_TRACE_ID}-{_SPAN_ID}-{flags}"})
        [line] = _lines(hop)
    assert line["trace_id"] == _TRACE_ID
    assert re.fullmatch("[0-9a-f]{16}", line["span_id"])
    assert line["span_id"] != _SPAN_ID
    span_ids = [span.span_id.hex() for _, span in receiver.spans]
    assert (line["span_id"] in span_ids) == (flags == "01")


_FORGING = [
    b'/x","level":"info","message":"all is well',
    b"/%0a%0d%1b[31m",
    "/\u2028\u2029\u0085\u009b31m\u202e\U0001f600".encode(),
    b"/\xff\xfe\x80\xc0\xaf",
    b"/" + b"x" * 16000,
    b"/" + "\U0001f600".encode() * 3000,
    b"/\\n\\u000a\\",
]


@pytest.fixture(scope="module")
def refused() -> Iterator[RunningHop]:
    """A hop that logs each request, all of which fail."""
    with running(upstream_url=_refusing(), access_log="on") as hop:
        yield hop


def _lines_until(hop: RunningHop, path: str) -> list[dict[str, Any]]:
    """What a hop with an access log has logged so far, up to a request for this path."""
    request(f"{hop.url}{path}")
    stderr = hop.process.stderr
    assert stderr is not None
    lines: list[dict[str, Any]] = []
    while not lines or lines[-1].get("url_path") != f"/{path}":
        lines += _read(stderr.readline().decode())
    return lines[:-1]


@pytest.mark.parametrize("target", _FORGING)
def test_no_client_can_forge_a_line(refused: RunningHop, target: bytes) -> None:
    forged = b'"}\x1b]0;x\x07 {"level":"info"}'
    sent = (
        b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\ntraceparent: %b\r\n"
        b"x-request-id: %b\r\nb3: %b\r\nuser-agent: %b\r\n\r\n"
    ) % (target, *4 * [forged.replace(b"\x1b", b"").replace(b"\x07", b"")])
    answer = exchange(refused.address, sent)
    [line] = _lines_until(refused, "next")
    assert line["http_response_status_code"] == int(answer[9:12])
    assert line["level"] in ("error", "info")
    assert (line["trace_id"], line["span_id"]) == (None, None)
    if "url_path" in line:
        # A strict reader can encode it: there are no lone surrogates.
        line["url_path"].encode()
        assert len(line["url_path"]) <= 4 * 512


def test_no_upstream_can_forge_a_line() -> None:
    head = b"HTTP/1.1 500 x\x80y\r\nX: \xff\r\nContent-Type: a\tb\r\nContent-Length: 4\r\n\r\n"
    answer = head + b"\x1b\r\n{"
    with peer(answering(answer)) as other, running(upstream_url=other.url) as hop:
        assert request(hop.url).status == 500
        assert len(_lines(hop)) == 1


def test_lines_of_libraries_have_the_same_form() -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": _refusing(), "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with running(**env, OTEL_EXPORTER_OTLP_TIMEOUT="1") as hop:
        for _ in range(3):
            request(hop.url)
        stderr = hop.process.stderr
        assert stderr is not None
        wait_until(lambda: bool(select.select([stderr], [], [], 0)[0]))
        lines = _lines(hop)
    assert lines
    assert {line["level"] for line in lines} <= {"warning", "error"}
    assert all(line["logger"].startswith("opentelemetry.") for line in lines)


def test_a_bad_setting_stays_one_plain_line() -> None:
    hop = launch("", "v1")
    assert hop.errors().startswith("mockservice: app='': must be set")
    assert hop.process.returncode == 2


def test_lines_of_workers_stay_whole() -> None:
    # Escaping makes the line six times as long.
    long = f"GET / HTTP/1.0\r\nx-mock-fault: {'😀' * 500}\r\n\r\n".encode()
    with running(workers="3", access_log="on", fault_header="on") as hop:
        read: list[bytes] = []
        assert hop.process.stderr is not None
        stderr = hop.process.stderr
        reader = threading.Thread(target=lambda: read.append(stderr.read()))
        reader.start()

        def ask() -> None:
            for _ in range(100):
                assert exchange(hop.address, long).startswith(b"HTTP/1.1 400 ")

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert hop.stop() == 0
        reader.join(20)
    assert len(_read(read[0].decode())) == 400
    assert 2000 < max(map(len, read[0].splitlines())) < MAX_LINE


def test_an_unexpected_error_is_logged_with_its_stack() -> None:
    logged = (
        "import logging; from mockservice.serve.telemetry.logs import Logs; "
        "logs = Logs('mocka', 'v1'); logs.take_over()\n"
        "def inner(): 1 / 0\n"
        "try: inner()\n"
        "except ZeroDivisionError: logging.exception('callback')\n"
        "logs.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", logged], capture_output=True, text=True, check=True
    )
    [line] = _read(done.stderr)
    assert line["message"] == "callback (ZeroDivisionError: division by zero)"
    assert line["exception_stacktrace"] == "<string>:2 inner < <string>:3 <module>"


# Destinations.


def _failing(stderr: int | None) -> AbstractContextManager[RunningHop]:
    """A hop whose requests all fail, with this standard error, or with none."""
    return running_into(stderr, upstream_url=_refusing())


@contextmanager
def _reading(descriptor: int) -> Iterator[list[bytes]]:
    """The bytes from a pipe; complete after the block, which must end the writer."""
    chunks: list[bytes] = []
    reader = threading.Thread(
        target=lambda: chunks.extend(iter(lambda: os.read(descriptor, 65536), b""))
    )
    reader.start()
    yield chunks
    reader.join(20)
    os.close(descriptor)


_BATCHES = 30
"""Of 200 requests each: more than the queue of lines and a pipe hold."""


def test_a_full_pipe_blocks_no_request_and_takes_bounded_memory() -> None:
    read, write = os.pipe()
    with _failing(write) as hop:
        os.close(write)
        one = b"GET /" + b"x" * 1000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
        before = hop.resident_memory()
        with socket.create_connection((hop.address, 8000), 30) as client:
            answered = b""
            for _ in range(_BATCHES):
                client.sendall(200 * one)
                count = 0
                while count < 200:
                    part = client.recv(1 << 20)
                    assert part
                    tail = answered[-11:]
                    count += (tail + part).count(b"HTTP/1.1 502") - tail.count(b"HTTP/1.1 502")
                    answered = part
        assert hop.resident_memory() - before < 32 * 1024 * 1024
        # Reading again gets the queued lines, and the number of lost ones.
        with _reading(read) as chunks:
            wait_until(lambda: b"lines lost" in b"".join(chunks))
            assert hop.stop() == 0
    lines = _read(b"".join(chunks).decode())
    lost = [int(line["message"].split()[0]) for line in lines if "lines lost" in line["message"]]
    failed = [line for line in lines if line.get("error_type") == "unreachable"]
    assert len(failed) + sum(lost) == _BATCHES * 200
    assert len(failed) >= MAX_WAITING


def test_a_full_pipe_does_not_block_the_exit() -> None:
    read, write = os.pipe()
    with _failing(write) as hop:
        os.close(write)
        for _ in range(300):
            assert request(f"{hop.url}{'x' * 500}").status == 502
        assert hop.stop(timeout=15) == 0
    os.close(read)


def test_a_closed_pipe_stops_nothing() -> None:
    read, write = os.pipe()
    with _failing(write) as hop:
        os.close(write)
        os.close(read)
        for _ in range(20):
            assert request(hop.url).status == 502
        assert hop.stop() == 0


def test_a_pipe_that_does_not_block_gets_all_lines() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with _failing(write) as hop:
        os.close(write)
        for _ in range(300):
            assert request(f"{hop.url}{'x' * 500}").status == 502
        with _reading(read) as chunks:
            assert hop.stop() == 0
    assert len(_read(b"".join(chunks).decode())) == 300


def test_a_full_disk_stops_nothing() -> None:
    with Path("/dev/full").open("wb") as full, _failing(full.fileno()) as hop:
        for _ in range(20):
            assert request(hop.url).status == 502
        assert hop.stop() == 0


def test_without_standard_error_no_line_goes_to_a_socket() -> None:
    with _failing(None) as hop:
        assert Path(f"/proc/{hop.process.pid}/fd/2").readlink() == Path(os.devnull)
        answer = exchange(hop.address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b"trace_id" not in answer
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert hop.stop() == 0


def test_a_hop_that_logs_nothing_has_no_thread_for_it() -> None:
    with running(upstream_url=_refusing()) as hop:
        before = len(hop.threads())
        exchange(hop.address, b"nonsense\r\n\r\n")
        assert len(hop.threads()) == before
        request(hop.url)
        assert len(hop.threads()) == before + 1


def test_lines_are_written_in_order_and_all_of_them_on_close() -> None:
    read, write = os.pipe()
    lines = Lines(write, lambda lost: b"%d lost\n" % lost)
    sent = [b"%d\n" % number for number in range(1000)]
    for line in sent:
        lines.put(line)
    lines.close(20)
    os.close(write)
    assert b"".join(iter(lambda: os.read(read, 4096), b"")) == b"".join(sent)
    os.close(read)
