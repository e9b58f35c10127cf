"""What can go wrong with local lanes."""

from __future__ import annotations


class LanesError(Exception):
    """Local lanes cannot start or go on; the text is one line."""
