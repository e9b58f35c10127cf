"""The hops of all pods, in this process, and a client: what is sent, and what becomes of it.

A hop tells what differs between the request that it got and the one that its caller sent, so that
an outcome shows each rewrite. All that arrives is kept, so that it shows copies and retries, too.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpRequestParser, HttpResponseParser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tests.truth.cases import Request

Address = tuple[str, int]

SENT: Final = "x-sent"
"""The header that tells a hop what its caller sent."""
_NOISE: Final = re.compile(
    "x-envoy-.*|x-forwarded-.*|x-request-id|x-b3-.*|x-ot-.*|traceparent|tracestate|host|server|date"
    "|connection|content-length|content-type|transfer-encoding|via|vary|keep-alive"
)
_POD: Final = re.compile(r"\w+\(\w+\)")
_TIMEOUT: Final = 30.0
_LATE: Final = 2.0
"""Seconds after which an answer counts as delayed: the delays of the cases are longer."""
_AT_ONCE: Final = 30
_WARM: Final = 40
_SETTLED: Final = 0.1
"""Seconds after which copies have arrived."""


@dataclass(frozen=True)
class Pod:
    """A pod and its hop."""

    namespace: str
    name: str
    app: str
    version: str
    upstreams: tuple[str, ...]
    """URLs."""


@dataclass(frozen=True)
class Way:
    """Where a call connects, and the headers that tell a proxy where it was to go."""

    address: Address
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class Answer:
    """An HTTP response, read whole."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: str = ""


@dataclass
class Hops:
    """Hops, and what has arrived at them."""

    reach: Callable[[tuple[str, str], str, int], Way | None]
    """How a pod, by namespace and name, gets to a host and a port; None: no such host."""
    _arrived: dict[int, list[str]] = field(default_factory=dict)
    _servers: dict[Address, asyncio.Server] = field(default_factory=dict)
    _pods: dict[Address, Pod] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=count)

    async def serve(self, pods: dict[Address, Pod]) -> None:
        """Let just these hops listen at their addresses."""
        self._pods = pods
        for address in self._servers.keys() - pods.keys():
            self._servers.pop(address).close()
        for address in pods.keys() - self._servers.keys():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(lambda: _Server(self), *address)
            self._servers[address] = server

    def close(self) -> None:
        """Stop listening."""
        for server in self._servers.values():
            server.close()

    async def outcomes(
        self, requests: Iterable[Request], times: Mapping[str, int], gateway: Address
    ) -> dict[str, Counter[str]]:
        """Send requests, and count what becomes of each.

        Args:
            requests: what is sent, one after the other.
            times: how often, by the text of the request.
            gateway: where the gateway listens.
        """
        answers = {
            request: await self._answers(request, times[request.text], gateway)
            for request in requests
        }
        await asyncio.sleep(_SETTLED)
        return {
            request.text: Counter(self._outcomes(request, found, gateway))
            for request, found in answers.items()
        }

    async def _answers(
        self, request: Request, times: int, gateway: Address
    ) -> list[tuple[int, str]]:
        if "+warm" in request.options:
            for _ in range(_WARM):
                await self._ask(request, gateway)
        limit = asyncio.Semaphore(_AT_ONCE)

        async def ask() -> tuple[int, str]:
            async with limit:
                return await self._ask(request, gateway)

        return await asyncio.gather(*(ask() for _ in range(times)))

    def _outcomes(
        self, request: Request, answers: list[tuple[int, str]], gateway: Address
    ) -> Iterator[str]:
        names: dict[str, str] = {}
        for number, answer in answers:
            outcome = answer + self._others(number, answer)
            if "+alike" in request.options:
                outcome = _alike(outcome)
            if "+sticky" in request.options:
                yield names.setdefault(outcome, f"pod {len(names) + 1}")
            else:
                # The gateway's port differs from side to side; 80 need not be named.
                yield outcome.replace(f":{gateway[1]}/", "/")

    def _others(self, number: int, outcome: str) -> str:
        """What has arrived that the outcome does not tell."""
        others = []
        for one in sorted(self._arrived.pop(number, []), key=len, reverse=True):
            if one in outcome:
                outcome = outcome.replace(one, "", 1)
            else:
                others.append(one)
        return f"; also {', '.join(sorted(others))}" if others else ""

    async def _ask(self, request: Request, gateway: Address) -> tuple[int, str]:
        number = next(self._numbers)
        self._arrived[number] = []
        way: Way | None = Way(gateway)
        if request.caller is not None:
            host = request.host.partition(":")[0]
            way = self.reach(request.caller, host, request.port)
        headers = [("x-number", str(number)), *request.headers]
        if "+chain" in request.options:
            headers.append(("x-chain", "on"))
        begun = asyncio.get_running_loop().time()
        told = await self._call(way, request.method, request.target, request.host, headers)
        taken = asyncio.get_running_loop().time() - begun
        is_late = "+timed" in request.options and taken > _LATE
        return number, f"{told}, late" if is_late else told

    async def _call(
        self,
        way: Way | None,
        method: str,
        target: str,
        host: str,
        headers: list[tuple[str, str]],
    ) -> str:
        """Send a request, and tell its answer."""
        if way is None:
            return "no such host"
        sent = (SENT, json.dumps([method, target, host, headers]))
        headers = [("host", host), *headers, *way.headers, sent]
        try:
            async with asyncio.timeout(_TIMEOUT):
                answer = await _exchange(way.address, method, target, headers)
        except ConnectionRefusedError:
            return "refused"
        except (OSError, HttpParserError):
            return "cut off"
        return _told(answer)

    async def answer(
        self, address: Address, method: str, target: str, headers: list[tuple[str, str]]
    ) -> Answer:
        """What the hop at an address answers."""
        pod = self._pods[address]
        got = [(name, value) for name, value in headers if name != SENT]
        known = dict(got)
        sent = json.loads(dict(headers).get(SENT, "null"))
        line = f"{pod.app}({pod.version})"
        if sent is not None:
            line += _changes(sent, method, target, known.get("host", ""), got)
        if known.get("x-number", "").isdigit():
            self._arrived.setdefault(int(known["x-number"]), []).append(line)
        if seconds := _told_to(known.get("x-slow"), pod):
            await asyncio.sleep(float(seconds))
        if status := _told_to(known.get("x-fail"), pod):
            return Answer(int(status), [("x-hop", pod.app)], line)
        called = pod.upstreams if "x-chain" in known else ()
        parts = [await self._upstream(pod, url, got) for url in called]
        if parts:
            line += f" -> {parts[0] if len(parts) == 1 else '[' + '; '.join(parts) + ']'}"
        return Answer(200, [("x-hop", pod.app)], line)

    async def _upstream(self, pod: Pod, url: str, got: list[tuple[str, str]]) -> str:
        parts = urlsplit(url)
        port = parts.port or 80
        way = self.reach((pod.namespace, pod.name), parts.hostname or "", port)
        carried = [(name, value) for name, value in got if not _NOISE.fullmatch(name)]
        return await self._call(way, "GET", parts.path or "/", parts.netloc, carried)


