"""Text and JSON of a chain can be parsed back."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockservice.chain import FAILURE_KINDS, MAX_HOPS, Chain, End, Failure, Hop, as_branch
from mockservice.serve.settings import SettingError, Settings

_PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=40)


def _allowed(setting: str, value: str) -> bool:
    try:
        Settings.from_env({"app": "a", "version": "v", setting: value})
    except SettingError:
        return False
    return True


_APPS = _PRINTABLE.filter(lambda value: _allowed("app", value))
_VERSIONS = (
    _PRINTABLE | st.sampled_from(["v1 (canary)", "a, b", "x)-> b(", "v1, fault: delay 1 s"])
).filter(lambda value: _allowed("version", value))
_IPS = st.ip_addresses().map(str)
_DELAYS = st.floats(0, 300).map(lambda seconds: f"delay {round(seconds, 3):g} s")
_ONE_HOP = st.builds(Hop, _APPS, _VERSIONS, _IPS, fault=st.none() | _DELAYS)
_HOPS = st.lists(_ONE_HOP, max_size=6).map(tuple)
_FAILURES = st.builds(
    Failure, _APPS, st.sampled_from(FAILURE_KINDS), st.sampled_from(["refused", "TLS: (a) b"])
)
_TEXTS = st.text(st.sampled_from("[];\\-> (ab:,)\n") | st.characters(codec="utf-8"), max_size=20)
_REASONS = st.text(st.sampled_from("[];\\-> (ab:,)"), max_size=20)
_ENDS = st.one_of(
    st.just(Chain()),
    st.builds(
        lambda name, kind, reason: Chain(error=Failure(name, kind, reason)),
        _APPS,
        st.sampled_from(FAILURE_KINDS),
        _REASONS,
    ),
    st.builds(lambda text: Chain(upstream_body=text or None), _TEXTS),
)


def _chain(hops: tuple[Hop, ...], end: Chain | list[Chain]) -> Chain:
    if isinstance(end, Chain):
        return replace(end, hops=hops)
    return Chain((*hops[:-1], replace(hops[-1], upstreams=tuple(end))))


# Trees take long to draw. Their names and versions vary freely, the rest is one of two.
_FEW_IPS = st.sampled_from(["10.0.0.1", "::1"])
_FEW_DELAYS = st.sampled_from([None, "delay 0.25 s"])
_BRANCHING_HOP = st.builds(Hop, _APPS, _VERSIONS, _FEW_IPS, fault=_FEW_DELAYS)


def _branching(chains: st.SearchStrategy[Chain]) -> st.SearchStrategy[Chain]:
    upstreams = st.lists(chains, min_size=2, max_size=4)
    return st.builds(_chain, st.lists(_BRANCHING_HOP, min_size=1, max_size=3).map(tuple), upstreams)


_BRANCHES = st.builds(_chain, st.lists(_BRANCHING_HOP, max_size=2).map(tuple), _ENDS).filter(
    # After a hop, or at the start, a foreign answer must not look like one more hop.
    lambda chain: (
        Chain.from_text(f"{chain.upstream_body or ''}").hops == ()
        and Chain.from_text(f"{chain.upstream_body or ''}").error is None
    )
)
_TREES = _branching(st.recursive(_BRANCHES, _branching, max_leaves=6))

_FULL_HOPS = st.builds(
    Hop,
    st.text(),
    st.text(),
    st.text(),
    st.none() | st.integers(),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.dictionaries(st.text(), st.text()),
    st.none() | st.text(),
    st.none() | st.text(),
)


@given(_HOPS, st.none() | _FAILURES)
def test_a_chain_reads_back_from_its_text(hops: tuple[Hop, ...], error: Failure | None) -> None:
    chain = Chain(hops, error)
    assert Chain.from_text(str(chain)) == chain


@given(_TREES)
@settings(max_examples=40)
def test_a_tree_reads_back_from_its_text(chain: Chain) -> None:
    assert Chain.from_text(str(chain)) == chain


@given(_TREES)
@settings(max_examples=40)
def test_a_tree_reads_back_from_its_json(chain: Chain) -> None:
    assert Chain.from_json(chain.to_json()) == chain


@given(_BRANCHES | _TREES)
@settings(max_examples=40)
def test_what_an_upstream_said_reads_back_from_inside_brackets(chain: Chain) -> None:
    said = as_branch(str(chain).encode("utf-8", "surrogateescape"))
    if (chain.upstream_body or "").startswith("["):
        # May be a tree of foreign answers.
        return
    assert said.decode("utf-8", "surrogateescape") == chain.as_branch()
    line = f"-> web(version: v1, ip: ::1)[{chain.as_branch()}; ]"
    assert Chain.from_text(line).hops[0].upstreams == (chain, Chain())


@given(st.lists(_FULL_HOPS, max_size=4).map(tuple), st.none() | _FAILURES, st.none() | st.text())
def test_a_chain_reads_back_from_its_json(
    hops: tuple[Hop, ...], error: Failure | None, upstream_body: str | None
) -> None:
    chain = Chain(hops, error, upstream_body)
    assert Chain.from_json(chain.to_json()) == chain


def test_the_walkthroughs_line_reads_as_three_hops() -> None:
    line = (
        "-> mocka(version: v2, ip: 10.0.239.73)-> mockb(version: v2, ip: 10.0.239.136)"
        "-> mockc(version: v2, ip: 10.0.239.139)"
    )
    chain = Chain.from_text(line)
    assert [hop.app for hop in chain.hops] == ["mocka", "mockb", "mockc"]
    assert {hop.version for hop in chain.hops} == {"v2"}
    assert str(chain) == line


_WEB = Hop("web", "v1", "10.0.0.1")
_ORDERS = Hop("orders", "v1", "10.0.0.2")
_STOCK = Hop("stock", "v1", "10.0.0.3")
_USERS = Hop("users", "v2", "10.0.0.4")
_SHOP = Chain((replace(_WEB, upstreams=(Chain((_ORDERS, _STOCK)), Chain((_USERS,)))),))
_SHOP_TEXT = (
    "-> web(version: v1, ip: 10.0.0.1)[-> orders(version: v1, ip: 10.0.0.2)"
    "-> stock(version: v1, ip: 10.0.0.3); -> users(version: v2, ip: 10.0.0.4)]"
)


def test_several_upstreams_stand_in_brackets() -> None:
    assert str(_SHOP) == _SHOP_TEXT
    assert Chain.from_text(_SHOP_TEXT) == _SHOP


def test_in_json_the_hop_has_its_upstreams() -> None:
    hop = json.loads(_SHOP.to_json())["hops"][0]
    assert [[one["app"] for one in chain["hops"]] for chain in hop["upstreams"]] == [
        ["orders", "stock"],
        ["users"],
    ]
    assert "upstreams" not in hop["upstreams"][1]["hops"][0]


def test_a_tree_tells_callers_and_ends() -> None:
    failed = Chain((_ORDERS,), Failure("stock", "timeout", "slow"))
    chain = Chain((_WEB, replace(_ORDERS, upstreams=(failed, Chain((_USERS,)), Chain()))))
    tree = chain.tree()
    assert [hop.app for hop in tree.hops] == ["web", "orders", "orders", "users"]
    assert tree.callers == [None, 0, 1, 1]
    assert tree.ends == [End(2, failed.error, None), End(3, None, None), End(1, None, None)]
    assert Chain(upstream_body="x").tree() == ([], [], [End(None, None, "x")])


def test_what_is_special_inside_brackets_is_escaped_there() -> None:
    foreign = Chain(upstream_body="-> [a; b] \\")
    failed = Chain(error=Failure("users", "invalid", "x); -> y(version: v1, ip: ::1)]"))
    chain = Chain((replace(_WEB, upstreams=(foreign, failed)),))
    assert str(chain) == (
        "-> web(version: v1, ip: 10.0.0.1)[\\-> \\[a\\; b\\] \\\\"
        "; -> users(invalid: x)\\; -> y(version: v1, ip: ::1)\\])]"
    )
    assert Chain.from_text(str(chain)) == chain


@pytest.mark.parametrize(
    "rest",
    [
        "[",
        "[]",
        "[-> b(version: v1, ip: ::1)]",
        "[-> b(version: v1, ip: ::1); -> c(version: v1, ip: ::1)",
        "[-> b(version: v1, ip: ::1); -> c(version: v1, ip: ::1)]]",
        "[-> b(version: v1, ip: ::1); -> c(version: v1, ip: ::1)] ",
        "[-> b(version: v1, ip: ::1);-> c(version: v1, ip: ::1)]",
        "[1,2]",
        "[a;b]",
        "[a; b\\]",
        "[" * 10_000,
        "[" * 10_000 + "]" * 10_000,
        "[" + "; ".join(["x"] * 10_000),
        "[-> b(version: v1, ip: ::1)" * 10_000 + "; x]" * 10_000,
        "[a" + "; -> b(version: v1" * 50_000,
        "[a" + "; -> b" * 100_000,
        "[a" + "; -> b(version: , ip: " * 50_000,
        "[a" + "\\" * 500_000,
    ],
    ids=lambda rest: f"{rest[:30]}:{len(rest)}",
)
def test_brackets_that_are_no_tree_are_the_upstreams_body(rest: str) -> None:
    assert Chain.from_text(f"{_WEB}{rest}") == Chain((_WEB,), upstream_body=rest)


def test_trees_nest_as_deep_as_a_chain_may_be_long() -> None:
    chain = Chain((_WEB,))
    for _ in range(MAX_HOPS - 1):
        chain = Chain((replace(_WEB, upstreams=(chain, Chain((_WEB,)))),))
    assert Chain.from_text(str(chain)) == Chain.from_json(chain.to_json()) == chain
    deeper = Chain((replace(_WEB, upstreams=(chain, Chain())),))
    assert Chain.from_text(str(deeper)).hops == (_WEB,)
    with pytest.raises(ValueError, match="not a chain"):
        Chain.from_json(deeper.to_json())


@pytest.mark.parametrize("text", ["", "hello", "-> ", "-> mocka(version: v1)", "<html>"])
def test_text_that_is_not_a_chain_is_the_upstreams_body(text: str) -> None:
    assert Chain.from_text(text) == Chain(upstream_body=text or None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"[]",
        b"null",
        b"{}",
        b'{"hops": {"app": "a"}}',
        b'{"hops": {}}',
        b'{"hops": ""}',
        b'{"hops": null}',
        b'{"hops": [{"app": "a", "version": "v", "ip": "::1", "duration_ms": NaN}]}',
        b'{"hops": [1]}',
        b'{"hops": [{"app": "a", "version": "v1"}]}',
        b'{"hops": [{"app": 1, "version": "v1", "ip": "::1"}]}',
        b'{"hops": [{"app": "a", "version": "v", "ip": "::1", "status": "200"}]}',
        b'{"hops": [{"app": "a", "version": "v", "ip": "::1", "lane_headers": {"a": 1}}]}',
        b'{"hops": [{"app": "a", "version": "v", "ip": "::1", "fault": {}}]}',
        b'{"hops": [], "error": {"hop": "a"}}',
        b'{"hops": [], "upstream_body": 1}',
        b'{"hops": [{"app": "a", "version": "v", "ip": "::1", "upstreams": {}}]}',
        b'{"hops": [{"app": "a", "version": "v", "ip": "::1", "upstreams": [{"hops": []}]}]}',
        b'{"hops": [{"app": "a", "version": "v", "ip": "::1", "upstreams": [{}, {}]}]}',
        b'{"hops": [{"app": "a", "version": "v", "ip": "::1", "upstreams": [{"hops": []}, '
        b'{"hops": []}]}], "upstream_body": ""}',
        b'{"hops": [{"app": "a", "version": "v", "ip": "::1", "upstreams": [{"hops": []}, '
        b'{"hops": []}]}, {"app": "a", "version": "v", "ip": "::1"}]}',
        b"\xff\xfe",
        b"[" * 500_000,
    ],
)
def test_json_of_another_shape_is_not_a_chain(body: bytes) -> None:
    with pytest.raises(ValueError, match="not a chain"):
        Chain.from_json(body)


def test_an_injected_delay_is_part_of_the_hop() -> None:
    line = "-> mockb(version: v3, ip: 10.0.0.1, fault: delay 0.312 s)-> mockb(injected: abort 503)"
    hop = Hop("mockb", "v3", "10.0.0.1", fault="delay 0.312 s")
    assert Chain.from_text(line) == Chain((hop,), Failure("mockb", "injected", "abort 503"))


def test_a_hop_of_a_later_version_still_reads() -> None:
    hop = {"app": "a", "version": "v1", "ip": "::1", "something_new": [1]}
    assert Chain.from_json(json.dumps({"hops": [hop]}).encode()) == Chain((Hop("a", "v1", "::1"),))
