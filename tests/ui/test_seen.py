"""A result as a page sees it: the probe's judgement, in a size that is bounded."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mockservice.chain import Chain, Failure, Hop
from mockservice.mesh.load import load
from mockservice.mesh.survey import read_lane_map
from mockservice.probe.consistency import Consistency
from mockservice.probe.judge import ByMap, ByVersion, Judge
from mockservice.probe.load import Result
from mockservice.ui.seen import MAX_HEADERS, MAX_HOPS, MAX_SIZE, MAX_TEXT, to_json
from mockservice.ui.view import View
from tests.lanes.running import K8S
from tests.probe.gateway import hops
from tests.ui.rules import by_rules, copy_rules, cut

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SENT = (("traceparent", TRACE), ("x-lane", "v2"), ("x-unknown", "1"))


def seen(chain: Chain, baseline: str | None = None, **result: Any) -> dict[str, Any]:
    made = replace(Result(0.0125, 200, chain, sent=SENT), **result)
    judge = ByVersion(baseline, is_strict=baseline is None)
    return judged(made, judge)


def judged(result: Result, judge: Judge, consistency: Consistency | None = None) -> dict[str, Any]:
    view = View("http://gw/mock?a=1&b", judge=judge)
    said: dict[str, Any] = json.loads(to_json(result, view, consistency or Consistency()))
    return said


def asking(lane: str, versions: str, **result: Any) -> Result:
    """A request that asks for a lane of k8s/istio/permissive, and the versions that answered."""
    asked = {"x-asm-prefer-tag": lane}
    made = Result(
        0.01, 200, Chain(hops(versions, asked)), sent=tuple(asked.items()), url="http://gw/mock"
    )
    return replace(made, **result)


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


def test_pods_stand_in_the_lane_whose_own_they_are() -> None:
    judge = by_rules()
    said = judged(asking("s3", "v1 v3 v1"), judge)
    assert said["lane"] == "s3"
    assert [hop["lane"] for hop in said["hops"]] == ["s1", "s3", "s1"]
    assert [hop["isFallback"] for hop in said["hops"]] == [True, False, True]
    assert said["leaks"] == []
    # No lane has mockb(v2).
    assert judged(asking("s2", "v2 v2 v2"), judge)["hops"][1]["lane"] == "v2"
    assert judged(asking("s2", "v2 v2 v2"), ByVersion())["hops"][0]["lane"] == "v2"


def test_a_leak_is_told_as_the_probe_tells_it() -> None:
    judge = by_rules()
    result = asking("s2", "v2 v1 v1")
    [(place, leak)] = judge.judge(result).leaks
    [said] = judged(result, judge)["leaks"]
    assert (said["place"], said["kind"], said["text"]) == (place, str(leak), str(leak))
    assert (said["app"], said["version"], said["owed"]) == ("mockc", "v1", "v2")
    # The page draws the chain, which this text ends with.
    [said] = seen(Chain(hops("v2 v1")))["leaks"]
    assert said["kind"] == "mockb(v1) left lane v2: mocka(v2) -> mockb(v1)"
    assert said["text"] == "mockb(v1) left lane v2"


def test_a_hop_that_no_rule_leads_to_is_a_leak_past_the_end(tmp_path: Path) -> None:
    rules = copy_rules(tmp_path)
    cut(rules / "lane-routes.yaml", "mockb", "    - route:")
    result = asking("s2", "v2", status=404, chain=Chain(hops("v2"), upstream_body="no route"))
    said = judged(result, by_rules(rules))
    [leak] = said["leaks"]
    assert leak["place"] == len(said["hops"]) == 1
    assert leak["text"].startswith("lane s2 is owed mockb(v1) but got no answer: ")
    # It is the baseline's pods that were to answer.
    assert said["fault"]["lane"] == "s1"


def test_a_failure_that_a_strict_lane_is_owed_is_told_as_such(tmp_path: Path) -> None:
    for folder in (K8S / "workloads", K8S / "istio" / "strict"):
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    cut(tmp_path / "mock-v2.yaml", "mockb-v2", "apiVersion")
    cut(tmp_path / "destination-rules.yaml", "mockb", "    - name: v2")
    rule = "    - match:\n        - sourceLabels:\n            version: v2"
    cut(tmp_path / "lane-routes.yaml", "mockb", rule)
    chain = Chain(hops("v2", {}), upstream_body="no healthy upstream")
    failed = Result(0.01, 503, chain, url="http://gw/mock")
    said = judged(failed, ByMap(read_lane_map(load([tmp_path]))))
    assert said["lane"] == "v2"
    assert said["fault"]["isOwed"]
    assert said["leaks"] == []
    assert not seen(chain, status=503)["fault"]["isOwed"]


def test_calls_that_go_several_ways_are_leaks_once_that_is_seen() -> None:
    judge, consistency = ByVersion(), Consistency()

    def leaks(lane: str, version: str) -> list[Any]:
        asked = hops(f"base {version}", {"x-lane": lane, "x-id": str(next(ids))})
        told: list[Any] = judged(Result(0.01, 200, Chain(asked)), judge, consistency)["leaks"]
        return told

    ids = iter(range(1000))
    assert [leaks("a", "base") for _ in range(8)] == [[]] * 8
    [told] = leaks("a", "blue")
    assert told["place"] == 1
    assert told["kind"] == "after mocka(base) with x-lane: a, mockb"
    assert told["text"] == (
        "after mocka(base) with x-lane: a, mockb is base in 8 and blue in 1 requests:"
        " no rule keeps the lane at mockb"
    )
    assert told["versions"] == [["base", 8], ["blue", 1]]
    assert "base in 9 and blue in 1" in leaks("a", "base")[0]["text"]
    # Another lane is another kind of call.
    assert leaks("b", "blue") == []


def test_only_the_latest_calls_are_compared() -> None:
    judge, consistency = ByVersion(), Consistency(latest=3)

    def leaks(version: str) -> int:
        result = Result(0.01, 200, Chain(hops(f"v1 {version}")))
        return len(judged(result, judge, consistency)["leaks"])

    assert [leaks(version) for version in ("v1", "v1", "v2", "v2", "v2")] == [0, 0, 1, 1, 0]


def test_of_several_versions_without_a_baseline_nobody_can_tell() -> None:
    result = Result(0.01, 200, Chain(hops("v2 v1")))
    said = judged(result, ByVersion())
    assert said["isMixed"]
    assert said["leaks"] == []
    assert not judged(result, ByVersion(is_strict=True))["isMixed"]


def test_a_result_without_an_answer_says_why() -> None:
    said = seen(Chain(), status=None, error="connection refused")
    reason = {"hop": "gateway", "isNamed": False, "reason": "connection refused"}
    assert said["fault"] == {"status": None, **reason, "lane": None, "isOwed": False}
    assert said["hops"] == []
    assert said["ms"] == 12.5


def test_a_failure_names_the_hop() -> None:
    chain = Chain(hops("v1"), Failure("mockb", "timeout", "no answer within 5 s"))
    fault = seen(chain, status=504)["fault"]
    reason = {"hop": "mockb", "isNamed": True, "reason": "timeout: no answer within 5 s"}
    assert fault == {"status": 504, **reason, "lane": "v1", "isOwed": False}


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
    # A leak at a hop that is not sent.
    far = seen(Chain((*[Hop("a", "v1", "ip")] * MAX_HOPS, Hop("b", "v2", "ip"))))
    assert [leak["place"] for leak in far["leaks"]] == [None]
    assert len(said["hops"][0]["headers"]) == MAX_HEADERS
    for text in (said["body"], said["lane"], said["outline"], said["hops"][0]["app"]):
        assert len(text) == MAX_TEXT
    many = seen(Chain((hop,) * 1000, Failure(long, long, long)), status=502)
    assert many["hops"][0]["headers"] is None
    assert len(json.dumps(many)) < MAX_SIZE + MAX_HOPS * 4 * MAX_TEXT
