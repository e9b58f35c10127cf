"""A process that somebody runs in place of an app's pods: what it does becomes part of the chain.

What is called on its behalf passes through here twice: its requests on the way in, and its own
calls on the way out. So a service that knows nothing of chains shows up in them as a hop, with the
headers that it received, and with the chains that its calls came back with:

    caller -> sidecar -> here -> process -> here (its http_proxy) -> sidecar -> upstream

The process answers one request at a time. What it calls meanwhile belongs to that request, whatever
headers it sends. What it calls on its own is told apart as far as that can be: see
`_Visit.own_chains`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
    web,
)
from multidict import CIMultiDict
from yarl import URL

from mockservice.chain import JSON_TYPE, MAX_HOPS, TEXT_TYPE, Chain, Failure, Hop
from mockservice.lanes.errors import LanesError
from mockservice.mesh.overrides import proxy_port
from mockservice.propagation import (
    HOPS_HEADER,
    NEVER_CARRIED,
    REMAINING_HEADER,
    Propagation,
    trace_id_of,
    values_by_name,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
    from typing import Self

    from mockservice.lanes.addresses import Place
    from mockservice.mesh.model import Pod

    _Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_Target = tuple[str, str]
"""Method and URL of a call, without its query."""
_Counted = TypeVar("_Counted", str, _Target)

_LOOPBACK: Final = "127.0.0.1"
_MAX_BODY: Final = 16 * 1024 * 1024
"""Bytes of an answer to the process that are read at most."""
_MAX_CHAINS: Final = 1000
"""Chains that wait for the answer that they belong to, at most."""
_MAX_REASON: Final = 200
_CONNECT_TIMEOUT: Final = 2.0
_SHUTDOWN_TIMEOUT: Final = 1.0
_LEFT_TIMEOUT: Final = 10.0
"""Seconds that the process gets to answer a request that nobody waits for any more."""
_NO_LOG: Final = logging.Logger(__name__, logging.CRITICAL + 1)
"""The answer tells what is wrong with a request: aiohttp need not do so with a traceback."""

_HOPS: Final = HOPS_HEADER.decode()
_REMAINING: Final = REMAINING_HEADER.decode()
_HABIT: Final = 2
"""Calls of one target before the first request that show a habit, such as a check of health."""
_MAX_TARGETS: Final = 100
"""Targets that are counted, at most."""
_KEY: Final = "x-mock-replaced"
"""Asks another replaced process for its own answer, and names the chain that belongs to it."""
_OWN: Final = frozenset({_HOPS, _REMAINING, _KEY})
_HOP_BY_HOP: Final = frozenset(name.decode() for name in NEVER_CARRIED) - {
    "host",
    "expect",
    "accept",
    "accept-encoding",
    *_OWN,
}


@dataclass(slots=True)
class _Visit:
    """A request that the process is answering."""

    pod: Pod
    place: Place
    passed: tuple[str, ...]
    """The ids of the hops before it, and its own."""
    remaining: int | None
    chains: dict[str, Chain] = field(default_factory=dict)
    """What its calls came back with, each kind once."""
    hosts: set[str] = field(default_factory=set)
    """What it called, as it names them, in lower case."""
    outside: dict[str, Chain] = field(default_factory=dict)
    """The same of its calls of hosts that are no Service."""
    habitual: dict[tuple[_Target, str], Chain] = field(default_factory=dict)
    """The same of calls without a lane header that the process also makes on its own."""
    other_hosts: set[str] = field(default_factory=set)
    """The hosts of calls that it makes only while it answers."""
    with_lane: set[_Target] = field(default_factory=set)
    """What it calls with a lane header."""

    def own_chains(self) -> tuple[Chain, ...]:
        """What the calls that belong to the request came back with, once all of them are known.

        A call that the process also makes on its own is left out if the request has another one of
        the same host. If it has none, a service that drops the lane would hide behind it.
        """
        counted = {
            outline: chain
            for (target, outline), chain in self.habitual.items()
            if target in self.with_lane or _host(target[1]) not in self.other_hosts
        }
        return tuple((counted | self.chains).values())


@dataclass(slots=True)
class Joined:
    """A pod in whose place the process answers."""

    pod: Pod
    place: Place
    hop_id: str = field(default_factory=lambda: secrets.token_hex(4))
    requests: int = 0
    """Answered in its place."""
    calls: int = 0
    """Made by the process meanwhile, by way of its proxy."""
    hosts: set[str] = field(default_factory=set)
    """The hosts of these calls, as the process names them, in lower case."""
    server: web.ServerRunner | None = field(default=None, repr=False)


class Replacement:
    """One process, and all pods in whose place it answers.

    Args:
        url: of the process.
        chains: where all replacements of these lanes leave what belongs to their answers.
    """

    def __init__(self, url: str, chains: dict[str, Chain]) -> None:
        self.url = url
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self.proxy_url = f"http://{_LOOPBACK}:{proxy_port(url)}"
        """What the `http_proxy` of the process must be."""
        self.joined: list[Joined] = []
        self.outside: Counter[str] = Counter()
        """Calls by host that is no Service."""
        self._on_its_own: Counter[_Target] = Counter()
        """Calls before the first request."""
        self._unrelated: Counter[_Target] = Counter()
        """Calls later on while no request was in flight, but for those that are a habit."""
        self._services: frozenset[str] = frozenset()
        self._lane_headers: frozenset[str] = frozenset()
        self._has_answered = False
        self._is_asked = False
        """Whether it is to answer a request that belongs to no lane."""
        self._propagation = Propagation()
        self._chains = chains
        self._turn = asyncio.Lock()
        self._visits: list[_Visit] = []
        self._exits = AsyncExitStack()

    @property
    def apps(self) -> list[str]:
        """The apps for which it answers."""
        return list(dict.fromkeys(one.pod.app for one in self.joined))

    async def __aenter__(self) -> Self:
        """Listen for what the process calls.

        Raises:
            LanesError: the port is in use.
        """
        async with AsyncExitStack() as exits:
            self._client = await exits.enter_async_context(
                ClientSession(
                    connector=TCPConnector(limit=0),
                    timeout=ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT),
                    cookie_jar=DummyCookieJar(),
                    auto_decompress=False,
                )
            )
            port = urlsplit(self.proxy_url).port or 0
            try:
                runner = await _listen(self._call, _LOOPBACK, port)
            except OSError as error:
                reason = f"the sidecar of {self.url} cannot listen at {self.proxy_url}"
                raise LanesError(f"{reason}: {(error.strerror or str(error)).lower()}") from None
            exits.push_async_callback(runner.cleanup)
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    def carry(self, lane_headers: Iterable[str]) -> None:
        """Tell of these headers too, in lower case, whether they were received."""
        self._lane_headers = frozenset(lane_headers)
        self._propagation = Propagation(self._lane_headers)

    def know(self, services: Iterable[str]) -> None:
        """Tell calls of these hosts, which are full names, from calls that leave the mesh."""
        parts = (host.split(".") for host in services)
        self._services = frozenset(
            ".".join(names[:count]) for names in parts for count in range(1, len(names) + 1)
        )

    def without_request(self) -> tuple[list[str], list[str]]:
        """The URLs of Services that it calls on its own by habit, and that it called so later."""
        habits = [call for call, count in self._on_its_own.items() if count >= _HABIT]
        return (
            list(dict.fromkeys(url for _, url in habits if _host(url) in self._services)),
            list(dict.fromkeys(url for _, url in self._unrelated if _host(url) in self._services)),
        )

    async def join(self, pod: Pod, place: Place) -> Joined:
        """Answer in place of a pod from now on."""
        joined = Joined(pod, place)

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return await self._answer(joined, request)

        joined.server = await _listen(answer, place.ip, place.port)
        self.joined.append(joined)
        return joined

    async def leave(self, joined: Joined) -> None:
        """Answer no longer in place of a pod."""
        self.joined.remove(joined)
        if joined.server is not None:
            await joined.server.cleanup()

    async def is_up(self) -> bool:
        """Whether the process listens."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                _, writer = await asyncio.open_connection(self._host, self._port)
            writer.close()
            return True
        return False

    async def answers(self, timeout: float) -> bool:
        """Whether the process answers a request within so many seconds, in whatever way.

        OPTIONS changes nothing (RFC 9110 sections 9.2.1 and 9.3.7).
        """
        self._is_asked = True
        try:
            async with asyncio.timeout(timeout), self._client.options(f"{self.url}/"):
                return True
        except TimeoutError:
            return False
        except (ClientError, OSError):
            # It is not silent. What is wrong shows in the answers of the lanes.
            return True
        finally:
            self._is_asked = False

    async def _answer(self, joined: Joined, request: web.BaseRequest) -> web.StreamResponse:
        """Let the process answer a request that gets to one of its pods."""
        if not request.raw_path.startswith("/"):
            return web.Response(status=400, text="a request must be for a path\n")
        passed = tuple(filter(None, request.headers.get(_HOPS, "").split(",")))
        if joined.hop_id in passed or len(passed) >= MAX_HOPS:
            failure = Failure(joined.pod.app, "loop", "already in this chain")
            return _as_chain(request, 508, Chain(error=failure))
        remaining = request.headers.get(_REMAINING, "")
        visit = _Visit(
            joined.pod,
            joined.place,
            (*passed, joined.hop_id),
            int(remaining[:9]) if remaining.isascii() and remaining.isdigit() else None,
        )
        joined.requests += 1
        self._has_answered = True
        start = perf_counter()
        async with self._turn_of(visit):
            forwarding = asyncio.create_task(self._forward(request, visit, start))
            try:
                status, response = await asyncio.shield(forwarding)
            except asyncio.CancelledError:
                # The client has left, but what the process still calls belongs to its request.
                await _end_within(_LEFT_TIMEOUT, forwarding)
                raise
            except (ClientError, OSError) as error:
                failure = Failure(joined.pod.app, "unreachable", self._reason(error))
                return _as_chain(request, 502, Chain(error=failure))
        joined.calls += len(visit.own_chains())
        if len(joined.hosts) < _MAX_TARGETS:
            joined.hosts |= visit.hosts
        if response is not None:
            return response
        return _as_chain(request, status, self._chain(visit, request, status, start))

    @asynccontextmanager
    async def _turn_of(self, visit: _Visit) -> AsyncIterator[None]:
        """Wait for the turn of a request; one that the process itself has caused does not wait."""
        under_way = {one.passed[-1] for one in self._visits}
        async with AsyncExitStack() as exits:
            if under_way.isdisjoint(visit.passed[:-1]):
                await exits.enter_async_context(self._turn)
            self._visits.append(visit)
            try:
                yield
            finally:
                self._visits.remove(visit)

    async def _forward(
        self, request: web.BaseRequest, visit: _Visit, start: float
    ) -> tuple[int, web.StreamResponse | None]:
        """Send a request on to the process; None where only the status of its answer counts."""
        url = URL(f"{self.url}{request.raw_path}", encoded=True)
        async with self._client.request(
            request.method,
            url,
            headers=_end_to_end(request.headers),
            data=request.content if request.body_exists else None,
            allow_redirects=False,
        ) as answer:
            # A 304 has no body (RFC 9110 section 15.4.5), and the chain is the body.
            status = answer.status if answer.status >= 300 and answer.status != 304 else 200
            if _wants_chain(request):
                async for _ in answer.content.iter_any():
                    pass
                return status, None
            response = web.StreamResponse(status=answer.status, headers=_end_to_end(answer.headers))
            key = secrets.token_hex(8) if _KEY in request.headers else None
            if key is not None:
                response.headers[_KEY] = key
            await response.prepare(request)
            async for part in answer.content.iter_any():
                await response.write(part)
            if key is not None:
                while len(self._chains) >= _MAX_CHAINS:
                    # Nobody has fetched it.
                    del self._chains[next(iter(self._chains))]
                self._chains[key] = self._chain(visit, request, status, start)
            await response.write_eof()
            return status, response

    def _chain(self, visit: _Visit, request: web.BaseRequest, status: int, start: float) -> Chain:
        """The chain that begins with the process."""
        carried = [
            (name, value)
            for name, value in request.raw_headers
            if self._propagation.carries(name.lower())
        ]
        chains = visit.own_chains()
        if status >= 300:
            # Then that it got no answer there may be why.
            chains += tuple(visit.outside.values())
        hop = Hop(
            visit.pod.app,
            visit.pod.version,
            visit.place.ip,
            status,
            round((perf_counter() - start) * 1000, 3),
            {name: ", ".join(values) for name, values in values_by_name(carried).items()},
            trace_id_of(carried),
            upstreams=chains if len(chains) > 1 else (),
        )
        if len(chains) != 1:
            return Chain((hop,))
        (rest,) = chains
        return Chain((hop, *rest.hops), rest.error, rest.upstream_body)

    async def _call(self, request: web.BaseRequest) -> web.StreamResponse:
        """Send on what the process calls, by the sidecar of the pod in whose place it answers."""
        target = request.raw_path
        if not target.startswith("http://"):
            text = f"this is the http_proxy of {self.url}: it takes calls of http URLs only\n"
            return web.Response(status=501, text=text)
        visit = self._visits[-1] if self._visits else None
        call = (request.method, target.partition("?")[0])
        if visit is None:
            self._count_on_its_own(call)
        if visit is None and not self.joined:
            return web.Response(status=503, text="no pod is replaced\n")
        place = self.joined[0].place if visit is None else visit.place
        headers = _end_to_end(request.headers)
        if "*/*" in headers.get("Accept", "*/*"):
            # Only so hops tell the headers that they received.
            headers["Accept"] = JSON_TYPE
        headers[_KEY] = "1"
        if visit is not None:
            headers[_HOPS] = ",".join(visit.passed)
            if visit.remaining is not None:
                headers[_REMAINING] = str(max(0, visit.remaining - 1))
        host = _host(target)
        if visit is not None and len(visit.hosts) < _MAX_TARGETS:
            visit.hosts.add(host)
        if self._services and host not in self._services:
            _count(self.outside, host)
        try:
            async with self._client.request(
                request.method,
                URL(target, encoded=True),
                headers=headers,
                data=request.content if request.body_exists else None,
                allow_redirects=False,
                proxy=f"http://{place.ip}:{place.outbound}",
            ) as answer:
                body = bytearray()
                async for part in answer.content.iter_any():
                    body += part
                    if len(body) > _MAX_BODY:
                        raise ClientError(f"an answer of more than {_MAX_BODY} bytes")
        except (ClientError, OSError) as error:
            return web.Response(status=502, text=f"{error}\n")
        if visit is not None:
            chain = self._chains.pop(answer.headers.get(_KEY, ""), None)
            if chain is None:
                chain = _read(host, answer.status, answer.content_type, bytes(body))
            has_lane = any(name in request.headers for name in self._lane_headers)
            self._count_call(visit, call, chain, has_lane=has_lane)
        return web.Response(
            status=answer.status, headers=_end_to_end(answer.headers), body=bytes(body)
        )

    def _count_on_its_own(self, call: _Target) -> None:
        """Count a call that is made while no request is in flight."""
        if self._is_asked:
            return
        if not self._has_answered:
            _count(self._on_its_own, call)
        elif self._on_its_own[call] < _HABIT:
            _count(self._unrelated, call)

    def _count_call(self, visit: _Visit, call: _Target, chain: Chain, *, has_lane: bool) -> None:
        """Count a call that is made while a request is in flight."""
        host, outline = _host(call[1]), _outline(chain)
        is_habit = self._on_its_own[call] >= _HABIT
        if has_lane:
            visit.with_lane.add(call)
        if not is_habit:
            visit.other_hosts.add(host)
        if host not in self._services:
            visit.outside.setdefault(outline, chain)
        elif is_habit and not has_lane:
            visit.habitual.setdefault((call, outline), chain)
        else:
            visit.chains.setdefault(outline, chain)

    def _reason(self, error: Exception) -> str:
        if isinstance(error, ClientConnectorError):
            return f"nothing listens at {self.url}"
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else error
        return f"{self.url} does not answer: {reason or type(error).__name__}"[:_MAX_REASON]


