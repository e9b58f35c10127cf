"""The verdicts, as tables: results in, what holds and why not out."""

import pytest

from mockservice.chain import Chain, Failure, Hop
from mockservice.probe.judge import ByVersion
from mockservice.probe.load import Result
from mockservice.probe.result import faults_of, lane_of, leaving_hops, own_durations
from mockservice.probe.split import split_of
from mockservice.probe.tally import Tally, quantile
from mockservice.probe.verdicts import Verdict, health, isolation, judge_split, propagation
from tests.probe.gateway import TRACE, hops

_DOWN = Failure("mockb", "unreachable", "connection refused")


@pytest.mark.parametrize(
    ("versions", "baseline", "lane", "left"),
    [
        ("v1 v1 v1", None, "v1", None),
        ("v2 v2 v2", None, "v2", None),
        ("v2", None, "v2", None),
        ("v2 v1 v2", None, "v2", "mockb"),
        ("v2 v2 v1", None, "v2", "mockc"),
        ("v1 v3 v1", None, "v1", "mockb"),
        ("", None, None, None),
        # s1, s2 and s3 of the permissive layout.
        ("v1 v1 v1", "v1", "v1", None),
        ("v2 v1 v2", "v1", "v2", None),
        ("v1 v3 v1", "v1", "v3", None),
        ("v2 v3 v2", "v1", None, "mockb"),
        ("v1 v2 v3", "v1", None, "mockc"),
        ("v2 v1 v3", "v1", None, "mockc"),
        ("", "v1", None, None),
    ],
)
def test_the_lane_of_a_chain_and_the_first_hop_that_left_it(
    versions: str, baseline: str | None, lane: str | None, left: str | None
) -> None:
    tree = Chain(hops(versions)).tree()
    leaving = [tree.hops[place].app for place in leaving_hops(tree, baseline)]
    assert lane_of(hops(versions), baseline, failed=False) == lane
    assert leaving == ([left] if left else [])


@pytest.mark.parametrize(
    ("versions", "baseline", "lane"),
    [("v2", None, "v2"), ("v2", "v1", "v2"), ("v1", "v1", None), ("v1 v3", "v1", "v3")],
)
def test_the_lane_of_a_failed_chain_is_what_its_hops_tell(
    versions: str, baseline: str | None, lane: str | None
) -> None:
    assert lane_of(hops(versions), baseline, failed=True) == lane


def test_a_chain_that_mixes_versions_is_a_leak_with_the_hop_that_left() -> None:
    tally = _tally(*["v1 v1 v1"] * 5, "v2 v2 v2", "v2 v1 v2", "v2 v1 v2")
    assert isolation(tally) == Verdict(
        "isolation",
        False,
        ("mockb(v1) left lane v2: mocka(v2) -> mockb(v1) -> mockc(v2) (2 requests)",),
    )


@pytest.mark.parametrize(
    ("chains", "baseline", "holds"),
    [
        (["v1 v1 v1", "v2 v2 v2"], None, True),
        (["v1 v1 v1", "v2 v1 v2"], None, False),
        (["v1 v1 v1", "v2 v1 v2"], "v1", True),
        (["v1 v1 v1", "v2 v3 v2"], "v1", False),
        (["v1 v1 v1", "v2 v1 v2"], "v3", False),
        ([], None, None),
        ([""], "v1", None),
    ],
)
def test_isolation(chains: list[str], baseline: str | None, holds: bool | None) -> None:
    assert isolation(_tally(*chains, baseline=baseline)).holds is holds


_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_CHILD = "00-4bf92f3577b34da6a3ce929d0e0e4736-53995c3f42cd8ad8-01"
_OTHER = "00-11111111111111111111111111111111-53995c3f42cd8ad8-01"


