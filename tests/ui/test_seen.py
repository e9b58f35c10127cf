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
from mockservice.ui.seen import MAX_ENDS, MAX_HEADERS, MAX_HOPS, MAX_SIZE, MAX_TEXT, to_json
from mockservice.ui.view import View
from tests.lanes.building import write
from tests.lanes.running import K8S
from tests.mesh.trees import (
    LANE,
    PRICES_USERS,
    STOCK,
    USERS,
    answered,
    pods,
    strict,
    without_rule,
)
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


def branching(app: str, *upstreams: Chain, version: str = "v1", **fields: Any) -> Chain:
    """A hop with several upstreams."""
    hop = Hop(app, version, "ip", fields.pop("status", 200), fields.pop("ms", 9.0), **fields)
    return Chain((replace(hop, upstreams=upstreams),))


def leaf(app: str, version: str = "v1", **fields: Any) -> Chain:
    """A hop that calls nothing."""
    return Chain((Hop(app, version, "ip", 200, fields.pop("ms", 1.0), **fields),))


REFUSED = Chain((), Failure("stock", "unreachable", "connection refused"))


def test_hops_of_a_tree_tell_their_caller_and_what_is_lost_on_the_way() -> None:
    asked = {"x-lane": "v1"}
    orders = branching("orders", leaf("stock", lane_headers=asked), leaf("price"), ms=6.0)
    orders = Chain((replace(orders.hops[0], lane_headers=asked),))
    said = seen(branching("web", orders, leaf("users", lane_headers=asked), lane_headers=asked))
    assert said["isTree"]
    assert said["outline"] == "web(v1) -> [orders(v1) -> [stock(v1); price(v1)]; users(v1)]"
    hops = [(hop["app"], hop["caller"], hop["ownMs"]) for hop in said["hops"]]
    assert hops == [
        ("web", None, 3.0),
        ("orders", 0, 5.0),
        ("stock", 1, 1.0),
        ("price", 1, 1.0),
        ("users", 0, 1.0),
    ]
    # users received what web did, whatever price lost.
    lost = [hop["lost"] for hop in said["hops"][1:]]
    assert lost == [{}, {}, {"x-lane": "missing"}, {}]
    assert (said["ends"], said["fault"]) == ([], None)
    assert not seen(leaf("web"))["isTree"]


def test_each_branch_that_fails_is_told_where_it_stands() -> None:
    foreign = Chain(leaf("users").hops, upstream_body="<h1>down</h1>")
    orders = branching("orders", leaf("price"), REFUSED, status=502)
    said = seen(branching("web", REFUSED, orders, foreign, status=502), status=502)
    places = [(end["last"], end["at"], end["body"]) for end in said["ends"]]
    assert places == [(0, 1, None), (1, 3, None), (3, 4, "<h1>down</h1>")]
    faults = [end["fault"] for end in said["ends"]]
    reason = "unreachable: connection refused"
    for fault in faults[:2]:
        assert (fault["hop"], fault["reason"], fault["isNamed"]) == ("stock", reason, True)
    # The hop before it is well.
    assert faults[2] is None
    assert said["fault"] == faults[0]


def test_a_hop_that_fails_by_itself_is_told_where_all_its_branches_are_well() -> None:
    said = seen(branching("web", leaf("orders"), leaf("users"), status=500), status=500)
    [end] = said["ends"]
    assert (end["last"], end["fault"]["hop"]) == (0, "web")


def test_hops_missing_are_told_at_the_ends_of_their_branches(tmp_path: Path) -> None:
    rules = without_rule(without_rule(strict(), "users", "v2"), "stock", "v2")
    judge = ByMap(read_lane_map(load([write(tmp_path / "all.yaml", *pods(), *rules)])))
    no_route = dict.fromkeys((STOCK, PRICES_USERS, USERS), Chain())
    chain = answered("v2 v2 v2 v2 v2 v2", "v2", no_route)
    asked = Result(0.1, 502, chain, sent=((LANE, "v2"),), url="http://gw/mock")
    ends = judged(asked, judge)["ends"]
    assert [(end["last"], end["missing"]["app"]) for end in ends] == [
        (1, "stock"),
        (2, "users"),
        (0, "users"),
    ]
    said = "lane v2 is owed users(v2) but got no answer after web: "
    assert ends[2]["missing"]["text"].startswith(said)


def test_calls_of_one_branch_are_not_compared_with_those_of_another() -> None:
    judge, consistency = ByVersion(), Consistency()

    def leaks(version: str) -> list[tuple[int, str]]:
        chain = branching("web", leaf("orders"), leaf("users", version))
        told = judged(Result(0.01, 200, chain), judge, consistency)["leaks"]
        return [(leak["place"], leak["kind"]) for leak in told]

    assert leaks("v1") == []
    assert leaks("v2") == [(2, "after web(v1), users")]


def test_a_leak_of_one_branch_marks_its_hop_only() -> None:
    said = seen(branching("web", leaf("orders", "v2"), leaf("users")))
    assert [hop["isLeak"] for hop in said["hops"]] == [False, True, False]
    assert [leak["place"] for leak in said["leaks"]] == [1]


def test_the_size_of_a_tree_is_bounded() -> None:
    long = "x" * 10_000
    hop = Hop(long, long, long, 200, 1.0, {long: long}, long)
    failed = Chain((hop,), Failure(long, "timeout", long))
    said = seen(Chain((replace(hop, upstreams=(failed,) * 1000),)), status=502)
    assert len(said["hops"]) == MAX_HOPS
    assert {hop["caller"] for hop in said["hops"]} == {None, 0}
    assert len(said["ends"]) == MAX_ENDS
    assert all(end["last"] < MAX_HOPS for end in said["ends"])
    assert len(json.dumps(said)) < 2 * MAX_SIZE
    many = seen(Chain((replace(hop, upstreams=(failed,) * 60_000),)), status=502)
    assert [hop["caller"] for hop in many["hops"]] == [None]
    assert many["body"] == "a tree of 60000 branches, which is too large to show"
