"""The server of a hop: it listens, answers the reserved paths, and drains."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from http import HTTPStatus
from time import gmtime, time
from typing import TYPE_CHECKING, Final, cast

from mockservice.chain import TEXT_TYPE
from mockservice.propagation import Propagation
from mockservice.serve.connection import Connection, HeaderNames, RunQueue
from mockservice.serve.hop import Answer, Request
from mockservice.serve.settings import SettingError
from mockservice.serve.telemetry.scrape import Scrapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from mockservice.serve.hop import Answers, Cancelable
    from mockservice.serve.settings import Settings
    from mockservice.serve.telemetry.metrics import Metrics
    from mockservice.serve.telemetry.observed import ObservedHop

GRACE_PERIOD: Final = 10.0
"""Seconds for requests in flight to finish once the server drains."""

_BACKLOG: Final = 1024
# Seconds between two checks for timeouts.
_CHECK_EVERY: Final = 1.0
# A draining server keeps listening, as load balancers take a moment to see that it is not ready: it
# stops after `_QUIET` seconds without a request, and after `_LISTEN_ON` seconds at the latest.
_QUIET: Final = 0.2
_LISTEN_ON: Final = GRACE_PERIOD / 2
# Seconds between two looks at what a draining server waits for.
_POLL: Final = 0.02
# Cap on the cached heads.
_MAX_HEADS: Final = 256
# strftime would name them in the language of the machine, and email.utils takes 1 MiB.
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"
_HOST_ALLOWED: Final = "an address or a name of this machine"


class Server:
    """Serves one hop on `settings.host` and `settings.port`."""

    def __init__(
        self,
        settings: Settings,
        hop: ObservedHop,
        metrics: Metrics,
        traced: Answers | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.header_names = HeaderNames(Propagation(settings.lane_headers).carries)
        self.run_queue = RunQueue(self.loop)
        self.connections: set[Connection] = set()
        self.is_draining = False
        self.refuse = hop.refuse_request
        self._settings = settings
        self._answers: Answers = traced or hop
        self._metrics = metrics
        self._scrapes = Scrapes(settings, metrics)
        self._set_state("starting", 503)
        self._last_request = 0.0
        self._heads: dict[tuple[int, str, str, int], bytes] = {}
        self._heads_second = 0
        self._listeners: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen on the port, then report ready.

        Raises:
            SettingError: `host` or `port` cannot be used.
        """
        settings = self._settings
        for listening in _listen(settings.host, settings.port, shared=settings.workers > 1):
            listener = await self.loop.create_server(
                self._connect, sock=listening, backlog=_BACKLOG
            )
            self._listeners.append(listener)
        self._tick()
        self._set_state("ready", 200)

    def _connect(self) -> asyncio.Protocol:
        # It is none by inheritance, which a compiled class cannot be.
        return cast("asyncio.Protocol", Connection(self))

    async def drain(self) -> None:
        """Report not ready, finish the requests in flight, close all connections.

        Connections that are still open after `GRACE_PERIOD` are aborted.
        """
        self.is_draining = True
        self._set_state("draining", 503)
        end = self.loop.time() + GRACE_PERIOD
        await self._wait_while(self._is_used, end - _LISTEN_ON)
        for listener in self._listeners:
            listener.close()
        # Meanwhile, each answer closes its connection.
        await self._wait_while(self._is_busy, end)
        for connection in list(self.connections):
            connection.close()
        # Slow clients still read their last answer.
        await self._wait_while(lambda: bool(self.connections), end)
        for connection in list(self.connections):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()

    async def _wait_while(self, condition: Callable[[], bool], end: float) -> None:
        while condition() and self.loop.time() < end:
            await asyncio.sleep(_POLL)

    def _is_busy(self) -> bool:
        return any(connection.is_busy for connection in self.connections)

    def _is_used(self) -> bool:
        """Whether requests are in flight, or a client has sent one just now."""
        was_quiet = self.loop.time() > self._last_request + _QUIET
        return (bool(self.connections) and not was_quiet) or self._is_busy()

    def answer(self, request: Request, reply: Callable[[Answer], None]) -> Cancelable | None:
        """Call `reply` once with the answer to `request`, now or later."""
        answer = self._reserved.get(request.target.partition("?")[0])
        if answer is not None:
            answer(request, reply)
            return None
        self._last_request = self.loop.time()
        return self._answers.answer(request, reply)

    def _set_state(self, state: str, status: int) -> None:
        """Answer `/readyz` with `state` and `status` from now on."""
        self._reserved = {
            "/healthz": _always(Answer(200, TEXT_TYPE, b"alive")),
            "/readyz": _always(Answer(status, TEXT_TYPE, state.encode())),
            "/metrics": self._scrapes.answer,
        }

    def head(self, answer: Answer, connection: str) -> bytes:
        """Status line and headers of `answer`; `connection` is the `Connection` header, if any.

        It is cached until `Date` changes.
        """
        now = int(time())
        if now != self._heads_second:
            # `Date` has changed.
            self._heads_second = now
            self._heads.clear()
        length = len(answer.body)
        key = (answer.status, answer.content_type, connection, length)
        head = self._heads.get(key)
        if head is None:
            fields = f"Connection: {connection}\r\n" if connection else ""
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            head = self._heads[key] = (
                f"HTTP/1.1 {answer.status} {_reason(answer.status)}\r\nServer: mockservice\r\n"
                f"Content-Type: {answer.content_type}\r\n{fields}"
                f"Date: {_date(now)}\r\nContent-Length: {length}\r\n\r\n"
            ).encode("ascii")
        return head

    def _tick(self) -> None:
        now = self.loop.time()
        for connection in list(self.connections):
            connection.check_timeouts(now)
        self._metrics.publish()
        self._timer = self.loop.call_later(_CHECK_EVERY, self._tick)