@pytest.mark.parametrize(
    ("received", "holds", "reason"),
    [
        (
            [{"traceparent": _TRACE, "x-asm-prefer-tag": "v2"}] * 3,
            True,
            "traceparent, x-asm-prefer-tag reached mocka, mockb, mockc",
        ),
        (
            [{"traceparent": _TRACE, "x-asm-prefer-tag": "v2"}] * 2 + [{"traceparent": _TRACE}],
            False,
            "mockb received x-asm-prefer-tag, mockc did not: mockb drops it (v1; 1 request)",
        ),
        (
            [{"traceparent": _TRACE}, {}, {}],
            False,
            "mocka received traceparent, mockb did not: mocka drops it (v1; 1 request)",
        ),
        # A hop that traces gives a span of its own, in the same trace.
        ([{"traceparent": _TRACE}, {"traceparent": _CHILD}], True, "traceparent reached mocka, m"),
        # A sidecar that traces begins anew where the hop dropped the header.
        (
            [{"traceparent": _TRACE}, {"traceparent": _OTHER}],
            False,
            "mocka received traceparent, mockb received another value: mocka does not pass it on",
        ),
        (
            [{"traceparent": _TRACE, "x-request-id": "1"}, {"traceparent": _TRACE}],
            False,
            "mocka received x-request-id, mockb did not: mocka drops it",
        ),
        (
            [
                {"traceparent": _TRACE, "x-request-id": "1"},
                {"traceparent": _TRACE, "x-request-id": "2"},
            ],
            False,
            "mocka received x-request-id, mockb received another value",
        ),
        (
            [
                {"traceparent": _TRACE, "b3": "80f198ee56343ba8-e457b5a2e4d86bd1-1"},
                {"traceparent": _TRACE, "b3": "80f198ee56343ba8-05e3ac9a4f6e3b90-1"},
            ],
            True,
            "b3, traceparent reached",
        ),
        (
            [
                {"traceparent": _TRACE, "x-b3-spanid": "1", "x-b3-parentspanid": "2"},
                {"traceparent": _TRACE, "x-b3-spanid": "3"},
            ],
            True,
            "traceparent, x-b3-spanid reached mocka, mockb",
        ),
        # What a hop is not known to carry it may have received without a word of it.
        (
            [{"traceparent": _TRACE, "x-mine": "1"}, {"traceparent": _TRACE}],
            False,
            "mocka received x-mine, mockb did not: mocka drops it, or mockb does not carry it",
        ),
        (
            [{"x-asm-prefer-tag": "v1"}],
            False,
            "traceparent was sent, mocka did not receive it: the gateway drops it (1)",
        ),
        # What the mesh itself adds on the way is no loss.
        (
            [{"traceparent": _TRACE}, {"traceparent": _TRACE, "x-asm-prefer-tag": "v1"}],
            True,
            "traceparent reached mocka, mockb",
        ),
    ],
)
def test_propagation(received: list[dict[str, str]], holds: bool, reason: str) -> None:
    chain = tuple(
        Hop(app, "v1", "10.0.0.1", 200, 1.0, headers)
        for app, headers in zip(("mocka", "mockb", "mockc"), received, strict=False)
    )
    verdict = propagation(_tally_of(Result(0.1, 200, Chain(chain))), {"traceparent"})
    assert verdict.holds is holds
    assert verdict.reasons[0].startswith(reason)


def test_hops_that_drop_a_header_are_named_with_all_their_versions() -> None:
    tally = Tally(ByVersion())
    for version in ("v1", "v2", "v2"):
        first, second = hops(f"{version} {version}")
        second = Hop(second.app, second.version, second.ip, 200, 1.0, {})
        tally.add(Result(0.1, 200, Chain((first, second))))
    assert propagation(tally, {"traceparent"}).reasons == (
        "mocka received traceparent, mockb did not: mocka drops it (v1, v2; 3 requests)",
    )


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        (
            Chain((Hop("mocka", "v1", "1.1.1.1"), Hop("mockb", "v1", "1.1.1.2"))),
            "mocka, mockb answered in text, which does not tell the headers received",
        ),
        (Chain(upstream_body="hello"), "no chain came back"),
    ],
)
def test_propagation_is_unknown_where_nobody_tells(chain: Chain, reason: str) -> None:
    verdict = propagation(_tally_of(Result(0.1, 200, chain)), {"traceparent"})
    assert (verdict.holds, verdict.reasons) == (None, (reason,))


def test_propagation_is_unknown_beyond_hops_that_tell() -> None:
    chain = Chain((*hops("v1"), Hop("mockb", "v1", "1.1.1.2")))
    verdict = propagation(_tally_of(Result(0.1, 200, chain)), {"traceparent"})
    assert verdict.holds is None
    assert verdict.reasons == (
        "traceparent reached mocka",
        "mockb answered in text, which does not tell the headers received",
    )


def test_a_header_that_no_hop_carries_is_neither_lost_nor_passed_on() -> None:
    verdict = propagation(_tally("v1 v1"), {"traceparent", "user-agent", "host"})
    assert verdict.holds is None
    assert verdict.reasons[1:] == ("user-agent was sent, but no hop carries it (see lane_headers)",)


