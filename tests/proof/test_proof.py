"""The short versions of `make soak` and `make chaos`: counts, no timings."""

import os
import random
import subprocess
import sys

import pytest

from tests.proof.finding import Extent, Prove, Ratio
from tests.proof.grammar import Grammar
from tests.proof.processes import Said, heard, stop
from tests.proof.reading import read, unsupported
from tests.proof.rows import ROWS
from tests.running import RunningHop, exchange, new_address, request, wait_until
from tests.shapes import ANSWERED, REFUSED, UNSUPPORTED, Row, get

_SEED = 1
_PROVED = {name: prove for rows in ROWS.values() for name, prove in rows.items()}


@pytest.mark.slow
@pytest.mark.parametrize("prove", _PROVED.values(), ids=_PROVED)
def test_it_holds(prove: Prove) -> None:
    findings = list(prove(Extent(short=True, seed=_SEED)))
    assert findings
    assert [finding for finding in findings if not finding.holds] == []


@pytest.mark.parametrize(
    ("ratios", "holds"),
    [
        ([0.95, 0.99, 1.0, 1.1], True),
        ([0.5, 0.9, 0.95, 1.4], True),
        ([0.85, 0.86, 0.87, 0.88], False),
        ([0.82, 0.85, 0.88, 0.9], False),
        ([0.5, 0.7, 0.9, 1.2], None),
    ],
)
def test_a_ratio_is_told_where_pairs_of_rounds_agree(
    ratios: list[float], holds: bool | None
) -> None:
    assert Ratio.of([(ratio * 1000, 1000) for ratio in ratios]).is_at_least(0.9) is holds


@pytest.mark.parametrize("row", ANSWERED, ids=lambda row: row.rule)
def test_the_independent_reading_takes_what_is_answered(row: Row) -> None:
    behind_close = not row.stays and len(read(row.sent)) == 2
    assert len(read(row.sent)) == len(row.statuses) + behind_close


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
def test_the_independent_reading_takes_nothing_more(sent: bytes) -> None:
    # What the reading does not look at is only what ends no message: targets, versions, amounts.
    assert len(read(sent)) <= 1


@pytest.mark.parametrize("before", [b"", get(), b"\r\n" + get(b"Content-Length: 2") + b"ab"])
def test_the_independent_reading_knows_what_is_unsupported(before: bytes) -> None:
    for rule in ("version 2.0", "version 2.1", "version 3.0", "method BREW", "method GETS"):
        status, sent = UNSUPPORTED[rule]
        assert unsupported(before + sent) == status
    for sent in (get(), *REFUSED.values()):
        assert unsupported(before + sent) is None


@pytest.mark.parametrize(
    ("option", "lanes"), [(b"te, X-Lane\t", []), (b"x-lane", []), (b"x-lanes", [b"a", b"b"])]
)
def test_the_independent_reading_drops_lanes_that_connection_names(
    option: bytes, lanes: list[bytes]
) -> None:
    [request] = read(get(b"x-lane: a", b"Connection: " + option, b"X-Lane: b"))
    assert request.lanes == lanes


def test_the_same_seed_makes_the_same_requests() -> None:
    first, second = (Grammar(random.Random(_SEED)) for _ in range(2))
    assert [first.stream() for _ in range(50)] == [second.stream() for _ in range(50)]


_CRASHING = """
import sys
from threading import Thread
from mockservice.serve import command
from mockservice.serve.server import Server

def fail():
    raise RuntimeError("planted")

def answer(self, request, reply):
    if request.target == "/crash":
        {crash}
    whole(self, request, reply)

whole, Server.answer = Server.answer, answer
sys.exit(command.main([]))
"""


@pytest.mark.parametrize(
    "crash", ["fail()", "self.loop.call_soon(fail)", "Thread(target=fail).start()"]
)
def test_a_crash_is_seen(crash: str) -> None:
    address = new_address()
    process = subprocess.Popen(
        [sys.executable, "-c", _CRASHING.format(crash=crash)],
        env={"PATH": os.environ["PATH"], "app": "mocka", "version": "v1", "host": address},
        stderr=subprocess.PIPE,
    )
    hop = RunningHop(process, address, f"http://{address}:8000/", "")
    said = Said(hop)
    try:
        wait_until(lambda: request(f"{hop.url}readyz", timeout=5).status == 200)
        exchange(address, b"GET /crash HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        wait_until(lambda: "RuntimeError: planted" in said.crashed)
    finally:
        process.kill()
        process.wait()


def test_words_are_no_crash() -> None:
    with heard(access_log="on", upstream_url=f"http://{new_address()}:8000/") as (hop, said):
        assert request(hop.url).status == 502
        assert stop(hop)[0]
        said.wait()
    assert (said.lines, said.crashed) == (1, "")
