"""Propagation: which headers of a request go on to the upstream, and how long lists may be.

Names are matched case-insensitively. Names and values go on byte for byte, but for lists beyond
their limit, which lose members.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Headers = list[tuple[bytes, bytes]]
"""Header fields in the order received, repeated ones included."""

FieldLines = list[bytes]
"""Header fields as they are sent, `name: value`, without line ends (RFC 9112 section 5)."""

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
        # Common names for lane tags
        b"x-lane",
        b"x-env",
        b"x-version",
        b"version",
        b"env",
    )
)
"""The headers that every hop carries."""

HOPS_HEADER: Final = b"x-mock-hops"
"""The ids of the hops that a request has passed: detects loops."""

REMAINING_HEADER: Final = b"x-mock-hops-remaining"
"""How many hops a tree may still have, from the hop that receives this header on."""

FAULT_HEADER: Final = b"x-mock-fault"
"""The faults for a request (`mockservice.serve.faults`). Carried only if `fault_header` is on."""

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
        # About the received message only.
        b"host",
        b"content-length",
        b"expect",
        # Set by the hop itself.
        b"accept",
        b"accept-encoding",
        HOPS_HEADER,
        REMAINING_HEADER,
    )
)
"""Headers that no setting can add."""


class Limit(NamedTuple):
    """The limit of a list, all its fields together. A longer list loses members."""

    members: int
    size: int
    """Bytes, commas included."""
    first: int
    """Members longer than this, in bytes, are dropped first."""


LISTS: Final = {
    # W3C Baggage section 3.3.2: the minimum that must go on.
    b"baggage": Limit(members=64, size=8192, first=8192),
    # W3C Trace Context sections 3.3.1.1 and 3.3.1.5, which sets no upper limit on the size.
    b"tracestate": Limit(members=32, size=8192, first=128),
}
"""The carried headers that are comma-separated lists."""

ANY_LIST: Final = Limit(
    min(limit.members for limit in LISTS.values()), min(limit.size for limit in LISTS.values()), 0
)
"""A list within this limit is within the limit of every list."""

MAX_LANE_HEADERS: Final = 64
"""Cap on the carried fields. A sidecar adds some and allows 100 (Envoy, "max_headers_count")."""
MAX_LANE_SIZE: Final = 32 * 1024
"""Cap on the carried fields, in bytes. A sidecar allows 60 KiB for all headers (Envoy,
"max_request_headers_kb"): it would refuse the upstream call."""


class Propagation:
    """The lane headers: `CARRIED`, and those that `lane_headers` adds."""

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
    """`headers` with all `LISTS` shortened to their limits.

    Whole members are dropped, the last ones first: those longer than `Limit.first`, then others.
    The rest of the list becomes one field, in the place of its first field.
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
    """The members, up to the limit; those that are dropped first do not count."""
    count = 0
    for value in values:
        for member in filter(None, value.split(b",")):
            if stripped := member.strip(b" \t"):
                yield stripped
                count += len(stripped) <= limit.first
                if count > limit.members:
                    return


def _replaced(headers: Headers, name: bytes, value: bytes) -> Headers:
    """`headers` with one field in place of all of this `name`, or with none if `value` is empty."""
    replaced: Headers = []
    for header in headers:
        if header[0].lower() != name:
            replaced.append(header)
        elif value:
            replaced.append((header[0], value))
            value = b""
    return replaced


def field_lines(headers: Headers) -> FieldLines:
    """`headers` as they are sent."""
    return list(map(b": ".join, headers))


def values_by_name(headers: Headers) -> dict[str, list[str]]:
    """The values as text, by lower-case name. Bytes that are not UTF-8 are shown in hexadecimal."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        text = value.decode("utf-8", "backslashreplace")
        values.setdefault(name.decode("ascii").lower(), []).append(text)
    return values


TRACEPARENT: Final = (
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}"
)
"""A valid `traceparent`: trace id and span id (W3C Trace Context section 3.2.2)."""

SAMPLED: Final = frozenset((b"1", b"3", b"5", b"7", b"9", b"b", b"d", b"f"))
"""The last digit of a `traceparent` if the trace is sampled (section 3.2.2.5.1)."""

# The headers with trace id and span id. If there are several, the first of this list wins.
_IDS: Final = {
    # W3C Trace Context section 3.2.2
    b"traceparent": rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}",
    # openzipkin/b3-propagation, single and multiple headers (joined by a dash)
    b"b3": rb"([0-9a-f]{16,32})-([0-9a-f]{16})",
    b"x-b3-traceid": rb"([0-9a-f]{16,32})-?([0-9a-f]{16}\Z)?",
}


def trace_id_of(headers: Headers) -> str | None:
    """The trace id from W3C `traceparent`, else from B3, else None."""
    return ids_of(headers)[0]


def ids_of(headers: Headers) -> tuple[str | None, str | None]:
    """The trace id and the span id from W3C `traceparent`, else from B3; None if missing."""
    # The first of repeated headers wins, as in the SDK's propagators.
    values = {name.lower(): value for name, value in reversed(headers)}
    if span_id := values.get(b"x-b3-spanid"):
        values[b"x-b3-traceid"] = b"%b-%b" % (values.get(b"x-b3-traceid", b""), span_id)
    for name, pattern in _IDS.items():
        if match := re.match(pattern, values.get(name, b"")):
            return match[1].decode("ascii"), match[2].decode("ascii") if match[2] else None
    return None, None


def traceparent_of(headers: Headers) -> bytes | None:
    """The `traceparent` header as received, valid or not; None if missing."""
    for name, value in headers:
        if len(name) == 11 and name.lower() == b"traceparent":
            return value
    return None
