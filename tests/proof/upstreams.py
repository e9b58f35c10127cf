"""Upstreams that misbehave: named with the right status, in bounded time and memory."""

from __future__ import annotations

import socket
import ssl
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.misbehaving import (
    dribble,
    dribble_body,
    endless,
    endless_chunks,
    endless_header,
    endless_headers,
    hang,
    reset,
)
from tests.proof.finding import Extent, Finding
from tests.proof.processes import MIB, forget_peak, heard, peak_memory, stop
from tests.running import answering, certificate, ok, peer, read_head, request

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIMEOUT = 0.5
_IN_TIME = _TIMEOUT + 2.0
_GROWTH = 16 * MIB
"""Of one call: an answer of 1 MiB at most, in a few copies."""

_OK = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
_INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"
_NOT_HTTP = "(invalid: not HTTP)"
_TOO_EARLY = "(invalid: an answer that ends too early)"
_TOO_LARGE = "(invalid: an answer of more than 1048576 bytes)"
_TOO_MUCH = "(invalid: more than 6356992 bytes for a body of 1048576)"
_LONG_HEAD = "(invalid: headers of more than 65536 bytes)"
_TOO_LATE = f"(timeout: no answer within {_TIMEOUT:g} s)"
_RESET = "(unreachable: connection reset)"
_CLOSED = "(unreachable: closed without an answer)"


