"""An upstream that looks at every byte it is asked with, and answers fast."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from mockservice.propagation import CARRIED
from tests.running import new_address, ok

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BODY = b"-> up"
_ANSWER = ok(BODY)
_REQUEST_LINE = b"GET / HTTP/1.1"
# RFC 9110 section 5.5: visible characters, space, tab and what is no ASCII; none at the ends.
_VISIBLE = rb"[\x21-\x7e\x80-\xff]"
_FIELD = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): "
    rb"((?:" + _VISIBLE + rb"(?:[\t\x20-\x7e\x80-\xff]*" + _VISIBLE + rb")?)?)"
)
_OWN = (b"host", b"accept-encoding", b"accept", b"x-mock-hops")
_HOPS = re.compile(rb"(?:[\t\x20-\x7e\x80-\xff]*,)?[0-9a-f]{8}")
_MAX_PROBLEMS = 20


class Recorder:
    """What has come, and what of it should not have."""

    def __init__(self, address: str, carried: frozenset[bytes]) -> None:
        self._carried = carried
        self.url = f"http://{address}:8000/"
        self.calls = 0
        self.problems: list[str] = []
        self.lanes: list[bytes] = []
        """The values of the `x-lane` headers, in the order in which they came."""
        self._own = {
            b"host": re.compile(re.escape(address.encode()) + b":8000"),
            b"accept-encoding": re.compile(b"identity"),
            b"accept": re.compile(b"text/plain|application/json"),
            b"x-mock-hops": _HOPS,
        }

    def take(self, head: bytes) -> None:
        """Check one request's head."""
        self.calls += 1
        request_line, *lines = head.split(b"\r\n")[:-2]
        fields = [_FIELD.fullmatch(line) for line in lines]
        problem = "" if request_line == _REQUEST_LINE else "request line"
        names = [b"" if field is None else field[1].lower() for field in fields]
        if names[:4] != list(_OWN):
            problem = "own headers"
        for place, field in enumerate(fields):
            if field is None:
                problem = f"line {lines[place]!r}"
            elif place < len(_OWN):
                if not self._own[names[place]].fullmatch(field[2]):
                    problem = f"own header {field[0]!r}"
            elif names[place] not in self._carried:
                problem = f"not carried: {field[0]!r}"
            elif names[place] == b"x-lane":
                self.lanes.append(field[2])
        if problem and len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(f"{problem}: {head[:2000]!r}")


class _Wire(asyncio.Protocol):
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            # A GET without a body: what comes behind the head is the next request.
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            self._recorder.take(head + b"\r\n\r\n")
            self._transport.write(_ANSWER)


@asynccontextmanager
async def recording(carried: frozenset[bytes] = CARRIED) -> AsyncIterator[Recorder]:
    """A recorder that listens, and takes these headers beside those that each call has."""
    address = new_address()
    recorder = Recorder(address, carried)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Wire(recorder), address, 8000)
    try:
        yield recorder
    finally:
        server.close()
