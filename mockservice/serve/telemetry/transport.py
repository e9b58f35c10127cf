"""Sends exports to a collector over plain HTTP.

The SDK sends with requests, which takes a quarter of a traced hop's memory. Only TLS, passwords and
proxies need it: see `mockservice.serve.telemetry.session`.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httptools
from opentelemetry.exporter.http.transport._base import BaseHTTPResult, BaseHTTPTransport

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ANSWER: Final = 64 * 1024
"""Cap on what is read of a collector's answer, in bytes."""
_NO_TIMEOUT: Final = 3600.0
_IN_LINE: Final = frozenset("\r\n\0")
"""What a line of a head cannot contain."""


@dataclass(frozen=True, slots=True)
class Result(BaseHTTPResult):
    """The collector's answer, without its body, or the error that came instead."""

    fields: Mapping[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        """Nothing: the exporter does not look at it."""
        return b""

    def headers(self) -> Mapping[str, str]:
        """The headers, with names in lower case."""
        return self.fields


class PlainTransport(BaseHTTPTransport):
    """Sends requests one after the other, over one connection that is kept."""

    def __init__(self) -> None:
        self._connection: socket.socket | None = None

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
        data: bytes | None = None,
    ) -> Result:
        """Send a request, and read the answer. Redirects are not followed.

        Args:
            method: the request's.
            url: an http URL.
            headers: more than `Host` and `Content-Length`.
            timeout: seconds for all of it.
            data: the body.
        """
        end = monotonic() + (_NO_TIMEOUT if timeout is None else timeout)
        answer = _Answer()
        try:
            request = _head(method, url, headers or {}, len(data or b"")) + (data or b"")
            if self._connection is None:
                self._connection = _connect(url, end)
            self._connection.settimeout(_left(end))
            self._connection.sendall(request)
            answer.read_from(self._connection, end)
        except (OSError, ValueError) as error:
            self.close()
            return Result(error=error)
        if not answer.keeps_alive:
            self.close()
        return Result(answer.status, answer.reason, fields=answer.fields)

    def is_connection_error(self, exception: Exception | None) -> bool:
        """Whether another attempt may succeed."""
        return isinstance(exception, OSError)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Answer:
    """An answer as it comes in."""

    def __init__(self) -> None:
        self.status = 0
        self.reason = ""
        self.fields: dict[str, str] = {}
        self.keeps_alive = False
        self._has_head = False
        self._is_whole = False
        self._is_last = True
        self._parser = httptools.HttpResponseParser(self)

    def read_from(self, connection: socket.socket, end: float) -> None:
        """Read the answer; of its body only what comes in time, and within `MAX_ANSWER`.

        Raises:
            OSError: no answer came, or it is not HTTP.
        """
        try:
            self._read(connection, end)
        except OSError:
            if not self._has_head:
                raise
            return
        if not self._has_head:
            raise ConnectionError("no whole head of an answer")
        self.keeps_alive = self._is_whole and not self._is_last

    def _read(self, connection: socket.socket, end: float) -> None:
        received = 0
        while not self._is_whole and received < MAX_ANSWER:
            connection.settimeout(_left(end))
            data = connection.recv(MAX_ANSWER - received)
            if not data:
                return
            received += len(data)
            try:
                self._parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                raise ConnectionError("the answer is not HTTP") from None

    # Parser callbacks.

    def on_message_begin(self) -> None:
        self.reason = ""
        self.fields = {}

    def on_status(self, reason: bytes) -> None:
        self.reason += reason.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._is_last = not self._parser.should_keep_alive()
        # An interim answer (RFC 9110 section 15.2) is followed by the real one.
        self._has_head = self.status >= 200

    def on_message_complete(self) -> None:
        self._is_whole = self._has_head


def _connect(url: str, end: float) -> socket.socket:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port or 80), _left(end))
    # A head and a small body may come in two packets.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _head(method: str, url: str, headers: Mapping[str, str], length: int) -> bytes:
    """The head of a request.

    Raises:
        ValueError: a header has a character that is not allowed.
    """
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if any(_IN_LINE.intersection(line) for line in lines):
        raise ValueError("a header has a line end")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _left(end: float) -> float:
    """Seconds until `end`.

    Raises:
        TimeoutError: it is over.
    """
    left = end - monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
