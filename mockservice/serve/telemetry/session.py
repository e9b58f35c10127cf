"""Sends exports with requests. Imported only for TLS, passwords and proxies."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import requests
import urllib3

from mockservice.serve.telemetry.transport import MAX_ANSWER


class Session(requests.Session):
    """Reads at most `MAX_ANSWER` bytes of a collector's answer."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: requests would read the whole body of a redirect, even if it does not follow it."""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        response = super().send(request, **{**options, "stream": True})
        with suppress(urllib3.exceptions.HTTPError, OSError):
            # The whole answer is read: the connection can be kept alive.
            if len(response.raw.read(MAX_ANSWER)) < MAX_ANSWER:
                return response
        response.close()
        return response