def _always(answer: Answer) -> Callable[[Request, Callable[[Answer], None]], None]:
    return lambda _, reply: reply(answer)


def _date(now: int) -> str:
    """`now`, in seconds since the epoch, as an IMF-fixdate (RFC 9110 section 5.6.7)."""
    time = gmtime(now)
    day, month = _DAYS[time.tm_wday], _MONTHS.split()[time.tm_mon - 1]
    clock = f"{time.tm_hour:02}:{time.tm_min:02}:{time.tm_sec:02}"
    return f"{day}, {time.tm_mday:02} {month} {time.tm_year:04} {clock} GMT"


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        # An unregistered status of the upstream. The phrase may be empty (RFC 9112 section 4).
        return ""


def _listen(host: str | None, port: int, *, shared: bool) -> list[socket.socket]:
    """Listening sockets: one on all interfaces, or one for each address of `host`.

    Args:
        host: an address or a name of this machine; None for all interfaces.
        port: the port.
        shared: whether other processes may listen on the same port.

    Raises:
        SettingError: an address does not belong to this machine, or the port is taken.
    """
    if host is None:
        # The first takes IPv6 and IPv4. The second is for machines without IPv6.
        addresses = [(socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")]  # noqa: S104
    else:
        addresses = _addresses(host)
    listening = []
    for family, address in addresses:
        try:
            listening.append(_bind(family, address, port, shared, dual_stack=host is None))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                where = "all interfaces" if host is None else host
                reason = f"free on {where} ({os.strerror(error.errno or 0).lower()})"
                raise SettingError("port", str(port), reason) from None
        else:
            if host is None:
                break
    if not listening:
        raise SettingError("host", host or "", _HOST_ALLOWED)
    return listening


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    # For a text, Python imports the codec of international names.
    name = host.encode() if host.isascii() else host
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise SettingError("host", host, _HOST_ALLOWED) from None
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _bind(
    family: socket.AddressFamily, address: str, port: int, shared: bool, dual_stack: bool
) -> socket.socket:
    return socket.create_server(
        (address, port),
        family=family,
        backlog=_BACKLOG,
        reuse_port=shared,
        dualstack_ipv6=dual_stack and family == socket.AF_INET6,
    )
