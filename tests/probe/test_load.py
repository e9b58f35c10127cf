"""The load: so many requests, so many at once, each with an identity of its own."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

import pytest

from mockservice.chain import Chain, Hop
from mockservice.probe.load import MAX_BODY, Load, Result, Sender, send
from tests.probe.gateway import Answer, chain, gateway, hops, text
from tests.running import answering, ok, peer


async def _results(load: Load) -> list[Result]:
    async with aclosing(send(load)) as results:
        return [result async for result in results]


async def test_as_many_results_come_as_requests_are_asked_for() -> None:
    with gateway(lambda *_: chain("v1 v1")) as asked:
        results = await _results(Load(asked.url, requests=50))
    assert len(results) == len(asked.requests) == 50
    assert {result.chain for result in results if not result.chain.hops} == set()
    assert all(result.chain.hops == hops("v1 v1") for result in results)


async def test_no_more_requests_are_under_way_than_allowed() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def answer(*_: object) -> Answer:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return chain("v1")

    with gateway(answer) as asked:
        await _results(Load(asked.url, requests=24, concurrency=3))
    assert most == 3


async def test_a_rate_is_not_exceeded() -> None:
    with gateway(lambda *_: chain("v1")) as asked:
        start = time.monotonic()
        await _results(Load(asked.url, requests=6, rate=50))
    assert time.monotonic() - start >= 5 / 50 - 0.01


async def test_a_load_without_an_end_goes_on_until_it_is_closed() -> None:
    seen = 0
    with gateway(lambda *_: chain("v1")) as asked:
        async with aclosing(send(Load(asked.url, requests=None, concurrency=2))) as results:
            async for _ in results:
                seen += 1
                if seen == 40:
                    break
        # What is on its way arrives.
        await asyncio.sleep(0.3)
        sent = len(asked.requests)
        await asyncio.sleep(0.2)
        assert len(asked.requests) == sent <= 40 + 2


async def test_a_load_changes_its_rate_and_its_headers_while_it_is_sent() -> None:
    with gateway(lambda *_: chain("v1")) as asked:
        load = Load(asked.url, rate=0, concurrency=8)
        sender = Sender(load)
        async with aclosing(sender.results()) as results:
            first = asyncio.ensure_future(anext(results))
            await asyncio.sleep(0.2)
            assert asked.requests == []
            sender.change(replace(load, rate=0.001, headers=(("x-lane", "a"),)))
            assert (await first).sent[-1] == ("x-lane", "a")
            # A slow rate is not waited for once there is a faster one.
            sender.change(replace(load, rate=50, headers=(("x-lane", "b"),)))
            assert (await anext(results)).sent[-1] == ("x-lane", "b")
            sender.change(load)
            await asyncio.sleep(0.2)
            # What was paused is not caught up with.
            start, before = time.monotonic(), len(asked.requests)
            sender.change(replace(load, rate=50))
            while len(asked.requests) < before + 4:
                await anext(results)
            assert time.monotonic() - start >= 3 / 50 - 0.02
    assert asked.requests[0]["x-lane"] == "a"
    assert asked.requests[-1]["x-lane"] is None


async def test_a_change_gives_up_no_request_under_way() -> None:
    release = threading.Event()

    def answer(number: int, _: object) -> Answer:
        if number == 0:
            release.wait(10)
        return chain("v1")

    with gateway(answer) as asked:
        sender = Sender(Load(asked.url, rate=50, concurrency=1))
        async with aclosing(sender.results()) as results:
            first = asyncio.ensure_future(anext(results))
            while not asked.requests:
                await asyncio.sleep(0.01)
            sender.change(Load(asked.url, rate=0))
            release.set()
            assert (await first).status == 200


async def test_a_reader_that_is_slow_slows_the_load_down() -> None:
    with gateway(lambda *_: chain("v1")) as asked:
        async with aclosing(send(Load(asked.url, requests=None, concurrency=2))) as results:
            await anext(results)
            await asyncio.sleep(0.2)
            assert len(asked.requests) <= 3


async def test_every_request_has_a_trace_of_its_own() -> None:
    with gateway(lambda *_: chain("v1")) as asked:
        await _results(Load(asked.url, requests=20))
    traces = {request["traceparent"] for request in asked.requests}
    assert len(traces) == 20
    assert all(re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", trace) for trace in traces)


async def test_headers_are_sent_with_the_id_of_the_request_in_them() -> None:
    headers = (("my-trace-id", "{id}"), ("x-lane", "a-{id}-{id}"), ("x-lane", "b"))
    with gateway(lambda *_: chain("v1")) as asked:
        await _results(Load(asked.url, requests=3, headers=headers))
    for request in asked.requests:
        trace_id = request["my-trace-id"]
        assert request["traceparent"][3:35] == trace_id
        assert request.get_all("x-lane") == [f"a-{trace_id}-{trace_id}", "b"]
    assert len({request["my-trace-id"] for request in asked.requests}) == 3


async def test_a_header_given_takes_the_place_of_the_probes_own() -> None:
    headers = (("traceparent", "00-{id}-00f067aa0ba902b7-00"), ("host", "mock.example"))
    with gateway(lambda *_: chain("v1")) as asked:
        await _results(Load(asked.url, requests=1, headers=headers))
    (request,) = asked.requests
    assert re.fullmatch("00-[0-9a-f]{32}-00f067aa0ba902b7-00", request["traceparent"])
    assert request.get_all("host") == ["mock.example"]


async def test_the_json_form_is_asked_for_uncompressed() -> None:
    with gateway(lambda *_: chain("v1")) as asked:
        await _results(Load(asked.url, requests=1))
    assert asked.requests[0].get_all("accept") == ["application/json"]
    assert asked.requests[0].get_all("accept-encoding") == ["identity"]


_TEXT = (Hop("mocka", "v1", "1.1.1.1"), Hop("mockb", "v1", "1.1.1.2"))
_MIXED = Chain(hops("v1"), upstream_body=str(_TEXT[1]))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (text("".join(map(str, _TEXT))), Chain(_TEXT)),
        (text("hello"), Chain(upstream_body="hello")),
        (text(""), Chain()),
        (Answer(b"\xff\x00"), Chain(upstream_body="\ufffd\x00")),
        (Answer(b'{"hops": 5}'), Chain(upstream_body='{"hops": 5}')),
        (Answer(b"[" * 100_000), Chain(upstream_body="[" * 100_000)),
        # A hop that knows the text form only, behind one that knows both.
        (Answer(_MIXED.to_json()), Chain((*hops("v1"), _TEXT[1]))),
    ],
)
async def test_an_answer_is_read_in_the_form_that_it_has(answer: Answer, expected: Chain) -> None:
    with gateway(lambda *_: answer) as asked:
        (result,) = await _results(Load(asked.url, requests=1))
    assert (result.status, result.chain, result.error) == (200, expected, None)


async def test_redirects_are_not_followed() -> None:
    redirect = b"HTTP/1.1 302 Found\r\nLocation: /mock\r\nContent-Length: 0\r\n\r\n"
    with peer(answering(redirect)) as asked:
        (result,) = await _results(Load(asked.url, requests=1))
    assert (result.status, len(asked.requests)) == (302, 1)


def _endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def _hang(connection: socket.socket) -> None:
    connection.recv(1)


@pytest.mark.parametrize(
    ("serve", "error"),
    [
        (_hang, "no answer within 0.3 s"),
        (_endless, f"answer of more than {MAX_BODY} bytes"),
        (answering(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "answer is not HTTP"),
        (answering(b""), "connection closed without an answer"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"), "answer cut short"),
    ],
)
async def test_an_answer_that_does_not_come_has_a_reason(
    serve: Callable[[socket.socket], None], error: str
) -> None:
    timeout = 0.3 if serve is _hang else 10
    with peer(serve) as asked:
        (result,) = await _results(Load(asked.url, requests=1, timeout=timeout))
    assert (result.status, result.error) == (None, error)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://localhost:1/", "connection refused"),
        ("http://no.such.host.invalid/", "unknown host"),
        (f"http://{'x' * 70}/", "unknown host"),
    ],
    ids=["refused", "unknown", "too long a name"],
)
async def test_a_gateway_that_is_not_there_has_a_reason(url: str, error: str) -> None:
    (result,) = await _results(Load(url, requests=1))
    assert (result.status, result.error) == (None, error)


async def test_a_gateway_without_tls_is_told() -> None:
    with peer(answering(ok(b"hello")), read=False) as asked:
        (result,) = await _results(Load(asked.url.replace("http:", "https:"), requests=1))
    assert result.error == "TLS: handshake failed"


async def test_connections_that_the_gateway_closes_cost_no_request() -> None:
    closing = ok(b"-> mocka(version: v1, ip: 1.1.1.1)", more="Connection: close\r\n")
    with peer(answering(closing)) as asked:
        results = await _results(Load(asked.url, requests=20))
    assert [result.error for result in results] == [None] * 20
