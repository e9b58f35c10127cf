"""What is said of requests whose chain is a tree: each branch is judged, and named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mockservice.chain import MAX_HOPS, Chain, Failure, Hop
from mockservice.mesh.load import load
from mockservice.mesh.survey import read_lane_map
from mockservice.probe.findings import Findings
from mockservice.probe.judge import MAX_LEAKS, ByMap, ByVersion
from mockservice.probe.load import Load, Result
from mockservice.probe.result import MAX_OUTLINE, Fault, faults_of, outline, own_durations
from mockservice.probe.tally import Tally
from mockservice.probe.verdicts import health, isolation, propagation
from tests.lanes.building import write
from tests.mesh.trees import (
    AFTER,
    LANE,
    ORDERS,
    PRICE,
    PRICES_USERS,
    STOCK,
    USERS,
    WEB,
    answered,
    permissive,
    pods,
    strict,
    without_app,
    without_rule,
)

if TYPE_CHECKING:
    from pathlib import Path

    from mockservice.probe.judge import Judge, Judgement
    from tests.mesh.trees import Json

APPS = ("web", "orders", "stock", "price", "users", "users")
URL = "http://127.0.0.1:8080/mock"
DOWN = Chain(error=Failure("users.default", "unreachable", "connection refused"))
NO_ROUTE = Chain()
"""Envoy's 404, whose body is empty."""
NO_PODS = Chain(upstream_body="no healthy upstream")
HELLO = Chain(upstream_body="hello")


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Judge]:
    folder = tmp_path_factory.mktemp("lanes")
    return {
        "strict": _by_map(folder / "strict.yaml", [*pods(), *strict()]),
        "permissive": _by_map(folder / "permissive.yaml", [*pods(), *permissive()]),
    }


def _by_map(file: Path, objects: list[Json]) -> ByMap:
    return ByMap(read_lane_map(load([write(file, *objects)])))


def _result(versions: str, instead: dict[int, Chain] | None = None) -> Result:
    """A request of lane v2."""
    chain = answered(versions, "v2", instead)
    status = chain.hops[0].status if chain.hops else 502
    return Result(0.1, status, chain, sent=((LANE, "v2"),), url=URL)


def _versions(*leaking: int) -> str:
    return " ".join("v1" if place in leaking else "v2" for place in range(len(APPS)))


def _told(judgement: Judgement) -> list[tuple[int, str]]:
    return [(place, str(leak).partition(":")[0]) for place, leak in judgement.leaks]


def _leak(place: int) -> tuple[int, str]:
    app, after = APPS[place], f" after {AFTER[place]}" if AFTER[place] else ""
    return place, f"lane v2 is owed {app}(v2) but got {app}(v1){after}"


def _tally(judge: Judge, *results: Result) -> Tally:
    tally = Tally(judge)
    for result in results:
        tally.add(result)
    return tally


BOTH = pytest.mark.parametrize("kind", ["strict", "permissive"])


@BOTH
def test_a_sound_tree_holds(lanes: dict[str, Judge], kind: str) -> None:
    tally = _tally(lanes[kind], _result(_versions()))
    assert isolation(tally).reasons == ("1 request got what its lane is owed",)
    assert propagation(tally, {LANE}).holds
    assert health(tally).holds


@BOTH
@pytest.mark.parametrize("place", range(len(APPS)))
def test_every_hop_that_leaks_is_told_with_its_branch(
    lanes: dict[str, Judge], kind: str, place: int
) -> None:
    judgement = lanes[kind].judge(_result(_versions(place)))
    assert (judgement.lane, _told(judgement)) == ("v2", [_leak(place)])


@BOTH
@pytest.mark.parametrize(
    "places", [(STOCK, PRICE), (STOCK, USERS), (PRICES_USERS, USERS), (ORDERS, USERS)]
)
def test_leaks_of_sister_branches_are_all_told(
    lanes: dict[str, Judge], kind: str, places: tuple[int, ...]
) -> None:
    assert _told(lanes[kind].judge(_result(_versions(*places)))) == [_leak(one) for one in places]


