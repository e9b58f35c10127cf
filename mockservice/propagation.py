"""Propagation: which headers of the inbound request go on to the upstream, and how much of them.

Names are matched without case; names and values are bytes and go on as they came, lists beyond
their limits less the members that are too many.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Headers = list[tuple[bytes, bytes]]
"""Header fields in the order in which they came, repeated ones included."""

HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name: a token (RFC 9110 section 5.6.2)."""

B3_HEADERS: Final = frozenset(
    (b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid", b"x-b3-sampled", b"x-b3-flags")
)
W3C_TRACE_HEADERS: Final = frozenset((b"traceparent", b"tracestate"))

CARRIED: Final = frozenset(
    (
        *W3C_TRACE_HEADERS,
        b"baggage",
        *B3_HEADERS,
        # Envoy
        b"x-request-id",
        b"x-ot-span-context",
        # Datadog
        b"x-datadog-trace-id",
        b"x-datadog-parent-id",
        b"x-datadog-sampling-priority",
        # Jaeger
        b"uber-trace-id",
        # Google
        b"x-cloud-trace-context",
        b"grpc-trace-bin",
        # AWS
        b"x-amzn-trace-id",
        # SkyWalking
        b"sw8",
        b"sw8-correlation",
        b"sw8-x",
        # ASM
        b"x-asm-prefer-tag",
        b"my-trace-id",
        b"my-request-id",
        # Istio's samples
        b"end-user",
        # Lane tags in the wild
        b"x-lane",
        b"x-env",
        b"x-version",
        b"version",
        b"env",
    )
)
"""What every hop carries."""

HOPS_HEADER: Final = b"x-mock-hops"
"""The hops that a request has passed, by their ids, so that a chain in a circle is cut."""

FAULT_HEADER: Final = b"x-mock-fault"
"""The faults that a request asks for (see `mockservice.serve.faults`). Carried only where
`fault_header` is on."""

NEVER_CARRIED: Final = frozenset(
    (
        # Hop-by-hop (RFC 9110 section 7.6.1, and what RFC 2616 and RFC 7540 add).
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
        # About the inbound message itself.
        b"host",
        b"content-length",
        b"expect",
        # The hop's own words to its upstream.
        b"accept",
        b"accept-encoding",
        HOPS_HEADER,
    )
)
"""What no setting makes a hop carry."""


class Limit(NamedTuple):
    """What of a list goes on at most, all its fields together; a longer one loses members."""

    members: int
    size: int
    """Bytes, commas included."""
    first: int
    """Members of more bytes than this are the first to be dropped."""


LISTS: Final = {
    # W3C Baggage section 3.3.2: at least so much of it has to go on.
    b"baggage": Limit(members=64, size=8192, first=8192),
    # W3C Trace Context sections 3.3.1.1 and 3.3.1.5, which has no greatest size, but the least.
    b"tracestate": Limit(members=32, size=8192, first=128),
}
"""The carried headers that are lists of members between commas."""

ANY_LIST: Final = Limit(
    min(limit.members for limit in LISTS.values()), min(limit.size for limit in LISTS.values()), 0
)
"""What is within this limit is within that of every list."""

MAX_LANE_HEADERS: Final = 64
"""Fields that are carried. A sidecar adds some, and takes 100 (Envoy, "max_headers_count")."""
MAX_LANE_SIZE: Final = 32 * 1024
"""Bytes of the fields that are carried. A sidecar takes 60 KiB with all others (Envoy,
"max_request_headers_kb"); a hop that takes a request would else have the next one refuse it."""


class Propagation:
    """Knows the lane headers: `CARRIED` and what `lane_headers` adds."""

    def __init__(self, lane_headers: Iterable[str] = ()) -> None:
        added = [name.encode() for name in lane_headers]
        self._names = CARRIED.union(name for name in added if not name.endswith(b"*"))
        self._prefixes = tuple(name[:-1] for name in added if name.endswith(b"*"))

    def carries(self, name: bytes) -> bool:
        """Whether the header of this lower-case name goes on to the upstream."""
        if name in self._names:
            return True
        is_kept = name in NEVER_CARRIED or name == FAULT_HEADER
        return name.startswith(self._prefixes) and not is_kept


def within_limits(headers: Headers) -> Headers:
    """`headers` with no more members in any of `LISTS` than its limit allows.

    Members go as wholes: those that are longer than `Limit.first` from the end of the list on, then
    the others. What is left of a list stands in one field, where the first of its fields was.
    """
    for name, limit in LISTS.items():
        values = [value for header, value in headers if header.lower() == name]
        members = sum(value.count(b",") + 1 for value in values)
        if members > limit.members or sum(map(len, values)) + len(values) - 1 > limit.size:
            headers = _replaced(headers, name, b",".join(_kept(values, limit)))
    return headers


def _kept(values: list[bytes], limit: Limit) -> list[bytes]:
    kept = dict(enumerate(_members(values, limit)))
    count, size = len(kept), sum(map(len, kept.values())) + len(kept) - 1
    for place in sorted(kept, key=lambda place: (len(kept[place]) <= limit.first, -place)):
        if count <= limit.members and size <= limit.size:
            break
        count -= 1
        size -= len(kept.pop(place)) + 1
    return list(kept.values())


def _members(values: list[bytes], limit: Limit) -> Iterator[bytes]:
    """The members, less those at the end that are too many whatever else is dropped."""
    count = 0
    for value in values:
        for member in filter(None, value.split(b",")):
            if stripped := member.strip(b" \t"):
                yield stripped
                count += len(stripped) <= limit.first
                if count > limit.members:
                    return


def _replaced(headers: Headers, name: bytes, value: bytes) -> Headers:
    """`headers` with `value`, if there is any, in place of all the fields of this name."""
    replaced: Headers = []
    for header in headers:
        if header[0].lower() != name:
            replaced.append(header)
        elif value:
            replaced.append((header[0], value))
            value = b""
    return replaced


def values_by_name(headers: Headers) -> dict[str, list[str]]:
    """The values as text by lower-case name; bytes that are no UTF-8 show in hexadecimal."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        text = value.decode("utf-8", "backslashreplace")
        values.setdefault(name.decode("ascii").lower(), []).append(text)
    return values


TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}"
)
"""A valid `traceparent`: trace id and span id (W3C Trace Context section 3.2.2)."""

SAMPLED: Final = frozenset((b"1", b"3", b"5", b"7", b"9", b"b", b"d", b"f"))
"""The last digits of a `traceparent` whose trace is sampled (section 3.2.2.5.1)."""

# Where the ids of trace and span stand, the first that is there wins.
_IDS: Final = {
    # W3C Trace Context section 3.2.2
    b"traceparent": re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}"),
    # openzipkin/b3-propagation, single and multiple headers (joined by a dash)
    b"b3": re.compile(rb"([0-9a-f]{16,32})-([0-9a-f]{16})"),
    b"x-b3-traceid": re.compile(rb"([0-9a-f]{16,32})-?([0-9a-f]{16}\Z)?"),
}


def trace_id_of(headers: Headers) -> str | None:
    """The trace id in W3C `traceparent`, else in B3; None where there is none."""
    return ids_of(headers)[0]


def ids_of(headers: Headers) -> tuple[str | None, str | None]:
    """The trace id and the span id in W3C `traceparent`, else in B3; None for what is not there."""
    # Of repeated ones the first counts, for the SDK's propagators too.
    values = {name.lower(): value for name, value in reversed(headers)}
    if span_id := values.get(b"x-b3-spanid"):
        values[b"x-b3-traceid"] = b"%b-%b" % (values.get(b"x-b3-traceid", b""), span_id)
    for name, pattern in _IDS.items():
        if match := pattern.match(values.get(name, b"")):
            return match[1].decode("ascii"), match[2].decode("ascii") if match[2] else None
    return None, None


def traceparent_of(headers: Headers) -> bytes | None:
    """`traceparent` as it came, valid or not; None where there is none."""
    for name, value in headers:
        if len(name) == 11 and name.lower() == b"traceparent":
            return value
    return None
