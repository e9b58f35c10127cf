"""Which headers go on to the upstream, through three hops, and which do not."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mockservice.propagation import LISTS, Headers, within_limits
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

# The headers of its own that a hop sends.
_OWN = [b"host", b"accept-encoding", b"accept", b"x-mock-hops"]


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
    assert names == [*_OWN, b"x-lane", b"baggage"]
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


_FIELDS = [b"X-Lane: v2", b"x-env: blue", b"baggage: a=b", b"traceparent: t", b"baggage: c=d"]


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ([b"Connection: x-lane"], b"x-lane"),
        ([b"connection: close, X-LANE"], b"x-lane"),
        ([b"CONNECTION: \t X-Lane \t,, close"], b"x-lane"),
        ([b"Connection: close,BAGGAGE,te"], b"baggage"),
        ([b"Connection: traceparent"], b"traceparent"),
        ([b"Connection: te", b"Connection: x-env,x-lane"], b"x-env x-lane"),
        ([b"Connection: baggage", b"Connection: close"], b"baggage"),
        ([b"Connection: x-lane2, lane, x-lane: , x lane, \xff"], b""),
        ([b"Connection: Keep-Alive", b"Connection:"], b""),
    ],
)
def test_headers_that_connection_names_are_not_carried(
    entry: str, upstream: Peer, lines: list[bytes], named: bytes
) -> None:
    kept = [it for it in _FIELDS if it.lower().split(b":")[0] not in named.split()]
    for fields in ([*lines, *_FIELDS], [*_FIELDS, *lines]):
        after = _after_three_hops(entry, upstream, fields)
        assert [line for line in after if line in _FIELDS] == kept
        assert len(after) == len(_OWN) + len(kept)


def test_what_a_hop_reads_of_headers_that_connection_names_is_still_read(
    entry: str, upstream: Peer
) -> None:
    names = b"Connection: accept, host, x-mock-hops, content-length, transfer-encoding"
    hops = b"x-mock-hops: " + b",".join(b"%08x" % number for number in range(9))
    fields = [names, b"Accept: application/json", hops, b"Content-Length: 0"]
    after = _after_three_hops(entry, upstream, fields)
    assert _named(after, b"accept") == [b"Accept: application/json"]
    assert _named(after, b"host") == [f"Host: {upstream.address}:8000".encode()]
    [line] = _named(after, b"x-mock-hops")
    assert line.startswith(hops + b",")
    assert line.count(b",") == 8 + 3


def _members(lines: list[bytes]) -> list[bytes]:
    """The members of a list, whatever fields they stand in."""
    return [member for line in lines for member in line.partition(b": ")[2].split(b",")]


def _keys(count: int, size: int = 5) -> list[bytes]:
    """Members of `size` bytes, each of another key."""
    return [(b"k%03d=" % number).ljust(size, b"x") for number in range(count)]


_LONG = [b"long%d=" % number + b"x" * 200 for number in range(3)]


@pytest.mark.parametrize(
    ("name", "sent", "kept"),
    [
        (b"baggage", _keys(64), _keys(64)),
        (b"baggage", _keys(65), _keys(64)),
        (b"baggage", _keys(2000), _keys(64)),
        (b"baggage", [*_keys(32, 255), b"y"], _keys(32, 255)),
        (b"baggage", _keys(10, 1000), _keys(8, 1000)),
        (b"baggage", [b"a=1", b"b=" + b"x" * 8192, b"c=1"], [b"a=1", b"c=1"]),
        (b"baggage", [b"b=" + b"x" * 8192], []),
        (b"tracestate", _keys(32), _keys(32)),
        (b"tracestate", _keys(40), _keys(32)),
        (b"tracestate", _keys(16) + _LONG + _keys(14), _keys(16) + _LONG[:2] + _keys(14)),
        (b"tracestate", [*_LONG, *_keys(32)], _keys(32)),
        (b"tracestate", _keys(30, 500), _keys(16, 500)),
    ],
)
@pytest.mark.parametrize("fields", [1, 3], ids=["one field", "three fields"])
def test_lists_go_on_up_to_their_limits_and_in_whole_members(
    entry: str, upstream: Peer, name: bytes, sent: list[bytes], kept: list[bytes], fields: int
) -> None:
    place = -(-len(sent) // fields)
    lines = [
        b"%b: %b" % (name, b",".join(sent[start : start + place]))
        for start in range(0, len(sent), place)
    ]
    after = _named(_after_three_hops(entry, upstream, [b"x-lane: v1", *lines, b"env: e"]), name)
    assert _members(after) == kept
    if sent == kept:
        assert after == lines


def test_lane_headers_that_the_next_hop_could_not_take_are_refused(entry: str) -> None:
    for count, size in ((65, 1), (4, 9000)):
        lines = b"".join(b"x-env: %b\r\n" % (b"x" * size) for _ in range(count))
        answer = exchange(entry, b"GET / HTTP/1.1\r\nHost: mocka\r\n" + lines + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"-> mocka(rejected: " in answer


def test_as_many_lane_headers_as_are_taken_pass_all_hops(entry: str, upstream: Peer) -> None:
    many = [b"x-lane: %d" % number for number in range(64)]
    assert _after_three_hops(entry, upstream, many)[-64:] == many
    large = [b"x-lane: " + b"x" * 16000, b"x-env: " + b"y" * 16000]
    assert _after_three_hops(entry, upstream, large)[-2:] == large


_MEMBERS = st.lists(
    st.binary(max_size=300).map(lambda member: member.replace(b",", b"").strip(b" \t")),
    max_size=100,
)


@given(st.lists(st.tuples(st.sampled_from([b"baggage", b"TraceState", b"x-lane"]), _MEMBERS)))
def test_members_are_kept_whole_in_order_and_within_limits(
    lists: list[tuple[bytes, list[bytes]]],
) -> None:
    headers = [(name, b",".join(members)) for name, members in lists]
    bounded = within_limits(headers)
    for name, limit in LISTS.items():
        sent, kept = (_list_of(fields, name) for fields in (headers, bounded))
        assert len(kept) <= limit.members
        assert len(b",".join(kept)) <= limit.size
        rest = iter(sent)
        assert all(member in rest for member in kept)
    others = [header for header in headers if header[0] == b"x-lane"]
    assert [header for header in bounded if header[0] == b"x-lane"] == others
    assert within_limits(bounded) == bounded


def _list_of(headers: Headers, name: bytes) -> list[bytes]:
    values = [value for header, value in headers if header.lower() == name]
    return [member for value in values for member in value.split(b",") if member]