@pytest.mark.parametrize(
    ("leaking", "told"),
    [
        ((ORDERS, STOCK, PRICE, PRICES_USERS), (ORDERS,)),
        ((ORDERS, PRICES_USERS, USERS), (ORDERS, USERS)),
        ((STOCK, PRICE, PRICES_USERS), (STOCK, PRICE)),
        ((WEB, ORDERS, USERS), (WEB,)),
    ],
)
def test_in_strict_lanes_what_follows_a_leak_in_its_branch_follows_from_it(
    lanes: dict[str, Judge], leaking: tuple[int, ...], told: tuple[int, ...]
) -> None:
    result = _result(_versions(*leaking))
    assert _told(lanes["strict"].judge(result)) == [_leak(place) for place in told]
    assert _told(lanes["permissive"].judge(result)) == [_leak(place) for place in leaking]


@pytest.mark.parametrize("judge", [ByVersion(is_strict=True), ByVersion("base")])
@pytest.mark.parametrize(
    ("leaking", "told"),
    [
        *(((place,), (place,)) for place in range(1, len(APPS))),
        ((STOCK, USERS), (STOCK, USERS)),
        ((ORDERS, PRICE, USERS), (ORDERS, USERS)),
    ],
)
def test_without_manifests_every_branch_is_held_against_the_first_hop(
    judge: ByVersion, leaking: tuple[int, ...], told: tuple[int, ...]
) -> None:
    result = _result(_versions(*leaking))
    drawn = outline(result)
    assert [(place, str(leak)) for place, leak in judge.judge(result).leaks] == [
        (place, f"{APPS[place]}(v1) left lane v2 after {AFTER[place]}: {drawn}") for place in told
    ]


def test_without_manifests_a_baseline_may_stand_in_anywhere() -> None:
    judge = ByVersion("v1")
    judgement = judge.judge(_result("v1 v1 v2 v1 v2 v1"))
    assert (judgement.lane, judgement.leaks) == ("v2", ())
    assert judgement.fallbacks == {WEB, ORDERS, PRICE, USERS}
    assert ByVersion().judge(_result(_versions(USERS))).is_mixed


@pytest.mark.parametrize(
    ("place", "instead", "said"),
    [
        (STOCK, NO_ROUTE, "orders's upstream 1 of 2"),
        (USERS, NO_ROUTE, "web's upstream 2 of 2"),
        (PRICES_USERS, NO_PODS, "price's upstream"),
    ],
)
def test_a_hop_that_no_rule_leads_to_is_missing(
    tmp_path: Path, place: int, instead: Chain, said: str
) -> None:
    """The rule of lane v2 is dropped: Envoy answers for its calls, the other branches are well."""
    app = APPS[place]
    judge = _by_map(tmp_path / "all.yaml", [*pods(), *without_rule(strict(), app, "v2")])
    result = _result(_versions(), {place: instead})
    judgement = judge.judge(result)
    ((where, leak),) = judgement.leaks
    assert where == len(result.chain.tree().hops)
    assert str(leak).startswith(f"lane v2 is owed {app}(v2) but got no answer after {AFTER[place]}")
    assert "no rule of VirtualService" in leak.reason
    (fault,) = faults_of(result).values()
    assert fault.hop == said
    tally = _tally(judge, result)
    assert (tally.failed, tally.failed_untold) == (1, 0)


def test_hops_that_are_missing_in_several_branches_are_all_told(tmp_path: Path) -> None:
    rules = without_rule(without_rule(strict(), "users", "v2"), "stock", "v2")
    judge = _by_map(tmp_path / "all.yaml", [*pods(), *rules])
    missing = dict.fromkeys((STOCK, PRICES_USERS, USERS), NO_ROUTE)
    judgement = judge.judge(_result(_versions(), missing))
    assert [(leak.app, leak.after) for _, leak in judgement.leaks] == [
        ("stock", "web -> orders"),
        ("users", "web -> orders -> price"),
        ("users", "web"),
    ]
    # What follows a leak follows from it, and only that.
    judgement = judge.judge(_result(_versions(ORDERS), missing))
    assert [(leak.app, leak.version) for _, leak in judgement.leaks] == [
        ("orders", "v1"),
        ("users", ""),
    ]


def test_a_missing_hop_hides_no_failure_and_no_leak_of_other_branches(tmp_path: Path) -> None:
    judge = _by_map(tmp_path / "all.yaml", [*pods(), *without_rule(strict(), "stock", "v2")])
    result = _result(_versions(PRICE), {STOCK: NO_ROUTE, USERS: DOWN})
    assert [leak.app for _, leak in judge.judge(result).leaks] == ["price", "stock"]
    tally = _tally(judge, result)
    assert (tally.failed, tally.failed_untold) == (1, 1)
    assert health(tally).reasons == (
        "1 of 1 request failed",
        "502 at orders's upstream 1 of 2 (stock) after web: no chain in the answer (1)",
        "502 at users.default after web: unreachable: connection refused (1)",
    )


