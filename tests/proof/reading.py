"""An independent reading of bytes as HTTP/1.1 requests (RFC 9112): how many may be answered.

Slow and plain, by the grammar alone; shares nothing with the server's parser.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# Of a target only its characters are looked at (RFC 3986 section 2).
# More than one space is a leniency that RFC 9112 section 3 allows.
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") +([\x21-\x7e]+) +HTTP/1\.([01])")
_FIELD = re.compile(
    rb"(" + _TOKEN + rb"):[ \t]*((?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)[ \t]*"
)
# RFC 9110 section 15.6.6: the major version is refused.
_OTHER_VERSION = re.compile(
    rb"(?:GET|HEAD|POST|PUT|OPTIONS|PURGE) /[\x21-\x7e]* HTTP/[2-9]\.[0-9]\r\n"
)
# RFC 9110 section 15.6.2: no method of the parser's begins so.
_OTHER_METHOD = re.compile(rb"(?:BREW|GETS|X{17,300}|UPDATEREDIRECTREF) ")
_DIGITS = re.compile(rb"[0-9]+")
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)(?:[ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?")


class Request(NamedTuple):
    """One request."""

    method: bytes
    length: int | None
    """Bytes of the body; None: it is in chunks."""
    lanes: list[bytes]
    """The values of its `x-lane` headers that are for more than this hop."""
    asks_for_upgrade: bool


def read(sent: bytes) -> list[Request]:
    """The whole and well-formed requests at the beginning of `sent`, in order."""
    return _read(sent)[0]


def unsupported(sent: bytes) -> int | None:
    """The status of what follows those requests; None if it is not known to be unsupported."""
    place = _read(sent)[1]
    if place is not None and _OTHER_VERSION.match(sent, place):
        return 505
    if place is not None and _OTHER_METHOD.match(sent, place):
        return 501
    return None


def _read(sent: bytes) -> tuple[list[Request], int | None]:
    """The requests, and where what follows them begins; None if it may be their body."""
    requests: list[Request] = []
    place = 0
    while True:
        # RFC 9112 section 2.2: empty lines before a request are ignored, and may end in bare LF.
        while sent[place : place + 1] in (b"\r", b"\n"):
            place += 1
        end = sent.find(b"\r\n\r\n", place)
        request = _head(sent[place:end]) if end >= 0 else None
        if request is None or _OTHER_METHOD.match(sent, place):
            return requests, place
        if request.asks_for_upgrade and request.length != 0:
            # May be answered without its body, if nothing else is then.
            return [*requests, request], None
        body = end + 4
        after = _after_chunks(sent, body) if request.length is None else body + request.length
        if after is None or after > len(sent):
            return requests, None
        requests.append(request)
        place = after


def _head(head: bytes) -> Request | None:
    """The request with this head; None if it is none."""
    first, *lines = head.split(b"\r\n")
    request_line = _REQUEST_LINE.fullmatch(first)
    if request_line is None:
        return None
    values: dict[bytes, list[bytes]] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            return None
        values.setdefault(field[1].lower(), []).append(field[2])
    lengths = values.get(b"content-length", [])
    encodings = values.get(b"transfer-encoding", [])
    if len(lengths) + len(encodings) > 1:
        return None
    length: int | None = 0
    if encodings:
        if encodings[0].lower() != b"chunked" or request_line[3] == b"0":
            return None
        length = None
    elif lengths:
        if not _DIGITS.fullmatch(lengths[0]):
            return None
        length = int(lengths[0])
    options = b",".join(values.get(b"connection", [])).lower().split(b",")
    options = [option.strip(b" \t") for option in options]
    # RFC 9110 section 7.6.1.
    lanes = [] if b"x-lane" in options else values.get(b"x-lane", [])
    asks_for_upgrade = b"upgrade" in values and b"upgrade" in options
    return Request(request_line[1], length, lanes, asks_for_upgrade)


def _after_chunks(sent: bytes, place: int) -> int | None:
    """Where the body in chunks that begins at `place` ends; None if it does not."""
    while True:
        end = sent.find(b"\r\n", place)
        chunk = _CHUNK.fullmatch(sent, place, end) if end >= 0 else None
        if chunk is None:
            return None
        size = int(chunk[1], 16)
        place = end + 2
        if size == 0:
            return _after_trailers(sent, place)
        place += size
        if not sent.startswith(b"\r\n", place):
            return None
        place += 2


def _after_trailers(sent: bytes, place: int) -> int | None:
    while True:
        end = sent.find(b"\r\n", place)
        if end < 0:
            return None
        if end == place:
            return end + 2
        if _FIELD.fullmatch(sent, place, end) is None:
            return None
        place = end + 2
