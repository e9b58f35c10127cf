"""Imports that the garbage collector leaves alone."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def uncollected() -> Iterator[None]:
    """The garbage collector leaves alone what is imported meanwhile.

    Nothing in it is garbage: to look takes a twentieth of a hop's start, and makes worker processes
    copy memory that they could share.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