def test_a_strict_lane_without_pods_in_one_branch_is_owed_that_failure(tmp_path: Path) -> None:
    """Lane v2 has no users: it is to fail there, and nowhere else."""
    judge = _by_map(tmp_path / "all.yaml", without_app([*pods(), *strict()], "users"))
    owed = {PRICES_USERS: NO_ROUTE, USERS: NO_ROUTE}
    judgement = judge.judge(_result(_versions(), owed))
    assert judgement.leaks == ()
    assert judgement.owed_faults == {1, 2}
    assert health(_tally(judge, _result(_versions(), owed))).holds
    tally = _tally(judge, _result(_versions(), owed | {STOCK: NO_PODS}))
    assert not health(tally).holds
    assert tally.failed == 1
    assert sum(tally.owed_faults.values()) == 2
    assert list(tally.faults) == [
        Fault(502, "orders's upstream 1 of 2 (stock)", "no healthy upstream", "web")
    ]


def _failed(*places: int) -> Result:
    failures = {
        place: Chain(error=Failure(APPS[place], "unreachable", f"number {place}"))
        for place in places
    }
    return _result(_versions(), failures)


@pytest.mark.parametrize(
    "places",
    [
        (),
        (STOCK,),
        (USERS,),
        (STOCK, USERS),
        (PRICES_USERS, USERS),
        (STOCK, PRICE, USERS),
        (STOCK, PRICES_USERS, USERS),
        (ORDERS, USERS),
    ],
)
def test_every_branch_that_fails_is_a_fault_of_the_request(places: tuple[int, ...]) -> None:
    result = _failed(*places)
    assert list(faults_of(result).values()) == [
        Fault(502, APPS[place], f"unreachable: number {place}", AFTER[place]) for place in places
    ]
    tally = _tally(ByVersion(is_strict=True), result, _result(_versions()))
    assert tally.failed == bool(places)
    assert tally.faults.total() == len(places)
    assert isolation(tally).holds


@pytest.mark.parametrize(
    ("instead", "status", "hops"),
    [
        # Someone else may answer in a branch.
        ({USERS: HELLO}, 200, []),
        ({USERS: HELLO, STOCK: DOWN}, 502, ["users.default", "web's upstream 2 of 2"]),
        (
            {ORDERS: NO_PODS, USERS: NO_PODS},
            503,
            ["web's upstream 1 of 2", "web's upstream 2 of 2"],
        ),
        ({USERS: NO_PODS}, 503, ["web's upstream 2 of 2"]),
        # What a mesh makes of the status is not what hops tell.
        ({}, 503, ["web"]),
        ({STOCK: DOWN}, 200, ["users.default"]),
        ({STOCK: NO_PODS}, 200, []),
    ],
)
def test_a_status_belongs_to_the_branches_that_may_have_failed(
    instead: dict[int, Chain], status: int, hops: list[str]
) -> None:
    result = replace(_result(_versions(), instead), status=status)
    assert [fault.hop for fault in faults_of(result).values()] == hops


def test_in_text_a_status_belongs_to_what_is_no_hop() -> None:
    lost = "-> web(version: v1, ip: 1)[-> orders(version: v1, ip: 2); no healthy upstream]"
    result = Result(0.1, 503, Chain.from_text(lost), url=URL)
    assert [str(fault.hop) for fault in faults_of(result).values()] == ["web's upstream 2 of 2"]
    whole = (
        "-> web(version: v1, ip: 1)[-> orders(version: v1, ip: 2); -> users(version: v1, ip: 3)]"
    )
    result = Result(0.1, 503, Chain.from_text(whole), url=URL)
    assert list(faults_of(result).values()) == [Fault(503, "web", "answered with this status")]


def test_a_tree_is_drawn_with_its_branches() -> None:
    result = _failed(STOCK, PRICES_USERS)
    assert outline(result) == (
        "web(v2) -> [orders(v2) -> [stock(unreachable); price(v2) -> users(unreachable)];"
        " users(v2)]"
    )
    assert outline(_result(_versions(), {ORDERS: NO_ROUTE, USERS: HELLO})) == (
        "web(v2) -> [(no hop); (no hop)]"
    )


