"""`mockservice probe` as people run it: its tables, its verdict and its exit code."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from email.message import Message
from http.client import HTTPConnection
from io import StringIO
from typing import Any

import pytest

from mockservice.chain import Chain, Failure
from mockservice.cli import main
from tests.probe.gateway import Answer, chain, gateway, hops, text
from tests.running import new_address, running, running_chain, wait_until

pytestmark = pytest.mark.slow

_COMMAND = [sys.executable, "-m", "mockservice", "probe"]


def _probe(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_COMMAND, url, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def _probe_here(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As `_probe`, without the cost of a process."""
    command = ["probe", url, *arguments]
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as errors:
        code = main(command)
    return subprocess.CompletedProcess(command, code, out.getvalue(), errors.getvalue())


def _findings(url: str, *arguments: str, ends_with: int) -> Any:
    done = _probe_here(url, *arguments, "--json")
    assert (done.returncode, done.stderr) == (ends_with, "")
    return json.loads(done.stdout)


def _verdicts(findings: Any) -> dict[str, bool | None]:
    return {verdict["name"]: verdict["holds"] for verdict in findings["verdicts"]}


def test_lanes_that_hold_end_with_0_and_a_table() -> None:
    with gateway(lambda number, _: chain("v1 v1 v1" if number % 2 else "v2 v2 v2")) as asked:
        done = _probe(asked.url, "--expect", "v1=1,v2=1")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    for version in ("v1", "v2"):
        (row,) = (line for line in lines if line.startswith(f"mocka({version}) -> mockb"))
        assert row.split()[5:8] == [version, "50", "50.0%"]
    verdicts = {tuple(line.split()[:2]) for line in lines}
    assert verdicts >= {(name, "holds") for name in ("isolation", "propagation", "split", "health")}


def test_a_leak_ends_with_1_and_names_the_hop_that_left() -> None:
    with gateway(lambda number, _: chain("v2 v1 v2" if number == 7 else "v2 v2 v2")) as asked:
        done = _probe(asked.url, "--strict")
    assert done.returncode == 1
    assert "mockb(v1) left lane v2: mocka(v2) -> mockb(v1) -> mockc(v2) (1 request)" in done.stdout


def test_a_permissive_lane_may_use_the_baseline() -> None:
    lanes = ("v1 v1 v1", "v2 v1 v2", "v1 v3 v1")

    def answer(number: int, _: Message) -> Answer:
        return chain(lanes[number % 3], lane=f"s{number % 3}")

    with gateway(answer) as asked:
        findings = _findings(
            asked.url, "-n", "99", "--baseline", "v1", "--expect", "v1=1,v2=1,v3=1", ends_with=0
        )
    assert findings["lanes"] == {"v1": 33, "v2": 33, "v3": 33}
    assert findings["split"]["p"] == 1


def test_a_split_that_is_off_ends_with_1() -> None:
    with gateway(lambda number, _: chain("v1 v1" if number % 10 < 7 else "v2 v2")) as asked:
        findings = _findings(asked.url, "--expect", "v1=50,v2=50", ends_with=1)
    holds = {"isolation": True, "propagation": True, "split": False, "health": True}
    assert _verdicts(findings) == holds
    assert findings["split"]["p"] == pytest.approx(7.85e-05, rel=1e-3)
    assert findings["split"]["level"] < 0.05


def test_failures_are_counted_by_status_and_hop() -> None:
    timeout = Failure("mockc", "timeout", "no answer within 5 s")

    def answer(number: int, _: Message) -> Answer:
        return chain("v1 v1", timeout) if number % 4 == 0 else chain("v1 v1 v1")

    with gateway(answer) as asked:
        findings = _findings(asked.url, "-n", "20", ends_with=1)
    assert findings["failures"] == [
        {
            "status": 504,
            "hop": "mockc",
            "reason": "timeout: no answer within 5 s",
            "requests": 5,
        }
    ]
    assert _verdicts(findings) == {"isolation": True, "propagation": True, "health": False}
    # mockb's time before the failure is mockc's, and not counted.
    assert [(hop["app"], hop["requests"]) for hop in findings["hops"]] == [
        ("mocka", 15),
        ("mockb", 15),
        ("mockc", 15),
    ]


def test_a_chain_in_text_is_judged_but_for_what_it_cannot_tell() -> None:
    body = "-> mocka(version: v1, ip: 1.1.1.1)-> mockb(version: v1, ip: 1.1.1.2)"
    with gateway(lambda *_: text(body)) as asked:
        findings = _findings(asked.url, "-n", "5", ends_with=0)
    assert _verdicts(findings) == {"isolation": True, "propagation": None, "health": True}


@pytest.mark.parametrize("body", ["", "<h1>It works!</h1>", "{}", "\x00\x1b[2J"])
def test_what_is_no_chain_fails(body: str) -> None:
    with gateway(lambda *_: text(body)) as asked:
        done = _probe_here(asked.url, "-n", "5", "--expect", "v1=1")
    assert done.returncode == 1
    assert "5 of 5 requests failed" in done.stdout
    assert "\x1b" not in done.stdout


