"""Faults on demand: by settings and by header, at the right hop, visible in the chain."""

import asyncio
import json
import re
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mockservice.chain import Chain, Failure
from mockservice.serve import injector
from mockservice.serve.faults import MAX_FAULTS, MAX_HEADER, Delay, Fault, read_header
from mockservice.serve.injector import draw
from mockservice.serve.settings import Settings
from mockservice.serve.upstream import Outcome, UpstreamError
from tests.chance import is_plausible
from tests.running import (
    RunningHop,
    answering,
    exchange,
    ok,
    peer,
    request,
    running,
    running_chain,
    wait_until,
)

pytestmark = pytest.mark.slow

_HEADER = "x-mock-fault"
_JSON = {"Accept": "application/json"}
_FORM = "must be a hop, then delay=, abort= or both, and percent=, each once, between ';'"


@pytest.mark.parametrize(
    ("values", "faults"),
    [
        (["mockb; abort=503; percent=50"], [Fault("mockb", abort=503, percent=50)]),
        (["mockb;abort=503"], [Fault("mockb", abort=503)]),
        (["  mockb ;\tpercent=0.5 ; delay=0.5 "], [Fault("mockb", Delay(0.5, 0.5), percent=0.5)]),
        (["mockb; delay=0.2-0.8; abort=500"], [Fault("mockb", Delay(0.2, 0.8), 500)]),
        (
            ["mocka; abort=400, mockb; abort=401", "mocka; abort=402"],
            [Fault("mocka", abort=400), Fault("mockb", abort=401), Fault("mocka", abort=402)],
        ),
        (["größe b; abort=503"], [Fault("größe b", abort=503)]),
        # A list may have empty elements (RFC 9110 section 5.6.1.2).
        ([""], []),
        ([", mockb; abort=503,,"], [Fault("mockb", abort=503)]),
    ],
)
def test_a_header_asks_for_faults(values: list[str], faults: list[Fault]) -> None:
    assert read_header(value.encode() for value in values) == faults


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("mockb", f"'mockb': {_FORM}"),
        ("mockb; percent=50", f"'mockb; percent=50': {_FORM}"),
        ("; abort=503", f"'; abort=503': {_FORM}"),
        ("abort=503", f"'abort=503': {_FORM}"),
        ("mockb; abort=503; abort=504", f"'mockb; abort=503; abort=504': {_FORM}"),
        ("mockb; abort=503;", f"'mockb; abort=503;': {_FORM}"),
        ("mockb; Abort=503", f"'mockb; Abort=503': {_FORM}"),
        ("mockb; fail=503", f"'mockb; fail=503': {_FORM}"),
        ("a; abort=503, mockb", f"'mockb': {_FORM}"),
        (
            "mockb; abort=200",
            "'mockb; abort=200': abort must be a status from 400 to 599",
        ),
        (
            "mockb; abort=503; percent=101",
            "'mockb; abort=503; percent=101': percent must be a number from 0 to 100",
        ),
        ("mockb; delay=301", "'mockb; delay=301': delay must be seconds, more than 0 and at "),
        ("mockb; delay=5-1", "'mockb; delay=5-1': delay must be seconds, more than 0 and at "),
        ("mockb; delay", "'mockb; delay': delay must be seconds, more than 0 and at most 300"),
        (", ".join(["a;abort=400"] * (MAX_FAULTS + 1)), f"must be at most {MAX_FAULTS} faults"),
        ("a" * (MAX_HEADER + 1), f"must be at most {MAX_HEADER} bytes"),
    ],
)
def test_a_header_that_is_not_of_the_form_is_named_in_one_line(value: str, reason: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(f"{_HEADER}: {reason}")) as error:
        read_header([value.encode()])
    assert len(str(error.value).splitlines()) == 1


@given(
    st.lists(st.binary(max_size=80) | st.text("ab;,= .-0159delayport", max_size=40).map(str.encode))
)
def test_whatever_the_header_it_is_read_or_refused_in_one_printable_line(
    values: list[bytes],
) -> None:
    try:
        read_header(values)
    except ValueError as error:
        assert str(error).startswith(_HEADER)
        assert str(error).isprintable()


