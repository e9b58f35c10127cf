"""The error of local lanes."""

from __future__ import annotations


class LanesError(Exception):
    """Local lanes cannot start or continue. The text is one line."""
