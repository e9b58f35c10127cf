"""`make demo`: mocka -> mockb -> mockc on loopback, twenty requests, and one of them opened."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from mockservice.chain import JSON_TYPE, Chain

if TYPE_CHECKING:
    from collections.abc import Mapping

_APPS: Final = ("mocka", "mockb", "mockc")
_REQUESTS: Final = 20
_START_TIMEOUT: Final = 30.0
# Loopback is never behind the proxy that an environment may name.
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> int:
    """Run the demo.

    Returns:
        The exit code: 0 if all requests came back with the whole chain.
    """
    places = [_place(number) for number in range(len(_APPS))]
    urls = [f"http://{host}:{port}/" for host, port in places]
    with ExitStack() as stack:
        for app, (host, port), upstream_url in zip(_APPS, places, [*urls[1:], ""], strict=True):
            env = {"app": app, "version": "v1", "upstream_url": upstream_url}
            process = subprocess.Popen(
                [sys.executable, "-m", "mockservice"],
                env={**os.environ, **env, "host": host, "port": str(port)},
            )
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
        for url in urls:
            _wait_until_ready(url)
        return _show(f"{urls[0]}mock")


def _place(number: int) -> tuple[str, int]:
    """An address and a port for one hop, so that the chain tells hops apart as on a cluster."""
    # Linux has all of 127.0.0.0/8; elsewhere ports must do.
    for host in (f"127.0.0.{11 + number}", "127.0.0.1"):
        try:
            with socket.create_server((host, 0)) as free:
                return host, free.getsockname()[1]
        except OSError:
            continue
    raise SystemExit("mockservice: demo: no loopback address to listen at")


def _wait_until_ready(url: str) -> None:
    end = time.monotonic() + _START_TIMEOUT
    while True:
        try:
            _get(f"{url}readyz", {})
        except OSError:
            if time.monotonic() > end:
                raise SystemExit(f"mockservice: demo: {url} is not ready") from None
            time.sleep(0.05)
        else:
            return


def _get(url: str, headers: Mapping[str, str]) -> bytes:
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310
    with _OPENER.open(request, timeout=10) as response:
        body: bytes = response.read()
    return body


def _show(url: str) -> int:
    whole = 0
    for _ in range(_REQUESTS):
        traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        headers = {"traceparent": traceparent, "x-asm-prefer-tag": "v1"}
        try:
            text = _get(url, headers).decode()
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf-8", "replace")
        whole += tuple(hop.app for hop in Chain.from_text(text).hops) == _APPS
        sys.stdout.write(f"{text}\n")
    chain = Chain.from_json(_get(url, {**headers, "Accept": JSON_TYPE}))
    sys.stdout.write(f"\n{'hop':8}{'version':10}{'ip':14}{'ms':>8}  lane headers received\n")
    for hop in chain.hops:
        received = " ".join(f"{name}={value}" for name, value in hop.lane_headers.items())
        sys.stdout.write(
            f"{hop.app:8}{hop.version:10}{hop.ip:14}{hop.duration_ms:8.2f}  {received}\n"
        )
    sys.stdout.write(f"\n{whole} of {_REQUESTS} requests went through the whole chain\n")
    return 0 if whole == _REQUESTS else 1


if __name__ == "__main__":
    sys.exit(main())
