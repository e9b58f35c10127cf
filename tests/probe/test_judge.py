"""What judges say of single requests: by the lane map, and by versions where there is none."""

from __future__ import annotations

from functools import cache

import pytest

from mockservice.chain import Chain, Failure
from mockservice.mesh.load import load
from mockservice.mesh.survey import read_lane_map
from mockservice.probe.judge import ByMap, ByVersion, Judgement
from mockservice.probe.load import Load, Result
from mockservice.probe.tally import Tally
from mockservice.probe.verdicts import ISOLATION, Verdict, isolation, judge
from tests.manifests.folders import K8S, LANES
from tests.probe.gateway import TRACE, hops

_URL = "http://127.0.0.1:8080/mock"
_TAG = "x-asm-prefer-tag"
_REFUSED = Failure("mockc", "unreachable", "connection refused")


@cache
def _by_map(folder: str) -> ByMap:
    return ByMap(read_lane_map(load(K8S / one for one in (*LANES[folder], folder))))


def _result(
    versions: str, lane: str | None = None, failure: Failure | None = None, status: int = 200
) -> Result:
    """A request of a lane, whose hops all received its header."""
    sent = () if lane is None else ((_TAG, lane),)
    received = {"traceparent": TRACE, **dict(sent)}
    chain = Chain(hops(versions, received), failure)
    return Result(0.1, status, chain, sent=sent, url=_URL)


def _judged(folder: str, result: Result) -> Judgement:
    return _by_map(folder).judge(result)


@pytest.mark.parametrize(
    ("lane", "versions", "fallbacks"),
    [
        (None, "v1 v1 v1", set()),
        ("s1", "v1 v1 v1", set()),
        ("s2", "v2 v1 v2", {1}),
        ("s3", "v1 v3 v1", {0, 2}),
    ],
)
def test_a_fallback_that_is_owed_is_no_leak(
    lane: str | None, versions: str, fallbacks: set[int]
) -> None:
    judgement = _judged("istio/permissive", _result(versions, lane))
    assert judgement == Judgement(lane or "s1", fallbacks=frozenset(fallbacks))


@pytest.mark.parametrize(
    ("lane", "versions", "leaks"),
    [
        # The lane has a mockc: nobody stands in for it.
        ("s2", "v2 v1 v1", {2: "lane s2 is owed mockc(v2) but got mockc(v1)"}),
        ("s2", "v2 v2 v2", {1: "lane s2 is owed mockb(v1) but got mockb(v2)"}),
        ("s2", "v1 v1 v2", {0: "lane s2 is owed mocka(v2) but got mocka(v1)"}),
        # All of one version, and yet not what was asked for.
        (
            "s3",
            "v1 v1 v1",
            {1: "lane s3 is owed mockb(v3) but got mockb(v1)"},
        ),
        (
            None,
            "v2 v3 v2",
            {
                0: "lane s1 is owed mocka(v1) but got mocka(v2)",
                1: "lane s1 is owed mockb(v1) but got mockb(v3)",
                2: "lane s1 is owed mockc(v1) but got mockc(v2)",
            },
        ),
    ],
)
def test_a_hop_that_is_not_owed_is_a_leak(
    lane: str | None, versions: str, leaks: dict[int, str]
) -> None:
    judgement = _judged("istio/permissive", _result(versions, lane))
    told = {place: str(leak).partition(":")[0] for place, leak in judgement.leaks}
    assert told == leaks


def test_in_strict_lanes_what_follows_the_first_leak_follows_from_it() -> None:
    judgement = _judged("istio/strict", _result("v1 v2 v2"))
    assert [(place, leak.lane, leak.app) for place, leak in judgement.leaks] == [(1, "v1", "mockb")]


def test_a_request_that_fails_is_judged_up_to_the_hop_that_failed() -> None:
    failed = _result("v2 v3", "s2", _REFUSED, 502)
    [(place, leak)] = _judged("istio/permissive", failed).leaks
    assert (place, leak.app, leak.version, leak.owed) == (1, "mockb", "v3", "v1")


def test_a_hop_that_is_down_is_no_leak() -> None:
    judgement = _judged("istio/permissive", _result("v2 v1", "s2", _REFUSED, 502))
    assert (judgement.lane, judgement.leaks) == ("s2", ())


def test_the_map_knows_how_often_lanes_are_entered() -> None:
    weights = _by_map("release-v3/istio").weights(Load(_URL))
    assert weights == {"v1": 60, "v2": 30, "v3": 10}
    assert _by_map("istio/permissive").weights(Load(_URL)) is None


def _tally(judge: ByMap | ByVersion, *results: Result) -> Tally:
    tally = Tally(judge)
    for result in results:
        tally.add(result)
    return tally


