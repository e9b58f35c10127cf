"""`python -m mockservice.serve.healthcheck`: is this container's hop ready? For a HEALTHCHECK.

It reads the same environment as the hop, and asks for `/readyz` where the hop listens.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from ipaddress import ip_address
from typing import Final

from mockservice.serve.settings import SettingError, Settings

_TIMEOUT: Final = 2.0
"""Seconds for the whole check, connecting included."""
_MAX_STATUS_LINE: Final = 256
_REQUEST: Final = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
# RFC 9112 section 4.
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r\n]")


def main() -> int:
    """Print one line that says whether the hop is ready.

    Returns:
        The exit code of a Docker HEALTHCHECK: 0 healthy, 1 unhealthy.
    """
    try:
        settings = Settings.from_env(os.environ)
        status = _status(_reachable(settings.host), settings.port)
    except SettingError as error:
        sys.stdout.write(f"not ready: {error}\n")
        return 1
    # UnicodeError: the host is not a valid name.
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        sys.stdout.write(f"not ready: {str(reason).lower()}\n")
        return 1
    sys.stdout.write("ready\n" if status == 200 else f"not ready: status {status}\n")
    return 0 if status == 200 else 1


def _reachable(host: str | None) -> str:
    """The address at which a listener on `host` answers locally: loopback, if it listens on all."""
    if host is None:
        return "127.0.0.1"
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


def _status(host: str, port: int) -> int:
    """The status of `/readyz`.

    Raises:
        OSError: no connection, no HTTP answer, or none within `_TIMEOUT`.
    """
    end = time.monotonic() + _TIMEOUT
    with socket.create_connection((host, port), _TIMEOUT) as connection:
        connection.sendall(_REQUEST)
        answer = b""
        while b"\n" not in answer and len(answer) < _MAX_STATUS_LINE:
            # A socket's timeout applies to each call; `_TIMEOUT` is for all calls together.
            connection.settimeout(max(end - time.monotonic(), 0.001))
            part = connection.recv(_MAX_STATUS_LINE)
            if not part:
                break
            answer += part
    if match := _STATUS_LINE.match(answer):
        return int(match[1])
    raise OSError("the answer is not HTTP")


if __name__ == "__main__":
    sys.exit(main())
