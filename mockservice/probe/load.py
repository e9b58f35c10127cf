"""The load: requests sent with bounded concurrency, each result yielded as it comes."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import ssl
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

import aiohttp
from multidict import CIMultiDict

from mockservice import __version__
from mockservice.chain import JSON_TYPE, Chain

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of an answer that are read."""

ID: Final = "{id}"
"""Stands in a header's value for the request's trace id: 32 hexadecimal digits, unique."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to send."""

    url: str
    method: str = "GET"
    requests: int | None = None
    """None: without end."""
    concurrency: int = 4
    """Requests under way at once, at most."""
    rate: float | None = None
    """Requests per second, at most. None: as fast as the answers come. 0: none for now."""
    headers: tuple[tuple[str, str], ...] = ()
    """Header fields to send, by lower-case name, `ID` in their values to be replaced."""
    timeout: float = 10.0
    """Seconds from a request to the end of its answer."""

    @property
    def sent(self) -> frozenset[str]:
        """The names of the lane and trace headers that each request carries."""
        return frozenset({"traceparent", *(name for name, _ in self.headers)})


@dataclass(frozen=True, slots=True)
class Result:
    """What came back for one request."""

    seconds: float
    """From the request to the end of its answer, or to the failure."""
    status: int | None = None
    """None: no answer came back."""
    chain: Chain = field(default_factory=Chain)
    error: str | None = None
    """Why no answer came back."""
    sent: tuple[tuple[str, str], ...] = ()
    """The header fields of the load that the request carried, by lower-case name."""
    url: str = ""
    """Where it was sent to."""
    method: str = "GET"


async def send(load: Load) -> AsyncGenerator[Result, None]:
    """Send the load and yield a result for each request, in the order in which they end.

    Closing the iterator gives up the requests under way.
    """
    async with aclosing(Sender(load).results()) as results:
        async for result in results:
            yield result


async def send_one_by_one(loads: Iterable[Load]) -> AsyncGenerator[Result, None]:
    """Send one request of each of these loads in their order, and yield its result.

    What a load says of the number of its requests, and of their rate, does not count.
    """
    async with _session(Load("")) as session:
        for load in loads:
            yield await _request(session, load)


class Sender:
    """Sends a load, of which URL, rate and headers may change meanwhile."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._due = 0.0
        self._changed = asyncio.Event()

    def change(self, load: Load) -> None:
        """Send this load's requests from now on; those under way end as they are."""
        self._load = load
        if load.rate:
            # Neither is a slow rate waited for to its end, nor is a pause caught up with.
            now = asyncio.get_running_loop().time()
            self._due = max(now, min(self._due, now + 1 / load.rate))
        self._changed.set()

    async def results(self) -> AsyncGenerator[Result, None]:
        """A result for each request, in the order in which they end; see `send`."""
        # Without an end, a slow reader would let results pile up: a place is held until it is read.
        places = asyncio.Semaphore(self._load.concurrency)
        results: asyncio.Queue[asyncio.Task[Result]] = asyncio.Queue()
        tasks: set[asyncio.Task[Result]] = set()
        requests = self._load.requests
        async with _session(self._load) as session:

            async def start() -> None:
                for number in itertools.count():
                    if number == requests:
                        return
                    await places.acquire()
                    await self._until_due()
                    task = asyncio.create_task(_request(session, self._load))
                    tasks.add(task)
                    task.add_done_callback(results.put_nowait)

            starting = asyncio.create_task(start())
            try:
                for number in itertools.count():
                    if number == requests:
                        return
                    task = await results.get()
                    tasks.discard(task)
                    places.release()
                    yield task.result()
            finally:
                for pending in (starting, *tasks):
                    pending.cancel()
                await asyncio.gather(starting, *tasks, return_exceptions=True)

    async def _until_due(self) -> None:
        """Wait until the rate lets one more request be sent."""
        loop = asyncio.get_running_loop()
        # A load that has fallen behind goes on at its rate, it does not catch up.
        self._due = max(self._due, loop.time())
        while (rate := self._load.rate) is not None:
            if rate and self._due <= loop.time():
                self._due += 1 / rate
                return
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._due if rate else None):
                    await self._changed.wait()


def _session(load: Load) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=load.concurrency),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        max_field_size=64 * 1024,
    )


async def _request(session: aiohttp.ClientSession, load: Load) -> Result:
    sent = _sent(load)
    headers = CIMultiDict({"User-Agent": f"mockservice/{__version__}"})
    for name in {name for name, _ in sent}:
        headers.popall(name, None)
    headers.extend(sent)
    headers["Accept"] = JSON_TYPE
    headers["Accept-Encoding"] = "identity"
    result = partial(Result, sent=sent, url=load.url, method=load.method)
    start = perf_counter()
    try:
        async with session.request(
            load.method,
            load.url,
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=load.timeout),
        ) as response:
            body = await _body(response)
    except (aiohttp.ClientError, OSError, UnicodeError, _TooLargeError) as error:
        return result(perf_counter() - start, error=_reason(error, load.timeout))
    chain = _chain(response.content_type, body)
    return result(perf_counter() - start, response.status, chain)


def _sent(load: Load) -> tuple[tuple[str, str], ...]:
    """The load's headers of one request, and a fresh W3C `traceparent` (Trace Context section 3.2)
    where it has none of its own.
    """
    trace_id = secrets.token_hex(16)
    sent = tuple((name, value.replace(ID, trace_id)) for name, value in load.headers)
    if any(name == "traceparent" for name, _ in sent):
        return sent
    return (("traceparent", f"00-{trace_id}-{secrets.token_hex(8)}-01"), *sent)


class _TooLargeError(Exception):
    """An answer of more than `MAX_BODY` bytes."""


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > MAX_BODY:
            raise _TooLargeError
    return bytes(body)


def _chain(content_type: str, body: bytes) -> Chain:
    """The chain that was answered, in either form; what is no chain is in `upstream_body`."""
    if content_type == JSON_TYPE:
        try:
            return _whole(Chain.from_json(body))
        except ValueError:
            pass
    return Chain.from_text(body.decode("utf-8", "replace"))


def _whole(chain: Chain) -> Chain:
    """With the hops that a JSON chain shows as text, because they know no other form."""
    if chain.hops and (upstreams := chain.hops[-1].upstreams):
        last = replace(chain.hops[-1], upstreams=tuple(map(_whole, upstreams)))
        return replace(chain, hops=(*chain.hops[:-1], last))
    if chain.upstream_body is None or chain.error is not None:
        return chain
    rest = Chain.from_text(chain.upstream_body)
    return Chain((*chain.hops, *rest.hops), rest.error, rest.upstream_body)


def _reason(error: Exception, timeout: float) -> str:
    """Why no answer came back, in a few words."""
    # The order matters: each of these is one of those below it.
    match error:
        case TimeoutError():
            return f"no answer within {timeout:g} s"
        case aiohttp.ClientConnectorDNSError() | UnicodeError():
            return "unknown host"
        case aiohttp.ClientConnectorCertificateError():
            cause = error.certificate_error
            text = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else ""
            return f"TLS: {text or cause}"
        case aiohttp.ClientSSLError():
            return "TLS: handshake failed"
        case aiohttp.ServerDisconnectedError():
            return "connection closed without an answer"
        case aiohttp.ClientPayloadError():
            return "answer cut short"
        case aiohttp.ClientResponseError():
            return "answer is not HTTP"
        case OSError() if error.errno:
            return os.strerror(error.errno).lower()
        case _TooLargeError():
            return f"answer of more than {MAX_BODY} bytes"
        case _:
            return "connection failed"