def test_calls_that_look_the_same_and_go_several_ways_are_no_lane() -> None:
    """The VirtualService of one hop is forgotten: its calls are balanced over all versions."""
    chains = [_result("v1 v1 v1", "s1")] * 41 + [_result("v1 v1 v2", "s1")] * 39
    verdict = isolation(_tally(ByVersion("v1"), *chains))
    assert verdict == Verdict(
        ISOLATION,
        False,
        (
            "after mockb(v1) with x-asm-prefer-tag: s1, mockc is v1 in 41 and v2 in 39 requests:"
            " no rule keeps the lane at mockc",
        ),
    )


def test_ids_do_not_tell_calls_apart() -> None:
    results = []
    for number in range(20):
        received = {"traceparent": TRACE, "my-trace-id": f"id{number}", "x-lane": "blue"}
        chain = Chain(hops("v2 v1 v2" if number % 2 else "v2 v1 v1", received))
        results.append(Result(0.1, 200, chain, url=_URL))
    [reason] = isolation(_tally(ByVersion("v1"), *results)).reasons
    assert reason.startswith("after mockb(v1) with x-lane: blue, mockc is ")


def test_without_manifests_a_chain_of_several_versions_cannot_be_told() -> None:
    verdict = isolation(_tally(ByVersion(), *[_result("v2 v1 v2", "s2")] * 5))
    assert verdict.holds is None
    assert verdict.reasons == (
        "mocka(v2) -> mockb(v1) -> mockc(v2): a fallback or a leak, which --manifests, --baseline"
        " or --strict tells (5 requests)",
    )


def test_without_manifests_the_verdict_says_what_it_cannot_see() -> None:
    verdict = isolation(_tally(ByVersion(), *[_result("v1 v1 v1", "s2")] * 5))
    assert verdict.holds is True
    assert verdict.reasons[1] == (
        "whether a lane fell back without need cannot be seen: --manifests tells it"
    )


def test_hops_that_answer_in_text_leave_calls_uncompared() -> None:
    text = Chain.from_text("-> mocka(version: v1, ip: 10.0.0.1)-> mockb(version: v1, ip: 10.0.0.2)")
    verdict = isolation(_tally(ByVersion(), *[Result(0.1, 200, text, url=_URL)] * 5))
    assert verdict.reasons[-1] == (
        "calls of mockb could not be compared: the headers received are not told"
    )


def test_requests_in_no_lane_are_told_apart() -> None:
    # Strict lanes by header: without it, a request is in none of them.
    known, unknown = _result("v1 v1 v1", "v1"), _result("v1 v1 v1")
    judge = _by_map("istio/permissive")
    assert isolation(_tally(judge, known, known)).reasons == (
        "each of 2 requests got what its lane is owed",
    )
    without = Result(0.1, 200, unknown.chain, url="http://127.0.0.1:8080/elsewhere")
    strict = _by_map("istio/strict")
    lost = Result(0.1, 200, Chain.from_text("-> other(version: v9, ip: 1)"), url=_URL)
    assert strict.judge(without).lane == "v1"
    assert strict.judge(lost).lane is None
    assert isolation(_tally(strict, without, lost)).reasons[:2] == (
        "1 request got what its lane is owed",
        "1 request in no lane that the manifests tell went the way of those that look the same",
    )


def test_lanes_that_were_not_entered_are_told() -> None:
    remarks = _by_map("istio/permissive").remarks(Load(_URL), {"s1": 100})
    assert remarks == (
        "lane s2 was not entered; it is entered by /mock with x-asm-prefer-tag: s2",
        "lane s3 was not entered; it is entered by /mock with x-asm-prefer-tag: s3",
    )


def test_a_lane_that_is_not_there_is_told() -> None:
    load = Load(_URL, headers=((_TAG, "s4"),))
    [first, *_] = _by_map("istio/permissive").remarks(load, {"s1": 100})
    assert first == "x-asm-prefer-tag: s4 names no lane of the manifests"


def test_a_service_that_is_no_hop_is_told() -> None:
    chain = Chain(hops("v1"), upstream_body="hello")
    verdict = isolation(_tally(ByVersion(), *[Result(0.1, 200, chain, url=_URL)] * 3))
    assert verdict.reasons[-1] == (
        "behind mocka answers a service that is no hop: what it is cannot be seen (3 requests)"
    )


def test_notes_of_the_map_are_a_verdict_of_their_own() -> None:
    tally = _tally(_by_map("istio/permissive"), _result("v1 v1 v1"))
    verdicts = {one.name: one for one in judge(tally, (), None)}
    assert verdicts["reach"] == Verdict(
        "reach", True, ("note: mockb(v2) gets no request: lane s2 does not hold mockb",)
    )
