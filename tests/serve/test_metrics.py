"""`/metrics`, read with the parsers of prometheus-client."""

import math
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as open_metrics
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from mockservice.chain import FAILURE_KINDS
from mockservice.serve.faults import FAULT_KINDS
from mockservice.serve.telemetry.metrics import BOUNDS
from tests.running import (
    RunningHop,
    Scripted,
    answering,
    exchange,
    new_address,
    ok,
    peer,
    request,
    running,
    running_chain,
    running_command,
    running_request,
    running_scripted,
    wait_until,
)
from tests.serve.receiver import receiving

pytestmark = pytest.mark.slow

_OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
_TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
_SPAN_ID = "b7ad6b7169203331"
_SAMPLED = {"traceparent": f"00-{_TRACE_ID}-{_SPAN_ID}-01"}
_SERVER = "http_server_request_duration_seconds"
_CLIENT = "http_client_request_duration_seconds"


def read_open_metrics(text: str) -> Iterable[Metric]:
    families: Iterable[Metric] = open_metrics.text_string_to_metric_families(  # type: ignore[no-untyped-call]
        text
    )
    return families


def _families(hop: RunningHop) -> dict[str, Metric]:
    return {family.name: family for family in read_prometheus(request(f"{hop.url}metrics").text)}


def _value(hop: RunningHop, name: str, **labels: str) -> float:
    """The sum of the samples of this name with at least these labels."""
    return sum(
        sample.value
        for family in read_prometheus(request(f"{hop.url}metrics").text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def _outcomes(hop: RunningHop, name: str) -> dict[tuple[str, str], float]:
    """The counts by status and error type."""
    return {
        (sample.labels["http_response_status_code"], sample.labels["error_type"]): sample.value
        for sample in _families(hop)[name].samples
        if sample.name == f"{name}_count"
    }


def _exemplars(hop: RunningHop) -> Iterator[dict[str, str]]:
    for family in read_open_metrics(request(f"{hop.url}metrics", _OPEN_METRICS).text):
        for sample in family.samples:
            if sample.exemplar:
                assert sample.name == f"{_SERVER}_bucket"
                assert 0 < sample.exemplar.value <= float(sample.labels["le"])
                assert abs(float(sample.exemplar.timestamp or 0) - time.time()) < 60
                yield sample.exemplar.labels


@pytest.fixture(scope="module")
def last() -> Iterator[RunningHop]:
    with running() as hop:
        yield hop


def test_a_new_hop_has_all_families_and_no_series() -> None:
    with running(app='mo"ck\\a') as hop:
        families = _families(hop)
        assert set(families) == {
            _SERVER,
            "http_server_active_requests",
            _CLIENT,
            "http_client_open_connections",
            "mockservice_injected_faults",
            "process_cpu_seconds",
            "process_max_fds",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_virtual_memory_bytes",
        }
        assert families[_SERVER].samples == families[_CLIENT].samples == []
        [active] = families["http_server_active_requests"].samples
        assert (active.labels, active.value) == ({"app": 'mo"ck\\a', "version": "v1"}, 0)


def test_requests_and_calls_are_histograms_by_status() -> None:
    with running_chain() as hops:
        for _ in range(5):
            assert request(hops[0].url).status == 200
        for name, hop in ((_SERVER, hops[0]), (_CLIENT, hops[0]), (_SERVER, hops[2])):
            family = _families(hop)[name]
            assert family.type == "histogram"
            buckets = [sample for sample in family.samples if sample.name == f"{name}_bucket"]
            assert [float(sample.labels["le"]) for sample in buckets] == [*BOUNDS, math.inf]
            values = [sample.value for sample in buckets]
            assert values == sorted(values)
            assert values[-1] == 5
            for sample in family.samples:
                labels = {**sample.labels}
                labels.pop("le", None)
                if name == _CLIENT:
                    peer = labels.pop("server_address"), labels.pop("server_port")
                    assert peer == (hops[1].address, "8000")
                assert labels == {
                    "app": hop.line.split()[1].partition("(")[0],
                    "version": "v1",
                    "http_response_status_code": "200",
                    "error_type": "",
                }
            assert 0 < _value(hop, f"{name}_sum") < 60
        assert _outcomes(hops[2], _CLIENT) == {}


def test_failures_are_counted_by_their_reason() -> None:
    refusing = f"http://{new_address()}:8000/"
    with running(upstream_url=refusing) as hop, running(upstream_url=hop.url) as before:
        assert request(before.url).status == 502
        assert _outcomes(hop, _CLIENT) == {("", "unreachable"): 1}
        assert _outcomes(hop, _SERVER) == {("502", "unreachable"): 1}
        # A hop sees the failure of another one as a status.
        assert _outcomes(before, _CLIENT) == {("502", "502"): 1}
        assert _outcomes(before, _SERVER) == {("502", "502"): 1}


@pytest.mark.parametrize(
    ("answer", "timeout", "kind", "status"),
    [(b"garbage", "5", "invalid", "502"), (b"", "0.2", "timeout", "504")],
)
def test_reasons_of_an_upstream_that_answers_badly(
    answer: bytes, timeout: str, kind: str, status: str
) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(answer)
        if not answer:
            connection.recv(1)

    with peer(serve) as other, running(upstream_url=other.url, upstream_timeout=timeout) as hop:
        assert str(request(hop.url).status) == status
        assert _outcomes(hop, _CLIENT) == {("", kind): 1}
        assert _outcomes(hop, _SERVER) == {(status, kind): 1}


def test_a_loop_is_counted() -> None:
    address = new_address()
    with running(host=address, upstream_url=f"http://{address}:8000/") as hop:
        assert request(hop.url).status == 508
        assert _outcomes(hop, _SERVER) == {("508", "loop"): 1, ("508", "508"): 1}


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    with running_scripted() as scripted:
        yield scripted


@pytest.mark.parametrize(
    ("status", "by_server", "by_client"),
    [
        (299, ("200", ""), ("_OTHER", "")),
        (399, ("_OTHER", ""), ("_OTHER", "")),
        (498, ("_OTHER", ""), ("_OTHER", "_OTHER")),
        # What a hop counts for clients that have left.
        (499, ("499", ""), ("499", "499")),
        (599, ("_OTHER", "_OTHER"), ("_OTHER", "_OTHER")),
    ],
)
def test_a_status_that_is_not_registered_is_an_error_like_others_of_its_class(
    scripted: Scripted, status: int, by_server: tuple[str, str], by_client: tuple[str, str]
) -> None:
    scripted.serve = answering(f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n".encode())
    before = [Counter(_outcomes(scripted.hop, name)) for name in (_SERVER, _CLIENT)]
    request(scripted.hop.url)
    after = [Counter(_outcomes(scripted.hop, name)) for name in (_SERVER, _CLIENT)]
    assert [now - then for now, then in zip(after, before, strict=True)] == [
        {by_server: 1},
        {by_client: 1},
    ]


def test_faults_on_demand_are_told_from_failures() -> None:
    with running(fault_abort="503", fault_abort_percent="100", fault_delay="0.001") as hop:
        for _ in range(3):
            assert request(hop.url).status == 503
        assert _outcomes(hop, _SERVER) == {("503", "injected"): 3}
        assert _outcomes(hop, _CLIENT) == {}
        for kind in ("abort", "delay"):
            assert _value(hop, "mockservice_injected_faults_total", fault=kind) == 3


def test_bad_requests_are_counted() -> None:
    with running() as hop:
        exchange(hop.address, b"nonsense\r\n\r\n")
        exchange(hop.address, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n")
        exchange(hop.address, b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert _outcomes(hop, _SERVER) == {
            ("400", "rejected"): 1,
            ("413", "rejected"): 1,
            ("501", "rejected"): 1,
        }
        assert _value(hop, "http_server_active_requests") == 0


def test_reserved_paths_do_not_count(last: RunningHop) -> None:
    for path in ("healthz", "readyz", "metrics", "metrics?x"):
        request(f"{last.url}{path}")
    assert _outcomes(last, _SERVER) == {}


def test_requests_and_calls_in_flight_are_shown() -> None:
    with running_request() as (hop, finish):
        assert _value(hop, "http_server_active_requests") == 1
        state = "http_client_open_connections"
        assert _value(hop, state, http_connection_state="active") == 1
        assert _value(hop, state, http_connection_state="idle") == 0
        finish()
        assert _value(hop, "http_server_active_requests") == 0
        assert _value(hop, state, http_connection_state="active") == 0


def test_a_kept_connection_is_idle_until_the_upstream_closes_it() -> None:
    state = "http_client_open_connections"
    release = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(ok(b""))
        release.wait(20)

    with peer(serve) as other, running(upstream_url=other.url) as hop:
        assert request(hop.url).status == 200
        assert _value(hop, state, http_connection_state="idle") == 1
        assert _value(hop, state, http_connection_state="active") == 0
        release.set()
        wait_until(lambda: _value(hop, state) == 0)


def test_a_failed_tls_handshake_leaves_no_open_connection() -> None:
    with (
        peer(answering(b"HTTP/1.1 400 no TLS\r\n\r\n"), read=False) as other,
        running(upstream_url=other.url.replace("http:", "https:")) as hop,
    ):
        assert request(hop.url).status == 502
        assert _outcomes(hop, _CLIENT) == {("", "unreachable"): 1}
        assert _value(hop, "http_client_open_connections") == 0


def test_a_client_that_goes_away_is_no_longer_active() -> None:
    with running_request() as (hop, finish):
        with socket.create_connection((hop.address, 8000)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_until(lambda: _value(hop, "http_server_active_requests") == 2)
        finish()
        wait_until(lambda: _value(hop, "http_server_active_requests") == 0)


def test_process_figures_are_those_of_the_hop(last: RunningHop) -> None:
    assert 1e6 < _value(last, "process_resident_memory_bytes") < 1e9
    assert 0 < _value(last, "process_cpu_seconds_total") < 600
    assert abs(_value(last, "process_start_time_seconds") - time.time()) < 600
    descriptors = len([*(last.proc / "fd").iterdir()])
    # While it answers, it also has the connection and a folder open.
    assert descriptors < _value(last, "process_open_fds") <= descriptors + 2


@pytest.mark.parametrize(
    ("accept", "is_open_metrics"),
    [
        (None, False),
        ("*/*", False),
        ("text/plain;version=0.0.4", False),
        ("application/openmetrics-text", True),
        ("APPLICATION/OpenMetrics-Text; version=1.0.0; q=0.5", True),
        # What Prometheus 2 and 3 ask for.
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
            "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            True,
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;"
            "escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            True,
        ),
        ("application/openmetrics-text;q=0", False),
        ("text/plain, application/openmetrics-text;q=0.1", False),
        ("application/openmetrics-text;q=x;version=\x00\x7f", False),
        ("application/openmetrics-text; version=1.0.0\r\n evil", None),
        (";,;q=;=", False),
    ],
)
def test_the_format_is_negotiated(
    last: RunningHop, accept: str | None, is_open_metrics: bool | None
) -> None:
    field = b"" if accept is None else f"Accept: {accept}\r\n".encode("latin-1")
    sent = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%b\r\n" % field
    head, _, body = exchange(last.address, sent).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        # Not a valid header.
        assert head.startswith(b"HTTP/1.1 400 ")
        assert "\x00" in (accept or "") or is_open_metrics is None
        return
    read = read_open_metrics if is_open_metrics else read_prometheus
    assert _CLIENT in {family.name for family in read(body.decode())}
    assert body.endswith(b"# EOF\n") == is_open_metrics
    [content_type] = re.findall(rb"Content-Type: (.*)\r\n", head)
    assert content_type == (
        b"application/openmetrics-text; version=1.0.0; charset=utf-8"
        if is_open_metrics
        else b"text/plain; version=0.0.4; charset=utf-8"
    )


def test_head_has_no_body(last: RunningHop) -> None:
    sent = b"HEAD /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = exchange(last.address, sent)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")
    [length] = re.findall(rb"Content-Length: (\d+)", answer)
    assert int(length) > 1000


def test_a_sampled_trace_of_the_mesh_is_an_exemplar() -> None:
    with running() as hop:
        for traceparent in (
            None,
            f"00-{_TRACE_ID}-{_SPAN_ID}-00",
            f"00-{_TRACE_ID}-{_SPAN_ID}-0",
            "",
        ):
            request(hop.url, {} if traceparent is None else {"traceparent": traceparent})
            assert [*_exemplars(hop)] == []
        request(hop.url, _SAMPLED)
        assert [*_exemplars(hop)] == [{"trace_id": _TRACE_ID, "span_id": _SPAN_ID}]
        # The Prometheus text format has no exemplars.
        assert _TRACE_ID not in request(f"{hop.url}metrics").text


@pytest.mark.parametrize(
    "traceparent",
    [
        f"ff-{_TRACE_ID}-{_SPAN_ID}-01",
        f"00-{'0' * 32}-{_SPAN_ID}-01",
        f"00-{_TRACE_ID}-{'0' * 16}-01",
        f"00-{_TRACE_ID.upper()}-{_SPAN_ID}-01",
        f'00-"}} 1\n{_TRACE_ID[5:]}-{_SPAN_ID}-01'.replace("\n", " "),
        "1",
    ],
)
def test_an_invalid_traceparent_is_no_exemplar(traceparent: str) -> None:
    with running() as hop:
        request(hop.url, {"traceparent": traceparent})
        assert [*_exemplars(hop)] == []


def test_with_tracing_the_exemplar_is_the_hops_own_span() -> None:
    with receiving() as receiver, running(**receiver.settings()) as hop:
        request(hop.url, _SAMPLED)
        [(_, span)] = receiver.wait_for(1)
        expected = {"trace_id": _TRACE_ID, "span_id": span.span_id.hex()}
        assert [*_exemplars(hop)] == [expected]
        assert expected["span_id"] != _SPAN_ID


def test_metrics_are_sums_over_all_workers() -> None:
    with running(workers="3") as hop:
        for _ in range(60):
            assert request(hop.url).status == 200
        for _ in range(10):
            assert _outcomes(hop, _SERVER) == {("200", ""): 60}
        workers = hop.workers()
        resident = sum(
            int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])
            for pid in workers
        )
        assert len(workers) == 3
        shown = _value(hop, "process_resident_memory_bytes") / 1024
        # Meanwhile, other workers import prometheus-client.
        assert 0.7 * resident < shown < 1.3 * resident
        assert hop.stop() == 0
        assert hop.errors() == ""


def test_a_request_in_one_worker_shows_in_all() -> None:
    with running_request(workers="4") as (hop, finish):

        def is_seen() -> bool:
            return all(_value(hop, "http_server_active_requests") == 1 for _ in range(20))

        wait_until(is_seen)
        finish()


def test_metrics_are_there_while_draining() -> None:
    with running_request() as (hop, finish):
        hop.process.terminate()
        wait_until(hop.is_draining)
        assert _value(hop, "http_server_active_requests") == 1
        finish()
        assert hop.process.wait(20) == 0


def test_a_hop_imports_the_exposition_with_the_first_scrape() -> None:
    with running_command() as hop:
        request(hop.url)
        assert _threads(hop) == 1
        request(f"{hop.url}metrics")
        # Another thread writes the text.
        assert _threads(hop) == 2


def _threads(hop: RunningHop) -> int:
    """The number of Python's threads; libuv has some of its own."""
    return len([name for name in hop.threads() if not name.startswith("libuv")])


def test_requests_are_answered_while_many_scrape() -> None:
    with running() as hop:
        stop = threading.Event()

        def scrape() -> None:
            while not stop.is_set():
                assert request(f"{hop.url}metrics").status == 200

        scrapers = [threading.Thread(target=scrape) for _ in range(8)]
        for scraper in scrapers:
            scraper.start()
        for _ in range(100):
            assert request(hop.url).text == hop.line
        stop.set()
        for scraper in scrapers:
            scraper.join()
        assert _outcomes(hop, _SERVER) == {("200", ""): 100}


def _labels(families: Iterable[Metric]) -> set[tuple[str, str]]:
    return {
        (name, value)
        for family in families
        for sample in family.samples
        for name, value in sample.labels.items()
        if name != "le"
    }


def test_clients_and_upstreams_cannot_create_labels() -> None:
    chance = random.Random(7)
    methods = ["GET", "POST", "PURGE", "M-SEARCH", "QUERY", "BREW", "get", "\x00", "DELETE"]

    def serve(connection: socket.socket) -> None:
        status = chance.choice([chance.randrange(100, 1000), chance.randrange(1000)])
        reason = chance.choice(["", "OK", "x" * 100, 'a="b"} 1'])
        head = f"HTTP/1.1 {status:03} {reason}\r\nContent-Length: 0\r\nX-{status}: y\r\n"
        connection.sendall(f"{head}Connection: close\r\n\r\n".encode())

    with peer(serve) as other, running(upstream_url=other.url, upstream_timeout="0.5") as hop:
        for number in range(300):
            noise = "".join(chr(chance.randrange(1, 256)) for _ in range(chance.randrange(40)))
            lines = [
                f"{chance.choice(methods)} /{number}{noise!a} HTTP/1.{chance.randrange(3)}",
                f"Host: {number}.example",
                "Connection: close",
                f"x-{number}: {noise}",
                f"traceparent: {noise}1",
                f'x-lane: "}} {number}',
                f"Accept: {noise}, application/json",
            ]
            exchange(hop.address, ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        families = _families(hop)
        exchanged = sum(_outcomes(hop, _SERVER).values())
        page = request(f"{hop.url}metrics", _OPEN_METRICS).text
    assert exchanged == 300
    assert {family.name for family in read_open_metrics(page)} == set(families)
    allowed = {"", "_OTHER", *FAILURE_KINDS}
    for name, value in _labels(families.values()):
        match name:
            case "app" | "version":
                assert value in ("mocka", "v1")
            case "server_address" | "server_port":
                assert value in other.url
            case "http_connection_state":
                assert value in ("active", "idle")
            case "http_response_status_code" | "error_type":
                assert value in allowed or re.fullmatch(r"[1-5]\d\d", value)
            case "fault":
                assert value in FAULT_KINDS
            case _:
                raise AssertionError(name)
    # At most the registered statuses, the failures, and one value for other statuses.
    assert len(_outcomes_of(families[_CLIENT])) < 80
    assert ("_OTHER", "_OTHER") in _outcomes_of(families[_CLIENT])


def _outcomes_of(family: Metric) -> set[tuple[str, str]]:
    return {
        (sample.labels["http_response_status_code"], sample.labels["error_type"])
        for sample in family.samples
    }
