"""Lane headers beyond their limits: bounded and whole after three hops, traced or not."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from mockservice.propagation import LISTS, MAX_LANE_HEADERS, MAX_LANE_SIZE
from tests.proof.finding import Extent, Finding
from tests.running import Peer, answering, exchange, new_address, ok, peer, running_chain

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRACEPARENT = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
_MAX_LINE = 16 * 1024


def prove(extent: Extent) -> Iterator[Finding]:
    """Send lists of all sizes."""
    count = 30 if extent.short else 500
    for traced in (False, True):
        # Nobody is there to take the spans, which is none of the chain's business.
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{new_address()}:4318"} if traced else {}
        with (
            peer(answering(ok(b"", more="Connection: close\r\n"))) as upstream,
            running_chain(upstream.url, **env) as hops,
        ):
            chance = random.Random(extent.seed)
            sent = [_headers(chance) for _ in range(count)]
            problems = [
                problem for head in sent if (problem := _problem(hops[0].address, upstream, head))
            ]
        size = max(map(len, sent)) // 1024
        yield Finding(
            f"limits: baggage, tracestate, lane headers{', traced' if traced else ''}",
            f"{count} heads of up to {size} KiB",
            f"{len(problems)} not so{f': {problems[0]}' if problems else ''}",
            "within W3C limits, whole members",
            not problems,
        )


def _headers(chance: random.Random) -> bytes:
    """Header lines, most of them too much of something."""
    lines = []
    for name in chance.sample((b"baggage", b"tracestate", b"x-lane"), chance.randint(1, 3)):
        # W3C Trace Context section 3.3.1.3.2: a value has at most 256 bytes.
        largest = chance.choice((10, 100, 250))
        members = [
            (b"k%d=v" % number).ljust(chance.randint(1, largest), b"v")
            for number in range(chance.choice((1, 20, 70, 200)))
        ]
        place = chance.randint(1, len(members))
        fields = [members[at : at + place] for at in range(0, len(members), place)]
        lines += [b"%b: %b\r\n" % (name, b",".join(field)[: _MAX_LINE - 20]) for field in fields]
    return b"".join(lines[:80])


def _problem(entry: str, upstream: Peer, head: bytes) -> str:
    """What is wrong with what the upstream of the third hop got; nothing if nothing is."""
    upstream.requests.clear()
    sent = b"GET / HTTP/1.1\r\nHost: mocka\r\nConnection: close\r\n" + _TRACEPARENT + head + b"\r\n"
    answer = exchange(entry, sent)
    before = _by_name(sent)
    lane = [line for line in head.split(b"\r\n") if line.startswith(b"x-lane")]
    if answer.startswith(b"HTTP/1.1 400 "):
        is_due = len(lane) > MAX_LANE_HEADERS - 20 or len(head) > MAX_LANE_SIZE
        return "" if is_due and b"-> mocka(rejected: " in answer else "refused by a later hop"
    if not answer.startswith(b"HTTP/1.1 200 "):
        return f"{answer[:40]!r}"
    [request] = upstream.requests
    after = _by_name(request)
    if after.get(b"x-lane") != before.get(b"x-lane"):
        return "x-lane has changed"
    for name, limit in LISTS.items():
        was, kept = (fields.get(name, []) for fields in (before, after))
        whole = b",".join(kept)
        members = whole.split(b",") if whole else []
        if len(members) > limit.members or len(whole) > limit.size:
            return f"{len(members)} members, {len(whole)} bytes of {name.decode()}"
        rest = iter(b",".join(was).split(b","))
        if not all(member in rest for member in members):
            return f"cut members of {name.decode()}"
        if was and not kept and len(b",".join(was)) < limit.size:
            return f"no {name.decode()} at all"
    return ""


def _by_name(head: bytes) -> dict[bytes, list[bytes]]:
    fields: dict[bytes, list[bytes]] = {}
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b": ")
        if colon:
            fields.setdefault(name.lower(), []).append(value)
    return fields
