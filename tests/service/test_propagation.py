"""Which headers go on to the upstream, through three hops: each one carried, each one not."""

from collections.abc import Iterator

import pytest

from tests.running import Peer, answering, exchange, ok, peer, running_chain

_CARRIED = """
traceparent tracestate baggage
b3 x-b3-traceid x-b3-spanid x-b3-parentspanid x-b3-sampled x-b3-flags
x-request-id x-ot-span-context
x-datadog-trace-id x-datadog-parent-id x-datadog-sampling-priority
uber-trace-id x-cloud-trace-context grpc-trace-bin x-amzn-trace-id
sw8 sw8-correlation sw8-x
x-asm-prefer-tag my-trace-id my-request-id end-user
x-lane x-env x-version version env
""".split()

_NOT_CARRIED = """
authorization cookie user-agent referer origin from forwarded x-forwarded-for via x-real-ip
accept-language content-type content-encoding if-none-match range x-other x-lane2 x-envoy-x env2
keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer http2-settings
""".split()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Peer]:
    with peer(answering(ok(b"", more="Connection: close\r\n"))) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def entry(upstream: Peer) -> Iterator[str]:
    with running_chain(upstream.url) as hops:
        yield hops[0].address


@pytest.fixture(scope="module")
def entry_with_lane_headers(upstream: Peer) -> Iterator[str]:
    with running_chain(upstream.url, lane_headers="Cookie, X-Team-*, c*") as hops:
        yield hops[0].address


def _after_three_hops(entry: str, upstream: Peer, fields: list[bytes]) -> list[bytes]:
    """The header lines that the upstream of the third hop receives."""
    head = b"".join(field + b"\r\n" for field in fields)
    answer = exchange(
        entry, b"GET / HTTP/1.1\r\nHost: mocka\r\nConnection: close\r\n" + head + b"\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    return upstream.requests[-1].split(b"\r\n")[1:-2]


def _named(lines: list[bytes], name: bytes) -> list[bytes]:
    return [line for line in lines if line.lower().startswith(name.lower() + b":")]


@pytest.mark.parametrize("name", _CARRIED)
def test_carried(entry: str, upstream: Peer, name: str) -> None:
    for spelling in (name, name.upper(), name.title()):
        field = f"{spelling}: value; of={name}".encode()
        assert _named(_after_three_hops(entry, upstream, [field]), name.encode()) == [field]


@pytest.mark.parametrize("name", _NOT_CARRIED)
def test_not_carried(entry: str, upstream: Peer, name: str) -> None:
    field = f"{name}: secret".encode()
    assert not _named(_after_three_hops(entry, upstream, [field]), name.encode())


def test_the_upstream_gets_what_is_carried_and_the_hops_own_headers(
    entry: str, upstream: Peer
) -> None:
    lines = _after_three_hops(entry, upstream, [b"x-lane: v2", b"x-secret: s", b"baggage: a=b"])
    names = [line.split(b":")[0].lower() for line in lines]
    assert names == [b"host", b"accept-encoding", b"accept", b"x-mock-hops", b"x-lane", b"baggage"]
    assert _named(lines, b"host") == [f"Host: {upstream.address}:8000".encode()]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"a  b\tc",
        b"caf\xc3\xa9",
        b"caf\xe9 \xff\x80",
        b'"quoted, text"; a=b,c',
        b"k=" + b"x" * 8188,
        bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100)),
    ],
)
def test_values_are_carried_byte_for_byte(entry: str, upstream: Peer, value: bytes) -> None:
    lines = _after_three_hops(entry, upstream, [b"baggage: " + value])
    assert _named(lines, b"baggage") == [b"baggage: " + value]


def test_repeated_headers_are_all_carried_in_order(entry: str, upstream: Peer) -> None:
    fields = [b"baggage: a=1", b"X-Lane: v2", b"Baggage: b=2", b"x-lane: v1", b"baggage: a=1"]
    assert _after_three_hops(entry, upstream, fields)[-5:] == fields


@pytest.mark.parametrize("name", ["cookie", "COOKIE", "x-team-a", "X-Team-B", "cache-control"])
def test_lane_headers_are_carried_too(
    entry_with_lane_headers: str, upstream: Peer, name: str
) -> None:
    field = f"{name}: v".encode()
    lines = _after_three_hops(entry_with_lane_headers, upstream, [field])
    assert _named(lines, name.encode()) == [field]


@pytest.mark.parametrize("name", ["connection", "content-length", "x-teams"])
def test_a_prefix_carries_no_header_that_ends_at_each_hop(
    entry_with_lane_headers: str, upstream: Peer, name: str
) -> None:
    lines = _after_three_hops(entry_with_lane_headers, upstream, [f"{name}: 0".encode()])
    assert not _named(lines, name.encode())
