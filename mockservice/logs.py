"""Logs: one line each, on standard error, without tracebacks."""

from __future__ import annotations

import logging


class OneLine(logging.Formatter):
    """Says an exception by its type and text, at the end of the line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, line breaks escaped."""
        error = record.exc_info[1] if record.exc_info else None
        record.exc_info = record.exc_text = record.stack_info = None
        line = super().format(record)
        if error is not None:
            line = f"{line} ({type(error).__name__}: {error})"
        return line.replace("\r", "\\r").replace("\n", "\\n")


def set_up() -> None:
    """Write what is logged, from warnings on, to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