async def _end_within(timeout: float, task: asyncio.Task[Any]) -> None:
    """Let a task end by itself, or cancel it after so many seconds."""
    try:
        await asyncio.wait({task}, timeout=timeout)
    finally:
        task.cancel()


async def _listen(handler: _Handler, ip: str, port: int) -> web.ServerRunner:
    server = web.Server(
        handler,
        # Nobody waits for a turn on behalf of a client that has left.
        handler_cancellation=True,
        access_log=None,
        logger=_NO_LOG,
        # A body goes on as it is.
        auto_decompress=False,
    )
    runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_TIMEOUT)
    await runner.setup()
    try:
        await web.TCPSite(runner, ip, port, reuse_address=True).start()
    except BaseException:
        await runner.cleanup()
        raise
    return runner


def _host(url: str) -> str:
    """The host of a URL that a call is for, in lower case."""
    return urlsplit(url).hostname or url


def _count(counts: Counter[_Counted], one: _Counted) -> None:
    """Count one of few."""
    if one in counts or len(counts) < _MAX_TARGETS:
        counts[one] += 1


def _wants_chain(request: web.BaseRequest) -> bool:
    """Whether a chain is asked for: by a hop or a probe, and not by another replaced process."""
    if _KEY in request.headers:
        return False
    return _HOPS in request.headers or _REMAINING in request.headers


