"""Tracing, as a real OTLP/HTTP receiver sees it."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.misbehaving import hang
from tests.running import (
    Peer,
    RunningHop,
    Scripted,
    answering,
    new_address,
    ok,
    peer,
    request,
    running,
    running_chain,
    running_command,
    running_scripted,
    running_shop,
)
from tests.serve.receiver import Receiver, attributes, receiving

pytestmark = pytest.mark.slow

_TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
_PARENT_ID = "b7ad6b7169203331"
_SERVER, _CLIENT = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT


@pytest.fixture(scope="module")
def shared_receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def receiver(shared_receiver: Receiver) -> Receiver:
    """The receiver, without the spans of other tests, each of which waits for all of its own."""
    shared_receiver.spans.clear()
    return shared_receiver


@pytest.fixture(scope="module")
def chain(shared_receiver: Receiver) -> Iterator[list[RunningHop]]:
    """Three traced hops, which take the fault header."""
    with running_chain(fault_header="on", **shared_receiver.settings()) as hops:
        yield hops


@pytest.fixture(scope="module")
def scripted(shared_receiver: Receiver) -> Iterator[Scripted]:
    """A traced hop, and its upstream."""
    with running_scripted(**shared_receiver.settings()) as scripted:
        yield scripted


def _has_loaded_protobuf(hop: RunningHop) -> bool:
    return "/google/_upb/" in (hop.proc / "maps").read_text()


def test_three_hops_are_one_trace_of_five_spans(
    receiver: Receiver, chain: list[RunningHop]
) -> None:
    headers = {
        "traceparent": f"00-{_TRACE_ID}-{_PARENT_ID}-01",
        "x-asm-prefer-tag": "v2",
        "User-Agent": "test",
    }
    assert request(f"{chain[0].url}mock?q=1", headers).status == 200
    spans = receiver.wait_for(5)
    assert _has_loaded_protobuf(chain[0])
    assert [(resource["service.name"], span.kind) for resource, span in spans] == [
        ("mocka", _SERVER),
        ("mocka", _CLIENT),
        ("mockb", _SERVER),
        ("mockb", _CLIENT),
        ("mockc", _SERVER),
    ]
    assert {span.trace_id.hex() for _, span in spans} == {_TRACE_ID}
    parents = [span.parent_span_id.hex() for _, span in spans]
    assert parents == [_PARENT_ID, *(span.span_id.hex() for _, span in spans[:-1])]
    assert {resource["service.version"] for resource, _ in spans} == {"v1"}

    server, client = spans[0][1], spans[1][1]
    assert (server.name, client.name) == ("GET", "GET")
    assert attributes(server.attributes) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/mock",
        "url.query": "q=1",
        "server.address": chain[0].address,
        "server.port": 8000,
        "client.address": "127.0.0.1",
        "user_agent.original": "test",
        "http.request.header.x-asm-prefer-tag": ["v2"],
        "http.response.status_code": 200,
    }
    assert attributes(client.attributes) == {
        "http.request.method": "GET",
        "server.address": chain[1].address,
        "server.port": 8000,
        "url.full": chain[1].url,
        "http.response.status_code": 200,
    }


def test_a_tree_is_one_trace(receiver: Receiver) -> None:
    with running_shop(fault_delay="0.01", **receiver.settings()) as shop:
        assert request(shop["web"].url).status == 200
        spans = receiver.wait_for(11)
    assert len({span.trace_id for _, span in spans}) == 1
    by_id = {span.span_id: (resource, span) for resource, span in spans}
    calls = set()
    for resource, span in spans:
        if span.kind == _SERVER and span.parent_span_id:
            _, client = by_id[span.parent_span_id]
            caller, server = by_id[client.parent_span_id]
            assert (client.kind, server.kind) == (_CLIENT, _SERVER)
            app = str(resource["service.name"])
            assert attributes(client.attributes)["url.full"] == shop[app].url
            calls.add((caller["service.name"], app))
    assert calls == {
        ("web", "orders"),
        ("web", "users"),
        ("orders", "stock"),
        ("orders", "price"),
        ("price", "users"),
    }


def test_json_names_the_trace_that_the_hop_started(
    receiver: Receiver, chain: list[RunningHop]
) -> None:
    document = json.loads(request(chain[0].url, {"Accept": "application/json"}).body)
    spans = receiver.wait_for(5)
    assert {hop["trace_id"] for hop in document["hops"]} == {spans[0][1].trace_id.hex()}


def test_a_failure_is_an_error_on_both_spans(receiver: Receiver) -> None:
    url = f"http://{new_address()}:8000/"
    with running(upstream_url=url, **receiver.settings()) as hop:
        assert request(hop.url).status == 502
        (_, server), (_, client) = receiver.wait_for(2)
    assert server.status.code == client.status.code == Status.STATUS_CODE_ERROR
    assert attributes(server.attributes)["error.type"] == "unreachable"
    assert attributes(client.attributes)["error.type"] == "unreachable"
    assert client.status.message == "connection refused"


def test_faults_on_demand_are_marked_and_a_delayed_call_stays_in_its_trace(
    receiver: Receiver, chain: list[RunningHop]
) -> None:
    traceparent = f"00-{_TRACE_ID}-{_PARENT_ID}-01"
    # While mocka delays the request, it answers requests of other traces.
    with ThreadPoolExecutor() as clients:
        fault = {"x-mock-fault": "mocka; delay=0.3, mockb; delay=0.1; abort=503"}
        slow = clients.submit(request, chain[0].url, {"traceparent": traceparent, **fault})
        for _ in range(20):
            assert request(chain[0].url).status == 200
        assert slow.result().status == 503
    spans = [pair for pair in receiver.wait_for(103) if pair[1].trace_id.hex() == _TRACE_ID]
    assert [(resource["service.name"], span.kind) for resource, span in spans] == [
        ("mocka", _SERVER),
        ("mocka", _CLIENT),
        ("mockb", _SERVER),
    ]
    parents = [span.parent_span_id.hex() for _, span in spans]
    assert parents == [_PARENT_ID, *(span.span_id.hex() for _, span in spans[:-1])]
    marks = [attributes(span.attributes).get("mockservice.fault") for _, span in spans]
    assert marks == ["delay 0.3 s", None, "delay 0.1 s, abort 503"]
    others = [span for _, span in receiver.spans if span.trace_id.hex() != _TRACE_ID]
    assert len(others) == 100
    assert not any("mockservice.fault" in attributes(span.attributes) for span in others)


def test_all_but_the_trace_context_is_carried_byte_for_byte(receiver: Receiver) -> None:
    with (
        peer(answering(ok(b"", more="Connection: close\r\n"))) as other,
        running_chain(other.url, **receiver.settings()) as hops,
    ):
        carried = {
            "baggage": 'a = "b";x=%20 , c=d,,',
            "b3": "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1",
            "x-request-id": "1",
            "tracestate": "a=1,b=2",
            "traceparent": f"00-{_TRACE_ID}-{_PARENT_ID}-01",
        }
        assert request(hops[0].url, carried).status == 200
        spans = receiver.wait_for(6)
    head = other.requests[0].decode()
    for name in ("baggage", "b3", "x-request-id", "tracestate"):
        assert f"\r\n{name}: {carried[name]}\r\n" in head
    client = spans[-1][1].span_id.hex()
    assert re.findall(r"\r\ntraceparent: (.*)\r\n", head) == [f"00-{_TRACE_ID}-{client}-01"]


@pytest.mark.parametrize(
    ("propagators", "sent", "received"),
    [
        ("b3", {"b3": f"{_TRACE_ID}-{_PARENT_ID}-1"}, r"\r\nb3: {trace}-{span}-1\r\n"),
        (
            "b3multi,baggage",
            {"X-B3-TraceId": _TRACE_ID, "X-B3-SpanId": _PARENT_ID, "X-B3-Sampled": "1"},
            r"\r\nx-b3-traceid: {trace}\r\nx-b3-spanid: {span}\r\nx-b3-sampled: 1\r\n",
        ),
        (
            "tracecontext, b3",
            {"traceparent": f"00-{_TRACE_ID}-{_PARENT_ID}-01"},
            r"\r\ntraceparent: 00-{trace}-{span}-01\r\nb3: {trace}-{span}-1\r\n",
        ),
    ],
)
def test_the_configured_propagators_read_and_write(
    receiver: Receiver, propagators: str, sent: dict[str, str], received: str
) -> None:
    env = receiver.settings(OTEL_PROPAGATORS=propagators)
    with peer(answering(ok(b""))) as other, running(upstream_url=other.url, **env) as hop:
        assert request(hop.url, sent).status == 200
        (_, server), (_, client) = receiver.wait_for(2)
    assert server.trace_id.hex() == _TRACE_ID
    assert server.parent_span_id.hex() == _PARENT_ID
    expected = received.format(trace=_TRACE_ID, span=client.span_id.hex())
    assert expected.replace(r"\r\n", "\r\n") in other.requests[0].decode()
    for name in sent:
        assert other.requests[0].lower().count(f"\r\n{name}:".lower().encode()) == 1


def test_a_trace_that_is_not_sampled_stays_so(receiver: Receiver, scripted: Scripted) -> None:
    request(scripted.hop.url, {"traceparent": f"00-{_TRACE_ID}-{_PARENT_ID}-00"})
    head = scripted.upstream.requests[-1].decode()
    assert re.search(rf"\r\ntraceparent: 00-{_TRACE_ID}-[0-9a-f]{{16}}-00\r\n", head)
    # Spans are exported in order: behind those of the next request, none is left out.
    request(scripted.hop.url)
    spans = receiver.wait_for(2)
    assert len(spans) == 2
    assert not any(span.trace_id.hex() == _TRACE_ID for _, span in spans)


def test_the_environment_chooses_the_sampler(receiver: Receiver) -> None:
    with running(**receiver.settings(OTEL_TRACES_SAMPLER="always_off")) as hop:
        assert request(hop.url).status == 200
        assert hop.stop() == 0
    assert receiver.spans == []


def test_the_environment_may_name_the_service(receiver: Receiver) -> None:
    env = receiver.settings(
        OTEL_SERVICE_NAME="renamed",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=demo",
    )
    with running(**env) as hop:
        request(hop.url)
        [(resource, _)] = receiver.wait_for(1)
    assert resource["service.name"] == "renamed"
    assert resource["service.version"] == "v1"
    assert resource["deployment.environment.name"] == "demo"


def test_spans_are_flushed_at_the_end(receiver: Receiver) -> None:
    with running_command(**receiver.settings(OTEL_BSP_SCHEDULE_DELAY="600000")) as hop:
        for _ in range(10):
            request(hop.url)
        assert receiver.spans == []
        assert hop.stop() == 0
        assert hop.errors() == ""
    assert len(receiver.spans) == 10


@pytest.mark.parametrize(("length", "left"), [(4000, 4000), (8000, 128)])
def test_a_span_beyond_16_kib_has_its_texts_cut(
    receiver: Receiver, chain: list[RunningHop], length: int, left: int
) -> None:
    headers = dict.fromkeys(("x-lane", "x-env", "x-version"), length * "x")
    assert request(chain[-1].url, headers).status == 200
    [(_, span)] = receiver.wait_for(1)
    seen = attributes(span.attributes)
    assert [seen[f"http.request.header.{name}"] for name in headers] == 3 * [[left * "x"]]


def test_without_an_endpoint_trace_headers_pass_untouched_and_no_sdk_is_loaded() -> None:
    headers = {"traceparent": "00-whatever", "tracestate": "A=B", "b3": "0"}
    with peer(answering(ok(b""))) as other, running_command(upstream_url=other.url) as hop:
        assert request(hop.url, headers).status == 200
        assert not _has_loaded_protobuf(hop)
    for name, value in headers.items():
        assert f"\r\n{name}: {value}\r\n" in other.requests[0].decode()


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_tracing_can_be_switched_off(receiver: Receiver, off: dict[str, str]) -> None:
    with running(**receiver.settings(**off)) as hop:
        assert request(hop.url).status == 200
        assert hop.stop() == 0
    assert receiver.spans == []


@contextmanager
def _refuse() -> Iterator[Peer]:
    address = new_address()
    yield Peer(address, f"http://{address}:8000/")


@pytest.mark.parametrize(
    "collector",
    [
        _refuse,
        lambda: peer(hang),
        lambda: peer(answering(b"garbage")),
        lambda: peer(answering(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")),
    ],
    ids=["refuses", "hangs", "answers garbage", "is unavailable"],
)
def test_a_collector_that_fails_affects_no_request_and_not_the_exit(
    collector: Callable[[], AbstractContextManager[Peer]],
) -> None:
    with collector() as server:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": server.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with running(**env) as hop:
            for _ in range(50):
                assert request(hop.url).status == 200
            assert hop.stop(timeout=15) == 0
            assert "Traceback" not in hop.errors()