def _alike(outcome: str) -> str:
    """An outcome that tells only which pods are the same."""
    seen: dict[str, str] = {}
    told = _POD.sub(lambda pod: seen.setdefault(pod[0], f"pod {len(seen) + 1}"), outcome)
    answer, also, others = told.partition("; also ")
    return f"{answer}{also}{', '.join(sorted(others.split(', ')))}"


def _told_to(header: str | None, pod: Pod) -> str | None:
    """The value of a header `APP[/VERSION]:VALUE` that tells a pod what to do."""
    name, _, value = (header or "").partition(":")
    return value if name in (pod.app, f"{pod.app}/{pod.version}") else None


def _changes(
    sent: list[object], method: str, target: str, host: str, got: list[tuple[str, str]]
) -> str:
    """What is not as it was sent."""
    sent_method, sent_target, sent_host, sent_headers = sent
    assert isinstance(sent_headers, list)
    told = [] if method == sent_method else [method]
    told += [] if target == sent_target else [target]
    told += [] if host == sent_host else [f"host {host}"]
    before = Counter((name.lower(), value) for name, value in sent_headers)
    after = Counter((name, value) for name, value in got if not _NOISE.fullmatch(name))
    told += sorted(f"+{name}: {value}" for name, value in (after - before).elements())
    told += sorted(f"-{name}" for name, _ in (before - after).elements() if name not in dict(got))
    return f"<{', '.join(told)}>" if told else ""


def _told(answer: Answer) -> str:
    """An answer as a text: what a hop said, or what a proxy did."""
    headers = [one for one in answer.headers if not _NOISE.fullmatch(one[0])]
    of_hop = next((one for one in headers if one[0] == "x-hop"), None)
    if of_hop is not None:
        headers.remove(of_hop)
    changes = [f"{name}: {value}" for name, value in sorted(headers)]
    text = str(answer.status) if answer.status != 200 or not of_hop else ""
    if of_hop or (answer.body and answer.status not in (503, 504)):
        text = f"{text} {answer.body}".strip()
    if answer.status == 200 and not of_hop:
        text = f"200 {answer.body}".strip()
    return f"{text} {{{', '.join(changes)}}}" if changes else text


async def _exchange(
    address: Address, method: str, target: str, headers: list[tuple[str, str]]
) -> Answer:
    reader, writer = await asyncio.open_connection(*address)
    try:
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        writer.write("\r\n".join([*lines, "connection: close", "", ""]).encode())
        answer = Answer()
        collector = _Collector(answer, method == "HEAD")
        parser = HttpResponseParser(collector)
        while not collector.is_whole:
            data = await reader.read(65536)
            if not data:
                break
            parser.feed_data(data)
        if not collector.has_status:
            raise ConnectionError("no answer")
        answer.status = parser.get_status_code()
        return answer
    finally:
        writer.close()


class _Collector:
    """What the parser of an answer calls."""

    def __init__(self, answer: Answer, is_head: bool) -> None:
        self._answer = answer
        self._is_head = is_head
        self.is_whole = False
        self.has_status = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers.append((name.decode().lower(), value.decode()))

    def on_headers_complete(self) -> None:
        self.has_status = True
        self.is_whole = self._is_head

    def on_body(self, part: bytes) -> None:
        self._answer.body += part.decode()

    def on_message_complete(self) -> None:
        self.is_whole = True


class _Server(asyncio.Protocol):
    """A connection to a hop."""

    def __init__(self, hops: Hops) -> None:
        self._hops = hops
        self._transport: asyncio.Transport | None = None
        self._parser = HttpRequestParser(self)
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        with suppress(HttpParserError):
            self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._target, self._headers = b"", []

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode().lower(), value.decode()))

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        answering = self._answer(method, self._target.decode(), self._headers)
        task = asyncio.get_running_loop().create_task(answering)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, method: str, target: str, headers: list[tuple[str, str]]) -> None:
        assert self._transport is not None
        address: Address = self._transport.get_extra_info("sockname")[:2]
        answer = await self._hops.answer(address, method, target, headers)
        body = answer.body.encode()
        lines = [f"HTTP/1.1 {answer.status} Status", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        head = "\r\n".join([*lines, "", ""]).encode()
        self._transport.write(head if method == "HEAD" else head + body)
