"""A client for one HTTP request: enough to ask pods and Envoy how they are.

It is small, as a client for all of HTTP takes longer to import than local lanes to start.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from httptools import HttpParserError, HttpResponseParser

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from pathlib import Path

_TIMEOUT: Final = 30.0
"""Seconds from the request to the end of its answer."""
_MAX_READ: Final = 65536
"""Bytes that are read at once."""


async def is_ready(ip: str, port: int) -> bool:
    """Whether a hop answers `/readyz` with 200."""
    try:
        async with asyncio.timeout(_TIMEOUT):
            streams = await asyncio.open_connection(ip, port)
            status, _ = await _ask(*streams, "GET", "/readyz", ip)
    except OSError:
        return False
    return status == 200


async def ask_admin(socket: Path, method: str, target: str) -> str:
    """Send a request to Envoy's admin interface.

    Returns:
        The body of the answer.

    Raises:
        OSError: it does not answer, or not in time.
    """
    async with asyncio.timeout(_TIMEOUT):
        streams = await asyncio.open_unix_connection(socket)
        _, body = await _ask(*streams, method, target, "envoy")
    return body


async def _ask(
    reader: StreamReader, writer: StreamWriter, method: str, target: str, host: str
) -> tuple[int, str]:
    """Send a request over a new connection, and close it.

    Returns:
        The status and the body of the answer.

    Raises:
        ConnectionError: the answer does not end, or is not HTTP.
    """
    answer = _Answer()
    parser = HttpResponseParser(answer)
    try:
        request = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        while not answer.is_whole:
            data = await reader.read(_MAX_READ)
            if not data:
                raise ConnectionError("the answer does not end")
            parser.feed_data(data)
    except HttpParserError as error:
        raise ConnectionError(f"the answer is not HTTP: {error}") from error
    finally:
        writer.close()
    return parser.get_status_code(), answer.body.decode()


class _Answer:
    """What the parser of an answer calls."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.is_whole = False

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        self.is_whole = True
