"""A load at a constant rate: requests are sent on schedule, even if earlier ones are not answered.

Latency counts from the scheduled time of a request, so that delays are not hidden (Gil Tene, "How
NOT to Measure Latency": coordinated omission). This process polls and never sleeps, as a timer of
the system is late by about as much as the latencies measured here.

    python -m bench.steady CONNECTIONS RATE REQUESTS HEADERS URL=ANSWER...

`HEADERS` is a JSON object. The URLs are used in turn. The output is a JSON list of the latencies in
seconds, in the order in which the requests ended.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import sys
from collections import deque
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GRACE_PERIOD: Final = 10.0
"""Seconds after the scheduled time of the last request, until all must be answered."""
_MAX_ANSWER: Final = 1 << 16
_CHECK_END: Final = 10_000
"""Polls between two checks of the grace period."""


@dataclass(slots=True)
class Connection:
    """One connection, with at most one request in flight."""

    socket: socket.socket
    request: bytes
    answer: bytes
    """The expected body."""
    due: float = 0.0
    """The scheduled time of the request."""
    received: bytes = b""


def connect(url: str, answer: str, headers: Mapping[str, str]) -> Connection:
    """Open one connection, which always sends the same request."""
    parts = urlsplit(url)
    lines = [f"GET {parts.path} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    opened = socket.create_connection((parts.hostname or "", parts.port or 80))
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.setblocking(False)
    return Connection(opened, ("\r\n".join(lines) + "\r\n\r\n").encode(), answer.encode())


def load(connections: Sequence[Connection], rate: float, requests: int) -> list[float]:
    """Send `requests` requests, `rate` per second, over free connections.

    Returns:
        Their latencies in seconds.

    Raises:
        ValueError: an answer is not the expected one, or too late.
    """
    poll = select.epoll()
    by_descriptor = {connection.socket.fileno(): connection for connection in connections}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    free = deque(connections)
    latencies: list[float] = []
    sent = looks = 0
    start = perf_counter()
    end = start + requests / rate + GRACE_PERIOD
    while len(latencies) < requests:
        while free and sent < requests and (due := start + sent / rate) <= perf_counter():
            connection = free.popleft()
            connection.due = due
            connection.socket.send(connection.request)
            sent += 1
        for descriptor, _ in poll.poll(0):
            connection = by_descriptor[descriptor]
            if is_answered(connection):
                latencies.append(perf_counter() - connection.due)
                free.append(connection)
        looks += 1
        if looks % _CHECK_END == 0 and perf_counter() > end:
            raise ValueError(f"{requests - len(latencies)} of {requests} answers came too late")
    return latencies


def is_answered(connection: Connection) -> bool:
    """Read from the connection; whether the answer is complete.

    Raises:
        ValueError: the answer is not the expected one.
    """
    part = connection.socket.recv(_MAX_ANSWER)
    if not part:
        raise ValueError("a connection was closed before its answer was complete")
    connection.received += part
    head, head_end, body = connection.received.partition(b"\r\n\r\n")
    if not head_end:
        return False
    if not head.startswith(b"HTTP/1.1 200 ") or not connection.answer.startswith(body):
        raise ValueError(f"unexpected answer: {connection.received!r}")
    if len(body) < len(connection.answer):
        return False
    connection.received = b""
    return True


def main(argv: Sequence[str]) -> int:
    """Run one load.

    Returns:
        The exit code: 0 done, 1 a request failed.
    """
    count, rate, requests, headers, *targets = argv
    gc.disable()
    urls = [target.partition("=") for target in targets]
    try:
        connections = [
            connect(url, answer, json.loads(headers))
            for _ in range(int(count) // len(urls))
            for url, _, answer in urls
        ]
        latencies = load(connections, float(rate), int(requests))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    json.dump(latencies, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