def test_if_several_faults_apply_the_first_delay_and_the_first_abort_win() -> None:
    never = Fault("a", Delay(9, 9), 400, percent=0)
    faults = [never, Fault("a", Delay(1, 1)), Fault("a", Delay(2, 2), 500), Fault("a", abort=501)]
    assert draw(faults) == (1, 500)
    assert draw([]) == draw([never]) == (None, None)


def test_a_delay_is_drawn_evenly_from_its_spread() -> None:
    drawn = [draw([Fault("a", Delay(0.2, 0.8))])[0] or 0.0 for _ in range(2000)]
    assert 0.2 <= min(drawn) <= max(drawn) <= 0.8
    assert is_plausible(sum(delay < 0.35 for delay in drawn), 2000, 0.25)


def test_faults_are_off_by_default_and_their_header_is_not_carried() -> None:
    with (
        peer(answering(ok(b""))) as other,
        running(upstream_url=other.url, lane_headers="x-mock-*") as hop,
    ):
        answer = request(hop.url, {_HEADER: "mocka; abort=503; delay=9", "x-mock-other": "1"})
    assert (answer.status, answer.text) == (200, hop.line)
    assert b"x-mock-other" in other.requests[0]
    assert b"x-mock-fault" not in other.requests[0]


@pytest.mark.parametrize("app", ["mocka", "mockb", "mockc"])
def test_an_abort_replaces_the_upstream_call_and_is_named(
    faulty: list[RunningHop], app: str
) -> None:
    headers = {_HEADER: f"{app}; abort=418"}
    passed = faulty[: ("mocka", "mockb", "mockc").index(app) + 1]
    answer = request(faulty[0].url, headers)
    assert answer.status == 418
    assert answer.text == "".join(hop.line for hop in passed) + f"-> {app}(injected: abort 418)"
    answer = request(faulty[0].url, {**headers, **_JSON})
    document = json.loads(answer.body)
    assert document["error"] == {"hop": app, "kind": "injected", "reason": "abort 418"}
    assert [(hop["ip"], hop["status"]) for hop in document["hops"]] == [
        (hop.address, 418) for hop in passed
    ]
    assert answer.status == 418


@pytest.fixture(scope="module")
def faulty() -> Iterator[list[RunningHop]]:
    """Three hops with fault_header=on."""
    with running_chain(fault_header="on") as hops:
        yield hops


def test_an_abort_does_not_call_the_upstream() -> None:
    with (
        peer(answering(ok(b""))) as other,
        running(upstream_url=other.url, fault_abort="500") as hop,
    ):
        answer = request(hop.url)
        assert (answer.status, answer.text) == (500, f"{hop.line}-> mocka(injected: abort 500)")
    assert other.requests == []


@pytest.mark.parametrize("app", ["mocka", "mockb", "mockc"])
def test_a_delay_counts_as_the_hops_own_time_and_is_named(
    faulty: list[RunningHop], app: str
) -> None:
    headers = {_HEADER: f"{app}; delay=0.2"}
    expected = ["delay 0.2 s" if name == app else None for name in ("mocka", "mockb", "mockc")]
    text = request(faulty[0].url, headers)
    assert text.status == 200
    slow = next(hop.line for hop, fault in zip(faulty, expected, strict=True) if fault)
    whole = "".join(hop.line for hop in faulty)
    assert text.text == whole.replace(slow, f"{slow[:-1]}, fault: delay 0.2 s)")
    assert [hop.fault for hop in Chain.from_text(text.text).hops] == expected
    document = json.loads(request(faulty[0].url, {**headers, **_JSON}).body)
    assert [hop["fault"] for hop in document["hops"]] == expected
    durations = [hop["duration_ms"] for hop in document["hops"]] + [0]
    own = [whole - rest for whole, rest in pairwise(durations)]
    # The loop's clock is one of milliseconds.
    assert own[expected.index("delay 0.2 s")] > 198


def test_a_delay_does_not_count_against_the_time_of_the_upstream() -> None:
    with (
        running("mockb") as last,
        running(upstream_url=last.url, upstream_timeout="0.3", fault_delay="0.4") as hop,
    ):
        answer = request(hop.url)
    assert answer.status == 200
    assert answer.text == f"{hop.line[:-1]}, fault: delay 0.4 s){last.line}"


def test_a_hop_that_delays_too_long_for_the_one_before_it_times_out_there() -> None:
    with (
        running("mockb", fault_delay="5") as last,
        running(upstream_url=last.url, upstream_timeout="0.2") as hop,
    ):
        answer = request(hop.url)
    assert answer.status == 504
    assert "timeout: no answer within 0.2 s" in answer.text