def _as_chain(request: web.BaseRequest, status: int, chain: Chain) -> web.Response:
    """A chain as answer, in the form that is asked for."""
    if JSON_TYPE in request.headers.get("Accept", "").lower():
        return web.Response(status=status, body=chain.to_json(), content_type=JSON_TYPE)
    headers = {"Content-Type": TEXT_TYPE}
    return web.Response(status=status, body=str(chain).encode(), headers=headers)


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """The headers that go on (RFC 9110 section 7.6.1), without those of mock hops."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    left_out = _HOP_BY_HOP | _OWN | named
    kept = ((name, value) for name, value in headers.items() if name.lower() not in left_out)
    return CIMultiDict(kept)


def _read(host: str, status: int, content_type: str, body: bytes) -> Chain:
    """The chain that came back from a call of a host."""
    chain = None
    if content_type == JSON_TYPE:
        with suppress(ValueError):
            chain = Chain.from_json(body)
    text = body.decode("utf-8", "replace")
    if chain is None:
        chain = Chain.from_text(text)
    if chain.hops or chain.error is not None:
        return chain
    if status < 300:
        return Chain(upstream_body=text or None)
    reason = f"{status} {' '.join(text.split())}"[:_MAX_REASON].rstrip()
    return Chain(error=Failure(host, "unreachable", reason))


def _outline(chain: Chain) -> str:
    """What tells one call from others: the hops, whichever replica they are."""
    tree = chain.tree()
    hops = [f"{hop.app}({hop.version})" for hop in tree.hops]
    return " ".join([*hops, *(f"{end.error} {end.upstream_body}" for end in tree.ends)])
