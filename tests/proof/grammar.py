"""Requests as nobody should send them: a grammar with odd productions, and mutations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests import shapes

if TYPE_CHECKING:
    import random

CORPUS = Path(__file__).parent / "corpus"

_MAX_SEED = 4096
_METHODS = (b"GET", b"GET", b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"PURGE", b"CONNECT")
_ODD_METHODS = (
    b"get",
    b"G ET",
    b"PRI",
    b"SSTP_DUPLEX_POST",
    b"",
    b"GE\tT",
    b"GET\0",
    b"X" * 300,
    b"BREW",
    b"GETS",
)
_TARGETS = (b"/", b"/mock", b"/a?b=c", b"http://a/b", b"//", b"/%00", b"/caf\xc3\xa9")
_ODD_TARGETS = (b"*", b"a", b"", b"/a b", b"/\r", b"/\0", b"http://", b"HTTP://a\tb/", b"/#\x7f")
_VERSIONS = (b"HTTP/1.1",) * 9 + (b"HTTP/1.0",)
_ODD_VERSIONS = (
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"HTTP/2",
    b"HTTP/3.0",
    b"HTTP/9.9",
    b"HTTP/0.9",
    b"http/1.1",
    b"HTTP/1.1 ",
    b"HTTP/1.10",
    b"",
)
_LINE_ENDS = (b"\n", b"\r", b"\r\r\n", b"\n\r", b"\x0b\r\n", b"\0\r\n", b"\x85\r\n")
_NAMES = (
    b"x-lane",
    b"X-LANE",
    b"x-env",
    b"baggage",
    b"tracestate",
    b"traceparent",
    b"x-mock-hops",
    b"x-mock-fault",
    b"accept",
    b"cookie",
    b"te",
    b"trailer",
    b"via",
    b"x-forwarded-for",
)
_ODD_NAMES = (b"x lane", b"x-lane ", b"", b"x\0", b"\xffx", b" x", b"\tx", b"x(", b"Content_Length")
_VALUES = (
    b"v1",
    b"",
    b"a=b",
    b"a=b,c=d;e",
    b"application/json",
    b"mocka; abort=418; percent=50",
    b"*/*",
    b'"q"',
    b"  sp  ",
    b"\xff\xfe",
)
_ODD_VALUES = (b"a\rb", b"a\nx-lane: forged", b"a\r\n b", b"\0", b"\x7f", b"a\r\n\tb", b"\x1b[2J")
_FRAMINGS = (
    b"Content-Length: %d",
    b"content-length:%d",
    b"Content-Length: \t%d ",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding:CHUNKED",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: X-Lane",
    b"Connection: upgrade\r\nUpgrade: h2c",
    b"Expect: 100-continue",
    b"Host: b",
)
_ODD_FRAMINGS = (
    b"Content-Length: %d, %d",
    b"Content-Length: +%d",
    b"Content-Length: 0x%x",
    b"Content-Length: %d\r\nContent-Length: 0",
    b"Content-Length: 00000000000000000000%d",
    b"Content-Length: 99999999999999999999",
    b"Content-Length : %d",
    b"Content-Length:\r\n %d",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding: x",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer\xadEncoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: %d",
    b"Connection: close, content-length",
    b"Expect: 200-ok",
)
_TOKENS = (
    *_LINE_ENDS,
    *_ODD_VALUES,
    *_FRAMINGS,
    *_ODD_FRAMINGS,
    b"\r\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b';a="\r\n"',
    b" ",
    b"\t",
    b":",
    b",",
    b"HTTP/1.1",
    shapes.SMUGGLED,
)


def seeds() -> list[bytes]:
    """The corpus: the files in the folder, and the table of the tests."""
    files = [path.read_bytes() for path in sorted(CORPUS.glob("*.http"))]
    table = [
        *shapes.REFUSED.values(),
        *(sent for _, sent in shapes.UNSUPPORTED.values()),
        *(row.sent for row in shapes.ANSWERED),
    ]
    return [seed for seed in (*files, *table) if len(seed) <= _MAX_SEED]


class Grammar:
    """Makes what is sent over one connection; all that is random comes of `chance`."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._seeds = seeds()

    def stream(self) -> bytes:
        """A few requests, one behind the other."""
        chance = self._chance
        parts = [self._part() for _ in range(chance.randint(1, 10))]
        stream = b"".join(parts)
        for _ in range(chance.choice((0, 0, 0, 1, 1, 2, 4))):
            stream = self._mutated(stream)
        return stream

    def _part(self) -> bytes:
        chance = self._chance
        kind = chance.random()
        if kind < 0.1:
            return chance.choice(self._seeds)
        if kind < 0.15:
            return self._mutated(chance.choice(self._seeds))
        # Most requests are well-formed, so that most of a stream is read.
        return self._request(odd=0.02 if chance.random() < 0.2 else 0.0)

    def _request(self, odd: float) -> bytes:
        chance = self._chance

        def one(usual: tuple[bytes, ...], strange: tuple[bytes, ...]) -> bytes:
            return chance.choice(strange if chance.random() < odd else usual)

        line = b" ".join(
            (
                one(_METHODS[:-1], _ODD_METHODS),
                one(_TARGETS, _ODD_TARGETS),
                one(_VERSIONS, _ODD_VERSIONS),
            )
        )
        lines = [line, b"Host: a"]
        lines += [
            one(_NAMES, _ODD_NAMES)
            + b":"
            + chance.choice((b"", b" ", b"\t"))
            + one(_VALUES, _ODD_VALUES)
            for _ in range(chance.choice((0, 1, 2, 3, 12)))
        ]
        body = b""
        match chance.randrange(4):
            case 0:
                body = self._bytes()
                lines.append(b"Content-Length: %d" % len(body))
            case 1:
                body = self._chunks(odd)
                lines.append(b"Transfer-Encoding: chunked")
        if chance.random() < odd:
            framing = one(_FRAMINGS, _ODD_FRAMINGS)
            count = framing.count(b"%")
            lines.append(framing % ((len(body),) * count) if count else framing)
        if chance.random() < odd:
            chance.shuffle(lines)
        return b"".join(part + one((b"\r\n",), _LINE_ENDS) for part in (*lines, b"")) + body

    def _chunks(self, odd: float) -> bytes:
        chance = self._chance
        chunks = []
        for data in [self._bytes() or b"x" for _ in range(chance.randint(0, 3))] + [b""]:
            size = chance.choice((b"%x", b"%X", b"0%x")) % len(data)
            size += chance.choice((b"", b"", b";a", b";a=b;c", b';a="b"'))
            if chance.random() < odd:
                size = chance.choice(
                    (b"", b"-1", b"0x1", b"g", b" 1", b"1 ", b"f" * 17, b"1;\n", b"1;\0")
                )
            chunks += [size, b"\r\n", data, b"\r\n" if data else b""]
        trailers = chance.choice((b"", b"", b"x-lane: trailer\r\n", b"a: b\r\nc: d\r\n"))
        return b"".join(chunks) + trailers + b"\r\n"

    def _bytes(self) -> bytes:
        chance = self._chance
        if chance.random() < 0.2:
            return shapes.SMUGGLED
        return chance.randbytes(chance.choice((0, 1, 5, 40, 300)))

    def _mutated(self, sent: bytes) -> bytes:
        chance = self._chance
        at = chance.randint(0, len(sent))
        to = min(len(sent), at + chance.choice((1, 1, 2, 8, 64)))
        match chance.randrange(6):
            case 0:
                middle = bytes([chance.randrange(256)])
            case 1:
                middle = b""
            case 2:
                middle = sent[at:to] * chance.choice((2, 3, 50))
            case 3:
                middle = chance.choice([token for token in _TOKENS if b"%" not in token])
            case 4:
                other = chance.choice(self._seeds)
                start = chance.randrange(len(other) + 1)
                middle = other[start : start + chance.choice((4, 16, 200))]
            case _:
                return sent[:at]
        return sent[:at] + middle + sent[to if chance.random() < 0.5 else at :]
