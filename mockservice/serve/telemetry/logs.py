"""Logs: one JSON object a line, on standard error, in ASCII, whatever texts it is made of."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from time import time
from typing import Final

from mockservice.serve.telemetry.lines import MAX_LINE, Lines

MAX_TEXT: Final = 512
"""Characters of a text in a line; a longer one is cut."""
_STANDARD_ERROR: Final = 2
_CLOSE_TIMEOUT: Final = 1.0

_Line = dict[str, str | float | None]

# ASCII alone: what a terminal or a log's reader would take for a command or a line end is escaped.
_encode: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


class Logs:
    """The log lines of one hop."""

    def __init__(self, app: str, version: str) -> None:
        self._hop = {"app": app, "version": version}
        self._lines = Lines(_STANDARD_ERROR, self._lost)

    def write(
        self,
        level: str,
        message: str,
        trace_id: str | None = None,
        span_id: str | None = None,
        **fields: str | float | None,
    ) -> None:
        """Write one line; `fields` that are None are left out. Never waits, never raises."""
        self._lines.put(self._line(level, message, trace_id, span_id, fields))

    def take_over(self) -> None:
        """Write what libraries log, from warnings on, and Python's own warnings."""
        logging.basicConfig(level=logging.WARNING, handlers=[_Handler(self)])
        logging.captureWarnings(True)

    def close(self) -> None:
        """Write what is still to be written, within a second."""
        self._lines.close(_CLOSE_TIMEOUT)

    def _line(
        self,
        level: str,
        message: str,
        trace_id: str | None,
        span_id: str | None,
        fields: dict[str, str | float | None],
    ) -> bytes:
        now = datetime.fromtimestamp(time(), UTC).isoformat(timespec="milliseconds")
        line: _Line = {
            "time": now.replace("+00:00", "Z"),
            "level": level,
            **self._hop,
            "trace_id": trace_id,
            "span_id": span_id,
            "message": message,
            **{name: value for name, value in fields.items() if value is not None},
        }
        limit = 2 * MAX_TEXT
        encoded = b""
        while not encoded or len(encoded) > MAX_LINE:
            # What is escaped takes up to six times its characters.
            limit //= 2
            encoded = f"{_encode(_bounded(line, limit))}\n".encode("ascii")
        return encoded

    def _lost(self, lines: int) -> bytes:
        message = f"{lines} lines lost: standard error did not take them"
        return self._line("warning", message, None, None, {})


def keep_standard_error() -> None:
    """Where standard error is closed, open it to nowhere, so that no socket takes its number."""
    if sys.stderr is None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != _STANDARD_ERROR:
            os.dup2(nowhere, _STANDARD_ERROR)
            os.close(nowhere)
        sys.stderr = open(_STANDARD_ERROR, "w", closefd=False)  # noqa: SIM115


class _Handler(logging.Handler):
    """Writes records of the standard library's logging."""

    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # arguments that do not fit the text
            message = str(record.msg)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            message = f"{message} ({type(error).__name__}: {error})"
        self._logs.write(
            record.levelname.lower(),
            message,
            logger=record.name,
            exception_stacktrace=None if error is None else _stack(error),
        )


def _stack(error: BaseException) -> str:
    """Where an error comes from, the innermost call first, in one line."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return " < ".join(
        f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}"  # noqa: PTH119
        for frame in frames
    )


def _bounded(line: _Line, limit: int) -> _Line:
    """`line` with no text of more than `limit` characters, all of them such as JSON may have."""
    bounded: _Line = {}
    for name, value in line.items():
        if isinstance(value, str):
            if len(value) > limit:
                value = f"{value[: limit - 1]}…"
            # Bytes that are no UTF-8 (PEP 383) show in hexadecimal.
            value = value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        bounded[name] = value
    return bounded
