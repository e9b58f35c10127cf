"""Whether requests are still sent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sized

_QUIET = 0.5
"""Seconds without a request: many times the pause between two at the rates of the tests."""
_TIMEOUT = 20.0


def wait_until_nothing_comes(requests: Sized) -> None:
    """Wait until no request has come for half a second.

    Requests that were under way may still come for a while, on a busy machine for a long while.

    Raises:
        AssertionError: they never cease.
    """
    end = time.monotonic() + _TIMEOUT
    while time.monotonic() < end:
        seen = len(requests)
        time.sleep(_QUIET)
        if len(requests) == seen:
            return
    raise AssertionError(f"requests are sent for {_TIMEOUT:g} s already")