def test_names_from_elsewhere_do_nothing_to_the_terminal() -> None:
    names = Chain(hops("v1[bold]\x1b]0;title\x07", {"traceparent": "\ud800", "\x1b[2J\ud800": ""}))
    with gateway(lambda *_: Answer(names.to_json())) as asked:
        done = _probe(asked.url, "-n", "2")
    assert done.returncode == 0
    assert "v1[bold]\\x1b]0;title\\x07" in done.stdout


def test_a_gateway_that_is_not_there_is_named() -> None:
    done = _probe_here(f"http://{new_address()}:8000/", "-n", "3")
    assert done.returncode == 1
    assert "at gateway: connection refused (3)" in done.stdout


def test_a_gateway_that_hangs_costs_no_more_than_the_timeout() -> None:
    def answer(number: int, _: Message) -> Answer:
        if number == 0:
            time.sleep(3)
        return chain("v1")

    with gateway(answer) as asked:
        findings = _findings(asked.url, "-n", "10", "--timeout", "0.5", ends_with=1)
    (failure,) = findings["failures"]
    assert (failure["hop"], failure["reason"]) == ("gateway", "no answer within 0.5 s")
    assert failure["requests"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_gives_the_verdict_on_what_was_seen(number: signal.Signals) -> None:
    with gateway(lambda *_: chain("v1 v1")) as asked:
        process = subprocess.Popen(
            [*_COMMAND, asked.url, "-n", "1000000"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: len(asked.requests) > 20)
        process.send_signal(number)
        out, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert "isolation   holds" in out
    assert " of 1000000 requests" in out.splitlines()[-1]


def test_a_terminal_sees_a_progress_bar_on_standard_error() -> None:
    ours, theirs = pty.openpty()
    with gateway(lambda *_: chain("v1 v1")) as asked:
        done = subprocess.run(
            [*_COMMAND, asked.url, "-n", "30", "--json"],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
            timeout=30,
            check=False,
        )
    os.close(theirs)
    shown = os.read(ours, 65536)
    os.close(ours)
    assert done.returncode == 0
    assert b"30/30" in shown
    assert json.loads(done.stdout)["requests"]["done"] == 30


def test_real_hops_pass_their_headers_on() -> None:
    headers = ("--header", "my-trace-id: {id}", "--header", "X-Asm-Prefer-Tag: v1")
    with running_chain() as (first, *_):
        findings = _findings(first.url, *headers, "--expect", "v1=1", ends_with=0)
    names = ("my-trace-id", "traceparent", "x-asm-prefer-tag")
    everywhere = {"mocka": 100, "mockb": 100, "mockc": 100}
    assert findings["headers"]["received"] == dict.fromkeys(names, everywhere)
    assert [hop["app"] for hop in findings["hops"]] == ["mocka", "mockb", "mockc"]
    assert all(verdict["holds"] for verdict in findings["verdicts"])


def test_a_hop_that_drops_headers_is_named() -> None:
    with running("mockc") as last:

        def dropping(_: int, headers: Message) -> Answer:
            connection = HTTPConnection(last.address, 8000)
            kept = {"Accept": "application/json", "traceparent": headers["traceparent"]}
            connection.request("GET", "/", headers=kept)
            rest = Chain.from_json(connection.getresponse().read())
            connection.close()
            names = ("traceparent", "x-asm-prefer-tag")
            own = hops("v1 v1", {name: headers[name] for name in names})[1]
            return Answer(Chain((own, *rest.hops)).to_json())

        with gateway(dropping) as second, running(upstream_url=second.url) as first:
            done = _probe_here(first.url, "--header", "x-asm-prefer-tag: v1", "-n", "20")
    assert done.returncode == 1
    said = "mockb received x-asm-prefer-tag, mockc did not: mockb drops it (v1; 20 requests)"
    assert f"propagation fails   {said}" in done.stdout


def test_a_hop_that_is_down_is_named_and_its_lane_does_not_leak() -> None:
    nowhere = new_address()
    with running(upstream_url=f"http://{nowhere}:8000/") as first:
        findings = _findings(first.url, "-n", "10", ends_with=1)
    (failure,) = findings["failures"]
    assert (failure["status"], failure["hop"]) == (502, f"{nowhere}:8000")
    assert failure["reason"] == "unreachable: connection refused"
    assert _verdicts(findings) == {"isolation": True, "propagation": True, "health": False}


def test_a_fault_on_demand_is_told_as_such() -> None:
    fault = ("--header", "x-mock-fault: mockb; abort=503")
    with running_chain(fault_header="on") as (first, *_):
        findings = _findings(first.url, *fault, "-n", "20", ends_with=1)
        done = _probe_here(first.url, *fault, "-n", "20")
    (failure,) = findings["failures"]
    assert (failure["status"], failure["hop"]) == (503, "mockb")
    assert failure["reason"] == "injected: abort 503"
    assert _verdicts(findings) == {"isolation": True, "propagation": True, "health": False}
    assert "503 at mockb: injected: abort 503 (20)" in done.stdout
    assert "mocka(v1) -> mockb(v1) -> mockb(injected): 503" in done.stdout


def test_a_fault_that_no_hop_takes_is_told_as_such() -> None:
    with running() as hop:
        done = _probe_here(hop.url, "--header", "x-mock-fault: mocka; abort=503", "-n", "5")
    assert done.returncode == 0
    assert "x-mock-fault was sent, but no hop carries it (see fault_header)" in done.stdout