def test_names_in_a_tree_are_not_taken_for_brackets() -> None:
    a, b = (Chain((Hop(name, "v]", "1.1.1.1"),)) for name in ("a; b", "[c"))
    assert outline(Result(0.1, 200, Chain((Hop("web", "1", "ip", upstreams=(a, b)),)))) == (
        r"web(1) -> [a\; b(v\]); \[c(v\])]"
    )
    assert outline(Result(0.1, 200, a)) == "a; b(v])"


def test_own_durations_are_without_the_longest_upstreams() -> None:
    tree = _result(_versions()).chain.tree()
    assert [hop.duration_ms for hop in tree.hops] == [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]
    assert [own for _, own in own_durations(tree)] == [1.0, 1.0, 7.0, 1.0, 5.0, 4.0]
    tree.hops[STOCK] = replace(tree.hops[STOCK], duration_ms=None)
    told = [(hop.app, own) for hop, own in own_durations(tree)]
    assert told == [("web", 1.0), ("price", 1.0), ("users", 5.0), ("users", 4.0)]


@pytest.mark.parametrize(("place", "giver"), [(PRICES_USERS, "price"), (USERS, "web")])
def test_a_header_is_lost_between_a_hop_and_its_caller(place: int, giver: str) -> None:
    without = Chain((replace(_result(_versions()).chain.tree().hops[place], lane_headers={}),))
    tally = _tally(ByVersion(), _result(_versions(), {place: without}))
    assert propagation(tally, {LANE}).reasons[0] == (
        f"{giver} received traceparent, users did not: {giver} drops it (v2; 1 request)"
    )


def test_calls_are_compared_by_their_caller() -> None:
    """web calls users of the baseline, price those of the lane: each is always the same."""
    always = [_result(_versions(USERS))] * 9
    assert isolation(_tally(ByVersion("v1"), *always)).holds
    verdict = isolation(_tally(ByVersion("v1"), *always, _result(_versions())))
    assert verdict.reasons == (
        "after web(v2) with x-lane: v2, users is v1 in 9 and v2 in 1 requests:"
        " no rule keeps the lane at users",
    )


def test_services_that_are_no_hops_are_told_for_each_branch() -> None:
    result = _result(_versions(), {STOCK: HELLO, PRICES_USERS: HELLO})
    reasons = isolation(_tally(ByVersion("v1"), result)).reasons
    for app in ("orders", "price"):
        assert (
            f"behind {app} answers a service that is no hop: what it is cannot be seen (1 request)"
        ) in reasons


@pytest.mark.parametrize(
    ("callee", "lane"), [("users.default", "v2"), ("orders", "v1"), (None, "v1"), ("gone", "v1")]
)
def test_the_lane_that_is_to_answer_is_that_of_the_call(
    tmp_path: Path, callee: str | None, lane: str
) -> None:
    """In lane v2 web calls the baseline's orders, and users of the lane."""
    judge = _by_map(tmp_path / "all.yaml", without_app([*pods(), *permissive()], "orders"))
    assert judge.serves("v2", "web", callee) == lane


def test_a_hostile_tree_is_judged_in_bounds(lanes: dict[str, Judge]) -> None:
    leaf = Chain((Hop("users", "x" * 100, "1.1.1.1", 200, 1.0),))
    failing = Chain((Hop("users", "v9", "1.1.1.1", 200, 1.0),), Failure("x", "loop", "y"))
    wide = Chain((Hop("web", "v2", "1.1.1.1", 200, upstreams=(leaf, failing) * 1000),))
    deep = Chain((Hop("price", "v3", "1.1.1.1", 200),) * 5000)
    for hostile in (wide, deep, Chain((Hop("web", "v2", "1.1.1.1", upstreams=(deep, leaf)),))):
        result = Result(0.1, 502, hostile, sent=((LANE, "v2"),), url=URL)
        for judge in (*lanes.values(), ByVersion(is_strict=True), ByVersion("v1")):
            tally = _tally(judge, result)
            judgement = judge.judge(result)
            assert len(judgement.leaks) <= MAX_LEAKS
            assert all(leak.after.count("->") <= MAX_HOPS for _, leak in judgement.leaks)
            assert max(map(len, (drawn for drawn, _ in tally.chains))) <= MAX_OUTLINE
            json.loads(Findings.of(Load(URL), tally, 1.0, None).to_json())