def test_a_delay_comes_before_an_abort_of_the_same_request() -> None:
    with running(fault_delay="0.01", fault_abort="503") as hop:
        answer = request(hop.url)
    line = f"{hop.line[:-1]}, fault: delay 0.01 s)"
    assert (answer.status, answer.text) == (503, f"{line}-> mocka(injected: abort 503)")


def test_the_header_comes_before_the_environment() -> None:
    with running(fault_header="on", fault_abort="500") as hop:
        assert request(hop.url, {_HEADER: "mocka; abort=429"}).status == 429
        assert request(hop.url, {_HEADER: "mockb; abort=429"}).status == 500


def test_the_environment_has_its_share_of_requests_fail() -> None:
    with running(fault_abort="503", fault_abort_percent="30", fault_delay="0.001") as hop:
        seen = Counter(request(hop.url).status for _ in range(400))
    assert set(seen) == {200, 503}
    assert is_plausible(seen[503], 400, 0.3), seen


@pytest.mark.parametrize(("percent", "status"), [("0", 200), ("100", 503)])
def test_0_and_100_percent_are_exact(faulty: list[RunningHop], percent: str, status: int) -> None:
    headers = {_HEADER: f"mockb; abort=503; percent={percent}"}
    assert {request(faulty[0].url, headers).status for _ in range(50)} == {status}


def test_a_header_that_is_not_of_the_form_is_refused_by_the_first_hop_that_takes_it(
    faulty: list[RunningHop],
) -> None:
    answer = request(faulty[0].url, {_HEADER: "mockc; abort=42"})
    refused = f"rejected: {_HEADER}: 'mockc; abort=42': abort must be a status from 400 to 599"
    assert (answer.status, answer.text) == (400, f"{faulty[0].line}-> mocka({refused})")


def test_the_header_reaches_a_hop_through_those_that_take_it() -> None:
    with (
        running("mockc", fault_header="on") as last,
        running("mockb", upstream_url=last.url) as deaf,
        running("mocka", upstream_url=deaf.url, fault_header="on") as first,
    ):
        headers = {_HEADER: "mockc; abort=503"}
        assert request(first.url, headers).status == 200
        assert request(last.url, headers).status == 503


def test_the_header_goes_on_byte_for_byte() -> None:
    fields = b"X-Mock-Fault: mockz; abort=503 ,\r\nx-mock-fault:mocky;delay=1;percent=0\r\n"
    with (
        peer(answering(ok(b"", more="Connection: close\r\n"))) as other,
        running_chain(other.url, fault_header="on") as hops,
    ):
        head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        answer = exchange(hops[0].address, head + fields + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
    assert (
        b"X-Mock-Fault: mockz; abort=503 ,\r\nx-mock-fault: mocky;delay=1;percent=0"
        in (other.requests[0])
    )


def test_a_delayed_request_is_answered_while_its_hop_drains() -> None:
    with (
        running(fault_delay="2") as hop,
        socket.create_connection((hop.address, 8000), 20) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(hop.is_ready)
        hop.process.send_signal(signal.SIGTERM)
        wait_until(hop.is_draining)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.endswith(b", fault: delay 2 s)")
        assert hop.process.wait(20) == 0


def test_reserved_paths_have_no_faults() -> None:
    with running(fault_abort="503") as hop:
        assert request(f"{hop.url}healthz").status == 200
        assert request(f"{hop.url}readyz").status == 200


async def test_no_more_requests_are_delayed_at_once_than_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(injector, "MAX_DELAYED", 2)
    slow = Fault("mocka", delay=Delay(0.05, 0.05))
    settings = Settings("mocka", "v1", faults=(slow,))
    ended: list[Outcome | None] = []
    calls = injector.Injector(settings, None, lambda _: None)
    for _ in range(3):
        calls.get([], 5.0, lambda outcome, _=None, /: ended.append(outcome))
    reason = "more than 2 requests are delayed"
    assert ended == [UpstreamError(503, Failure("mocka", "rejected", reason))]
    async with asyncio.timeout(10):
        while len(ended) < 3:
            await asyncio.sleep(0.01)
    calls.get([], 5.0, lambda outcome, _=None, /: ended.append(outcome))
    assert ended[1:] == [None, None]
