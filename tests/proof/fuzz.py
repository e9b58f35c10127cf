"""Fuzzed requests against a hop: each gets an answer or a close, and none gets more than that."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import uvloop

from mockservice.propagation import CARRIED, FAULT_HEADER
from tests.proof.finding import Extent, Finding
from tests.proof.grammar import CORPUS, Grammar, seeds
from tests.proof.processes import MIB, Said, heard, memory, stop
from tests.proof.reading import Request, read, unsupported
from tests.proof.recorder import BODY, Recorder, recording
from tests.running import new_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.running import RunningHop

_AT_ONCE = 64
_TIMEOUT = 15.0
"""Seconds for what is sent over one connection: more than the hop gives a request."""
_GROWTH = 32 * MIB
_CANARY_EVERY = 0.02
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) [^\r\n]*\r\n")
_HEADERS = re.compile(rb"(?:[A-Za-z-]+: [^\r\n]*\r\n)*\r\n")
_LENGTH = re.compile(rb"^Content-Length: (\d+)\r$", re.MULTILINE)
_CLOSES = re.compile(rb"^Connection: close\r$", re.MULTILINE)
_STATUSES = frozenset((200, 400, 408, 413, 501, 505, 508))
_REJECTED = re.compile(rb"-> mocka\((rejected|loop): .*\)")
_FAULTY = re.compile(rb"-> mocka\((rejected: x-mock-fault: .*|injected: abort [45]\d\d)\)")


class _Fuzzing:
    """What was sent and seen."""

    def __init__(self, hop: RunningHop, recorder: Recorder) -> None:
        self.answers = 0
        self.connections = 0
        self.allowed = 0
        self.canaries = 0
        self.problems: list[tuple[str, bytes]] = []
        self._hop = hop
        self._recorder = recorder
        self._own = hop.line.encode()
        self._line = self._own + BODY

    async def send(self, streams: list[bytes], chance: random.Random) -> None:
        """Send each of `streams` over a connection of its own, and check what comes back."""
        self._recorder.lanes.clear()
        calls = self._recorder.calls - self.canaries
        readings = [read(stream) for stream in streams]
        splits = [sorted(chance.sample(range(len(it) + 1), min(len(it), 2))) for it in streams]
        received = await asyncio.gather(*map(self._exchange, streams, splits))
        for stream, requests, answer in zip(streams, readings, received, strict=True):
            self.connections += 1
            if problem := self._problem(requests, unsupported(stream), answer):
                self.problems.append((problem, stream))
        allowed = sum(map(len, readings))
        self.allowed += allowed
        sent = Counter(lane for it in readings for request in it for lane in request.lanes)
        if extra := Counter(self._recorder.lanes) - sent:
            self.problems.append((f"lanes nobody sent: {extra}", b""))
        # One of the other client's may be under way.
        if self._recorder.calls - self.canaries - calls > allowed + 1:
            self.problems.append(("more upstream calls than requests", b""))

    async def _exchange(self, stream: bytes, splits: list[int]) -> bytes | None:
        """Send, in pieces, and return what comes back until the hop closes; None if it does not."""
        writer = None
        received = b""
        try:
            async with asyncio.timeout(_TIMEOUT):
                reader, writer = await asyncio.open_connection(self._hop.address, 8000)
                with suppress(ConnectionError):
                    for start, end in zip([0, *splits], [*splits, len(stream)], strict=True):
                        writer.write(stream[start:end])
                        await asyncio.sleep(0)
                    writer.write_eof()
                with suppress(ConnectionError):
                    while part := await reader.read(65536):
                        received += part
        except TimeoutError:
            return None
        finally:
            if writer is not None:
                writer.close()
        return received

    def _problem(self, requests: list[Request], follows: int | None, received: bytes | None) -> str:
        """What is wrong with the answers; nothing if nothing is.

        What follows the requests gets the status `follows`, if it is known.
        """
        if received is None:
            return "hangs"
        place = count = good = status = 0
        closes = False
        while place < len(received):
            line = _STATUS_LINE.match(received, place)
            headers = _HEADERS.match(received, line.end()) if line else None
            if line is None or headers is None:
                return f"not HTTP: {received[place : place + 100]!r}"
            status, place = int(line[1]), headers.end()
            if status == 100:
                continue
            length = _LENGTH.search(headers[0])
            if length is None or not (status in _STATUSES or 400 <= status < 600):
                return f"status {status}, {headers[0]!r}"
            # The last answer may be to what the hop cannot read as a HEAD, or alone can.
            is_last = place == len(received) or (
                place + int(length[1]) == len(received)
                # What begins so is no body, but may be just as long as one.
                and not received.startswith(b"HTTP/1.1 ", place)
            )
            is_head = (
                place == len(received)
                if is_last and status != 200
                else count < len(requests) and requests[count].method == b"HEAD"
            )
            body = b"" if is_head else received[place : place + int(length[1])]
            place += len(body)
            count += 1
            if not is_head and (len(body) != int(length[1]) or not self._is_right(status, body)):
                return f"{status} {body[:200]!r}"
            good += status == 200
            closes = _CLOSES.search(headers[0]) is not None
            if closes and place < len(received):
                return f"goes on after close: {received[place : place + 100]!r}"
        self.answers += count
        if good > len(requests) or count > len(requests) + 1:
            return f"{count} answers, {good} good ones, for {len(requests)} requests"
        is_reached = count > len(requests) or (count == len(requests) and not closes)
        if follows is not None and is_reached and status != follows:
            return f"{status} instead of {follows}"
        return ""

    def _is_right(self, status: int, body: bytes) -> bool:
        # Any other is one that the request asks for.
        if status not in _STATUSES and b"abort %d" % status not in body:
            return False
        if body.startswith(b"{"):
            document = json.loads(body)
            return bool(document["hops"]) if status == 200 else "error" in document
        if status == 200:
            return body == self._line
        if body.startswith(self._own):
            return _FAULTY.fullmatch(body.removeprefix(self._own)) is not None
        return _REJECTED.fullmatch(body) is not None

    async def watch(self) -> None:
        """Be a client that does all as it should, and is answered so throughout."""
        reader, writer = await asyncio.open_connection(self._hop.address, 8000)
        try:
            while True:
                writer.write(b"GET /canary HTTP/1.1\r\nHost: a\r\n\r\n")
                async with asyncio.timeout(_TIMEOUT):
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = _LENGTH.search(head)
                    body = await reader.readexactly(int(length[1]) if length else 0)
                if not head.startswith(b"HTTP/1.1 200 ") or body != self._line:
                    self.problems.append((f"canary: {head!r} {body!r}", b""))
                self.canaries += 1
                await asyncio.sleep(_CANARY_EVERY)
        except (OSError, EOFError) as error:
            self.problems.append((f"canary: {error!r}", b""))
        finally:
            writer.close()


def prove(extent: Extent) -> Iterator[Finding]:
    """Send the corpus, then what the grammar makes, until enough is answered."""
    count = 3_000 if extent.short else 200_000
    yield from uvloop.run(_fuzz(extent.seed, count))


async def _fuzz(seed: int, count: int) -> list[Finding]:
    async with recording(CARRIED | {FAULT_HEADER}) as recorder:
        # All that works on requests, or words them, does so.
        env = {
            "upstream_url": recorder.url,
            "access_log": "on",
            "fault_header": "on",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{new_address()}:4318",
        }
        with heard(**env) as (hop, said):
            return await _fuzz_hop(hop, said, recorder, seed, count)


async def _fuzz_hop(
    hop: RunningHop, said: Said, recorder: Recorder, seed: int, count: int
) -> list[Finding]:
    chance = random.Random(seed)
    grammar = Grammar(chance)
    fuzzing = _Fuzzing(hop, recorder)
    canary = asyncio.create_task(fuzzing.watch())
    begin = time.monotonic()
    await fuzzing.send(seeds(), chance)
    before = memory(hop)
    while fuzzing.answers < count and len(fuzzing.problems) < 10 and hop.process.poll() is None:
        await fuzzing.send([grammar.stream() for _ in range(_AT_ONCE)], chance)
    seconds = time.monotonic() - begin
    canary.cancel()
    growth = memory(hop) - before
    lives = hop.process.poll() is None
    is_clean, _ = await asyncio.to_thread(stop, hop)
    said.wait()
    for stream in filter(None, (stream for _, stream in fuzzing.problems)):
        # To be sent again each time.
        (CORPUS / f"found-{hashlib.sha256(stream).hexdigest()[:12]}.http").write_bytes(stream)
    first = f": {fuzzing.problems[0][0]}" if fuzzing.problems else ""
    amount = f"{fuzzing.answers:,} answers in {seconds:.0f} s"
    return [
        Finding(
            "fuzz: answers or a close, as many as there may be",
            amount,
            f"{fuzzing.connections:,} connections, {len(fuzzing.problems)} not so{first}",
            f"at most {fuzzing.allowed + fuzzing.connections:,} answers",
            not fuzzing.problems and fuzzing.answers >= count,
        ),
        Finding(
            "fuzz: upstream calls are as they should be",
            f"{recorder.calls:,} calls",
            f"{len(recorder.problems)} not so{''.join(f': {it}' for it in recorder.problems[:1])}",
            "0 not so",
            not recorder.problems and 0 < recorder.calls <= fuzzing.allowed + fuzzing.canaries + 1,
        ),
        Finding(
            "fuzz: the hop lives, another client is answered",
            f"{fuzzing.canaries:,} requests of its",
            f"{growth / MIB:.0f} MiB more",
            f"{_GROWTH // MIB} MiB",
            lives and growth <= _GROWTH and fuzzing.canaries > 0,
        ),
        Finding(
            "fuzz: the hop's words and its exit",
            f"{said.lines:,} lines",
            f"exit {'0' if is_clean else 'not 0'}, {said.crashed[:300] or 'no crash'}",
            "exit 0, all JSON, no crash",
            is_clean and said.lines > 0 and not said.crashed,
        ),
    ]
