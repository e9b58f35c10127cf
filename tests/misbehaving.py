"""Misbehaving upstreams and collectors, for `tests.running.peer`."""

from __future__ import annotations

import socket
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_OK = b"HTTP/1.1 200 OK\r\n"


def reset(connection: socket.socket) -> None:
    """Close with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def hang(connection: socket.socket) -> None:
    """Read, and never answer."""
    while connection.recv(65536):
        pass


def dribble(head: bytes, part: bytes = b".", every: float = 0.05) -> Callable[..., None]:
    """Send `head`, then `part` every `every` seconds, without end."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(part)
            time.sleep(every)

    return serve


def endless(head: bytes, part: bytes) -> Callable[..., None]:
    """Send `head`, then `part` as fast as possible, up to 1 GiB."""
    block = part * (65536 // len(part) or 1)

    def serve(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(2**30 // len(block)):
            connection.sendall(block)

    return serve


dribble_body = dribble(_OK + b"Content-Length: 1000\r\n\r\n")
endless_headers = endless(_OK, b"x-header: value\r\n")
endless_header = endless(_OK, b"x")
endless_chunks = endless(
    _OK + b"Transfer-Encoding: chunked\r\n\r\n", b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
)
