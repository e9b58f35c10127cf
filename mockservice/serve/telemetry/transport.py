"""Sends exports to a collector over plain HTTP.

The SDK sends with requests, which takes a quarter of a traced hop's memory. Only TLS, passwords and
proxies need it: see `mockservice.serve.telemetry.session`.
"""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import httptools
from opentelemetry.exporter.http.transport._base import BaseHTTPResult, BaseHTTPTransport

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ANSWER: Final = 64 * 1024
"""Cap on what is read of a collector's answer, in bytes."""
_MAX_TIMEOUT: Final = 3600.0
"""Seconds, where none are given."""
_IN_TARGET: Final = "%/:=&?~+!$,;'@()*[]"
"""What a path and a query may have beside letters, digits, `_`, `.` and `-` (RFC 3986)."""
_IN_LINE: Final = frozenset("\r\n\0")
"""What a line of a head cannot have."""


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
            headers: more than `Content-Length`, and `Host` if it is another than that of the URL.
            timeout: seconds for all of it, but for looking up the host.
            data: the body.
        """
        end = monotonic() + (_MAX_TIMEOUT if timeout is None else timeout)
        answer = _Answer()
        try:
            request = _head(method, url, headers or {}, len(data or b"")) + (data or b"")
            if self._connection is not None and not _is_quiet(self._connection):
                self.close()
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

    # Parser callbacks. What comes after the answer is none of it, and nothing that can be kept.

    def on_message_begin(self) -> None:
        if self._is_whole:
            self._is_last = True
            return
        self.reason = ""
        self.fields = {}

    def on_status(self, reason: bytes) -> None:
        if not self._has_head:
            self.reason += reason.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:
            self.fields[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._has_head:
            return
        self.status = self._parser.get_status_code()
        self._is_last = not self._parser.should_keep_alive()
        # An interim answer (RFC 9110 section 15.2) is followed by the real one.
        self._has_head = self.status >= 200

    def on_message_complete(self) -> None:
        self._is_whole = self._has_head


def _is_quiet(connection: socket.socket) -> bool:
    """Whether a kept connection is open, and nothing has come since the last answer."""
    readable, _, _ = select.select([connection], [], [], 0)
    return not readable


def _connect(url: str, end: float) -> socket.socket:
    """A connection to the first address of the URL's host that accepts one."""
    parts = urlsplit(url)
    found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    failed: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
    for family, kind, protocol, _, address in found:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_left(end))
            connection.connect(address)
        except OSError as error:
            connection.close()
            failed = error
        else:
            return connection
    raise failed


def _head(method: str, url: str, headers: Mapping[str, str], length: int) -> bytes:
    """The head of a request.

    Raises:
        ValueError: a header has a character that is not allowed.
    """
    parts = urlsplit(url)
    target = quote(parts.path or "/", _IN_TARGET)
    if parts.query:
        target += f"?{quote(parts.query, _IN_TARGET)}"
    fields = {"host": parts.netloc} | {name.lower(): value for name, value in headers.items()}
    fields["content-length"] = str(length)
    lines = [f"{method} {target} HTTP/1.1", *map(": ".join, fields.items())]
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