@pytest.mark.parametrize(
    ("result", "fault"),
    [
        (Result(0.1, 200, Chain(hops("v1 v1"))), None),
        # The last hop's upstream may be some other service.
        (Result(0.1, 200, Chain(hops("v1"), upstream_body="hello")), None),
        (Result(0.1, error="connection refused"), (None, "gateway", "connection refused")),
        (
            Result(0.1, 502, Chain(hops("v1"), _DOWN)),
            (502, "mockb", "unreachable: connection refused"),
        ),
        # A mesh may answer with an error as if all were well.
        (
            Result(0.1, 200, Chain(hops("v1"), _DOWN)),
            (200, "mockb", "unreachable: connection refused"),
        ),
        (
            Result(0.1, 503, Chain(hops("v1"), upstream_body="no healthy\nupstream")),
            (503, "mocka's upstream", "no healthy upstream"),
        ),
        (Result(0.1, 500, Chain(hops("v1 v1"))), (500, "mockb", "answered with this status")),
        (
            Result(0.1, 404, Chain(upstream_body="<h1>404</h1>")),
            (404, "gateway", "no chain in the answer: <h1>404</h1>"),
        ),
        (Result(0.1, 200, Chain()), (200, "gateway", "no chain in the answer")),
        (Result(0.1, 302, Chain()), (302, "gateway", "no chain in the answer")),
    ],
)
def test_a_request_fails_by_status_and_hop(
    result: Result, fault: tuple[int | None, str, str] | None
) -> None:
    found = next(iter(faults_of(result).values()), None)
    assert (None if found is None else (found.status, found.hop, found.reason)) == fault


def test_health_counts_failures_with_the_most_frequent_first() -> None:
    down = Result(0.1, 502, Chain(hops("v1"), _DOWN))
    verdict = health(_tally_of(Result(0.1, error="connection refused"), down, down))
    assert verdict == Verdict(
        "health",
        False,
        (
            "3 of 3 requests failed",
            "502 at mockb: unreachable: connection refused (2)",
            "at gateway: connection refused (1)",
        ),
    )


@pytest.mark.parametrize(("chains", "holds"), [(["v1 v1"], True), ([], False), ([""], False)])
def test_health(chains: list[str], holds: bool) -> None:
    assert health(_tally(*chains)).holds is holds


def test_a_strict_lane_counts_where_a_hop_of_it_is_down() -> None:
    tally = _tally("v1 v1")
    tally.add(Result(0.1, 502, Chain(hops("v2"), _DOWN)))
    assert tally.lanes == {"v1": 1, "v2": 1}
    assert isolation(tally).holds is True


def test_split_says_which_lanes_are_off_and_by_which_test() -> None:
    verdict = judge_split(split_of({"v1": 70, "v2": 30}, {"v1": 1, "v2": 1}))
    assert verdict == Verdict(
        "split",
        False,
        (
            "v1: 70 of 100 requests, expected about 50",
            "v2: 30 of 100 requests, expected about 50",
            "p = 7.9e-05, exact binomial test, level 0.001",
        ),
    )


def test_split_says_how_many_requests_it_would_take_to_tell() -> None:
    verdict = judge_split(split_of({"v1": 52, "v2": 48}, {"v1": 1, "v2": 1}))
    assert verdict == Verdict(
        "split",
        True,
        (
            "v1:v2 came up 52:48, as expected (p = 0.76, exact binomial test, level 0.001)",
            "100 requests tell a lane that is 23 points off; 5 points take about 2085",
            "telling 52:48 from 50:50 takes about 13060 requests",
        ),
    )


def test_own_durations_are_without_the_next_hops() -> None:
    times = [9.5, 4.0, 1.0]
    chain = Chain(tuple(Hop("a", "v1", "1.1.1.1", 200, duration) for duration in times))
    assert [own for _, own in own_durations(chain.tree())] == [5.5, 3.0, 1.0]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1.0, 10**400, None])
def test_durations_that_cannot_be_are_left_out(wrong: float | None) -> None:
    chain = Chain((Hop("a", "v1", "1.1.1.1", 200, 5.0), Hop("b", "v1", "1.1.1.1", 200, wrong)))
    assert list(own_durations(chain.tree())) == []


@pytest.mark.parametrize(
    ("values", "part", "value"),
    [([3.0], 0.5, 3.0), ([4.0, 1.0, 2.0, 3.0], 0.5, 2.0), (list(range(1, 101)), 0.99, 99)],
)
def test_quantiles_are_values_seen(values: list[float], part: float, value: float) -> None:
    assert quantile(values, part) == value


def _tally(*chains: str, baseline: str | None = None) -> Tally:
    """Of chains whose lane is told by a header of its own."""
    lanes = (hops(one, {"traceparent": TRACE, "x-lane": one}) for one in chains)
    return _tally_of(*(Result(0.1, 200, Chain(one)) for one in lanes), baseline=baseline)


def _tally_of(*results: Result, baseline: str | None = None) -> Tally:
    tally = Tally(ByVersion(baseline, is_strict=baseline is None))
    for result in results:
        tally.add(result)
    return tally