def _half_close(sent: bytes) -> Callable[[socket.socket], None]:
    """Send, say that this is all, and keep reading."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        hang(connection)

    return serve


def _reset_amid(connection: socket.socket) -> None:
    connection.sendall(_OK + b"Content-Length: 9\r\n\r\nshort")
    time.sleep(0.05)
    reset(connection)


_Serve = Callable[[socket.socket], None]
_Row = tuple[_Serve, int, str]
"""What the upstream does, and the status and the end of the chain that come of it."""

_PLAIN: dict[str, _Row] = {
    "dribbles bytes of the body": (dribble_body, 504, _TOO_LATE),
    "dribbles bytes of the head": (dribble(_OK, b"x"), 504, _TOO_LATE),
    "dribbles chunks": (dribble(_CHUNKED, b"1\r\n.\r\n"), 504, _TOO_LATE),
    "dribbles interim answers": (dribble(_INTERIM, _INTERIM), 504, _TOO_LATE),
    "says nothing": (hang, 504, _TOO_LATE),
    "never ends, in chunks": (endless_chunks, 502, _TOO_LARGE),
    "never ends, in chunks of a byte": (endless(_CHUNKED, b"1\r\n.\r\n"), 502, _TOO_LARGE),
    "never ends, in chunks of two bytes": (
        endless(_CHUNKED, b"2\r\n.,\r\n"),
        502,
        _TOO_LARGE,
    ),
    "never ends a chunk extension": (endless(_CHUNKED + b"1;", b"x"), 502, _TOO_MUCH),
    "never ends its trailers": (endless(_CHUNKED + b"0\r\n", b"x-a: b\r\n"), 502, _TOO_MUCH),
    "never ends, until close": (endless(_OK + b"\r\n", b"x"), 502, _TOO_LARGE),
    "never ends its headers": (endless_headers, 502, _LONG_HEAD),
    "never ends one header": (endless_header, 502, _LONG_HEAD),
    "never ends its status line": (endless(b"HTTP/1.1 200 ", b"x"), 502, _LONG_HEAD),
    "never ends its interim answers": (endless(_INTERIM, _INTERIM), 502, _LONG_HEAD),
    "sends 1 GiB": (
        endless(_OK + b"Content-Length: %d\r\n\r\n" % 2**30, b"x" * 65536),
        502,
        _TOO_LARGE,
    ),
    "has a shorter body than its length": (
        answering(_OK + b"Content-Length: 9\r\n\r\nshort"),
        502,
        _TOO_EARLY,
    ),
    "has a longer body than its length": (answering(ok(b"good") + b"more"), 200, "good"),
    "has two lengths": (
        answering(_OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        502,
        _NOT_HTTP,
    ),
    "has a length and chunks": (
        answering(
            _OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        ),
        502,
        _NOT_HTTP,
    ),
    "has a negative length": (answering(_OK + b"Content-Length: -1\r\n\r\n"), 502, _NOT_HTTP),
    "has a length past 64 bits": (
        answering(_OK + b"Content-Length: 18446744073709551617\r\n\r\nx"),
        502,
        _NOT_HTTP,
    ),
    "closes half, before its answer": (_half_close(b""), 502, _CLOSED),
    "closes half, amid its answer": (
        _half_close(_OK + b"Content-Length: 9\r\n\r\nshort"),
        502,
        _TOO_EARLY,
    ),
    "closes half, after its answer": (_half_close(ok(b"good")), 200, "good"),
    "closes half, where that ends the answer": (_half_close(_OK + b"\r\ngood"), 200, "good"),
    "resets": (reset, 502, _RESET),
    "resets amid its answer": (_reset_amid, 502, _RESET),
    "answers HTTP/0.9": (answering(b"<html>old</html>"), 502, _NOT_HTTP),
    "answers HTTP/2": (answering(b"\0\0\x12\x04\0\0\0\0\0" + b"\0" * 18), 502, _NOT_HTTP),
    "answers SSH": (answering(b"SSH-2.0-OpenSSH_9.2\r\n"), 502, _NOT_HTTP),
    "answers a status of 99999": (answering(b"HTTP/1.1 99999 Huh\r\n\r\n"), 502, _NOT_HTTP),
    "answers a status of 000": (
        answering(b"HTTP/1.1 000 Huh\r\n\r\n"),
        502,
        "(invalid: a status of 0)",
    ),
    "answers NUL in a header": (answering(_OK + b"x: a\0b\r\n\r\n"), 502, _NOT_HTTP),
    "answers a header with a line break in it": (
        answering(_OK + b"Content-Type: a\rb\r\nContent-Length: 0\r\n\r\n"),
        502,
        _NOT_HTTP,
    ),
    "answers garbage": (answering(bytes(range(256)) * 256), 502, _NOT_HTTP),
    "never ends its garbage": (endless(b"", b"\0\xff"), 502, _NOT_HTTP),
}


_TLS: dict[str, _Row] = {
    "is plain on a TLS URL": (answering(ok(b"")), 502, "(unreachable: TLS: wrong version number)"),
    "says nothing to a TLS handshake": (hang, 504, _TOO_LATE),
    "resets a TLS handshake": (reset, 502, _RESET),
    "closes in a TLS handshake": (answering(b""), 502, "(unreachable: connection reset)"),
    "dribbles a TLS handshake": (dribble(b"\x16\3\3\x40\0", b"\2"), 504, _TOO_LATE),
    "never ends its garbage on a TLS URL": (
        endless(b"", b"\0"),
        502,
        "(unreachable: TLS: wrong version number)",
    ),
}
_Secure = Callable[[_Serve], _Serve]
"""Does over TLS what it is given."""


def _over_tls(context: ssl.SSLContext, serve: _Serve) -> _Serve:
    def wrapped(connection: socket.socket) -> None:
        # A copy, as what is wrapped is closed with the handshake that fails.
        with (
            suppress(ssl.SSLError),
            context.wrap_socket(connection.dup(), server_side=True) as tls,
        ):
            read_head(tls)
            serve(tls)
        connection.shutdown(socket.SHUT_WR)
        hang(connection)

    return wrapped


def _after_the_request(serve: _Serve) -> _Serve:
    def wrapped(connection: socket.socket) -> None:
        read_head(connection)
        serve(connection)

    return wrapped


def prove(extent: Extent) -> Iterator[Finding]:
    """Call each of them, a few times."""
    plain = {what: (_after_the_request(row[0]), *row[1:]) for what, row in _PLAIN.items()}
    yield from _called(
        "http",
        extent,
        lambda secure: {
            **plain,
            "speaks TLS on a plain port": (secure(hang), 502, _CLOSED),
        },
    )
    yield from _called(
        "https",
        extent,
        lambda secure: {
            **_TLS,
            "is not trusted": (secure(hang), 502, "(unreachable: TLS: self-signed certificate)"),
        },
    )
    yield from _called(
        "https",
        extent,
        lambda secure: {
            "answers over TLS": (secure(answering(ok(b"secure"))), 200, "secure"),
            "never ends over TLS": (secure(endless_chunks), 502, _TOO_LARGE),
            "dribbles over TLS": (secure(dribble_body), 504, _TOO_LATE),
        },
        trusted=True,
    )


def _called(
    scheme: str, extent: Extent, rows: Callable[[_Secure], dict[str, _Row]], trusted: bool = False
) -> Iterator[Finding]:
    """Call the upstreams, in turn, by one hop."""
    times = 1 if extent.short else 5
    in_time = extent.within(_IN_TIME)
    serve: _Serve = hang
    with (
        tempfile.TemporaryDirectory() as folder,
        peer(lambda connection: serve(connection), read=False) as upstream,
    ):
        file = certificate(Path(folder), f"IP:{upstream.address}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        env = {"upstream_url": upstream.url.replace("http:", f"{scheme}:")}
        if trusted:
            env["SSL_CERT_FILE"] = str(file)
        own = f"-> {upstream.address}:8000"
        with heard(upstream_timeout=str(_TIMEOUT), **env) as (hop, said):
            for what, row in rows(lambda then: _over_tls(context, then)).items():
                serve, status, text = row
                before = forget_peak(hop)
                begin = time.monotonic()
                answers = [request(hop.url) for _ in range(times)]
                seconds = (time.monotonic() - begin) / times
                growth = peak_memory(hop) - before
                ends = {answer.text.removeprefix(hop.line).removeprefix(own) for answer in answers}
                yield Finding(
                    f"upstreams: one that {what}",
                    f"{times} calls",
                    f"{answers[0].status} {' '.join(sorted(ends))}, {growth / MIB:.0f} MiB",
                    f"{status}, {in_time:g} s, {_GROWTH // MIB} MiB",
                    ends == {text}
                    and all(answer.status == status for answer in answers)
                    and seconds <= in_time
                    and growth <= _GROWTH
                    and not said.crashed,
                )
            is_clean, _ = stop(hop)
            said.wait()
            yield Finding(
                f"upstreams: the hop's exit, {scheme}{', trusted' if trusted else ''}",
                f"{said.lines} lines said",
                f"{'0' if is_clean else 'not 0'}, {'crashed' if said.crashed else 'no crash'}",
                "0, no crash",
                is_clean and not said.crashed,
            )
