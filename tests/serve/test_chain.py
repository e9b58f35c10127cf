"""Text and JSON of a chain can be parsed back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mockservice.chain import FAILURE_KINDS, Chain, Failure, Hop
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
_HOPS = st.lists(st.builds(Hop, _APPS, _VERSIONS, _IPS, fault=st.none() | _DELAYS), max_size=6).map(
    tuple
)
_FAILURES = st.builds(
    Failure, _APPS, st.sampled_from(FAILURE_KINDS), st.sampled_from(["refused", "TLS: (a) b"])
)
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
