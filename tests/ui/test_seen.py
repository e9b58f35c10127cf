"""A result as a page sees it: the probe's judgement, in a size that is bounded."""

import json
from dataclasses import replace
from typing import Any

import pytest

from mockservice.chain import Chain, Failure, Hop
from mockservice.probe.judge import ByVersion
from mockservice.probe.load import Result
from mockservice.ui.seen import MAX_HEADERS, MAX_HOPS, MAX_SIZE, MAX_TEXT, to_json
from mockservice.ui.view import View
from tests.probe.gateway import hops

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SENT = (("traceparent", TRACE), ("x-lane", "v2"), ("x-unknown", "1"))


def seen(chain: Chain, baseline: str | None = None, **result: Any) -> dict[str, Any]:
    made = replace(Result(0.0125, 200, chain, sent=SENT), **result)
    judge = ByVersion(baseline, is_strict=baseline is None)
    said: dict[str, Any] = json.loads(to_json(made, View("http://gw/mock?a=1&b", judge=judge)))
    return said


@pytest.mark.parametrize(
    ("versions", "baseline", "lane", "leaks", "fallbacks"),
    [
        ("v1 v1 v1", None, "v1", [], []),
        ("v2 v1 v2", None, "v2", [1], []),
        ("v2 v1 v2", "v1", "v2", [], [1]),
        ("v1 v2 v1", "v1", "v2", [], [0, 2]),
        ("v1 v2 v3", "v1", None, [2], []),
        ("v1 v1 v1", "v1", "v1", [], []),
    ],
)
def test_leaks_and_fallbacks_are_those_of_the_probe(
    versions: str, baseline: str | None, lane: str | None, leaks: list[int], fallbacks: list[int]
) -> None:
    said = seen(Chain(hops(versions)), baseline)
    assert said["lane"] == lane
    assert [place for place, hop in enumerate(said["hops"]) if hop["isLeak"]] == leaks
    assert [place for place, hop in enumerate(said["hops"]) if hop["isFallback"]] == fallbacks


def test_a_result_without_an_answer_says_why() -> None:
    said = seen(Chain(), status=None, error="connection refused")
    reason = {"hop": "gateway", "isNamed": False, "reason": "connection refused"}
    assert said["fault"] == {"status": None, **reason}
    assert said["hops"] == []
    assert said["ms"] == 12.5


def test_a_failure_names_the_hop() -> None:
    chain = Chain(hops("v1"), Failure("mockb", "timeout", "no answer within 5 s"))
    fault = seen(chain, status=504)["fault"]
    reason = {"hop": "mockb", "isNamed": True, "reason": "timeout: no answer within 5 s"}
    assert fault == {"status": 504, **reason}


def test_headers_are_lost_where_the_hop_before_had_them() -> None:
    headers = [
        {"traceparent": TRACE},
        {"traceparent": f"00-{'a' * 32}-b7ad6b7169203331-01", "end-user": "ann"},
        {"traceparent": f"00-{'a' * 32}-b7ad6b7169203331-01"},
    ]
    chain = Chain(tuple(Hop("m", "v1", "ip", 200, 1.0, received) for received in headers))
    lost = [hop["lost"] for hop in seen(chain)["hops"]]
    # Of x-unknown nobody can tell: no hop carries it.
    assert lost == [{"x-lane": "missing"}, {"traceparent": "changed"}, {"end-user": "missing"}]


def test_hops_that_answer_in_text_lose_nothing_that_anyone_can_tell() -> None:
    said = seen(Chain((Hop("a", "v1", "ip"), Hop("b", "v1", "ip"))))
    assert [hop["headers"] for hop in said["hops"]] == [None, None]
    assert [hop["lost"] for hop in said["hops"]] == [{}, {}]


def test_the_curl_line_is_quoted() -> None:
    said = seen(Chain(hops("v1")), sent=(("x-lane", "it's $(me)"),))
    assert said["curl"] == """curl -H 'x-lane: it'"'"'s $(me)' 'http://gw/mock?a=1&b'"""
    assert said["traceId"] is None
    assert seen(Chain(hops("v1")))["traceId"] == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("duration", [float("inf"), float("-inf"), -1.0, 1e300])
def test_durations_that_are_none_are_left_out(duration: float) -> None:
    said = seen(Chain((Hop("a", "v1", "ip", 200, duration),)))
    assert (said["hops"][0]["ms"], said["hops"][0]["ownMs"]) == (None, None)


def test_its_size_is_bounded() -> None:
    long = "x" * 10_000
    headers = {f"{number}{long}": long for number in range(100)}
    hop = Hop(long, long, long, 200, 1.0, headers, long)
    said = seen(Chain((hop,) + (Hop("a", "v1", "ip"),) * 1000, upstream_body=long))
    assert len(said["hops"]) == MAX_HOPS
    assert len(said["hops"][0]["headers"]) == MAX_HEADERS
    for text in (said["body"], said["lane"], said["outline"], said["hops"][0]["app"]):
        assert len(text) == MAX_TEXT
    many = seen(Chain((hop,) * 1000, Failure(long, long, long)), status=502)
    assert many["hops"][0]["headers"] is None
    assert len(json.dumps(many)) < MAX_SIZE + MAX_HOPS * 4 * MAX_TEXT
