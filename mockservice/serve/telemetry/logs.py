"""Logs: one JSON object per line, in ASCII, on standard error."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from time import gmtime, time
from typing import Final

from mockservice.serve.telemetry.lines import MAX_LINE, Lines

MAX_TEXT: Final = 512
"""Cap on each text in a line, in characters. Longer texts are cut."""
_STANDARD_ERROR: Final = 2
_CLOSE_TIMEOUT: Final = 1.0

_Line = dict[str, str | float | None]

# Escaped to ASCII, so that no text contains line ends or terminal commands.
_encode: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


class Logs:
    """Writes the log of one hop."""

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
        """Write one line, without the `fields` that are None. Never waits and never raises."""
        self._lines.put(self._line(level, message, trace_id, span_id, fields))

    def take_over(self) -> None:
        """Also write the logs of libraries, from level warning on, and Python's warnings."""
        logging.basicConfig(level=logging.WARNING, handlers=[_Handler(self)])
        logging.captureWarnings(True)

    def close(self) -> None:
        """Write the queued lines within one second, and stop."""
        self._lines.close(_CLOSE_TIMEOUT)

    def _line(
        self,
        level: str,
        message: str,
        trace_id: str | None,
        span_id: str | None,
        fields: dict[str, str | float | None],
    ) -> bytes:
        line: _Line = {
            "time": _now(),
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
            # Escaping makes a text up to six times as long.
            limit //= 2
            encoded = f"{_encode(_bounded(line, limit))}\n".encode("ascii")
        return encoded

    def _lost(self, lines: int) -> bytes:
        message = f"{lines} lines lost: standard error did not take them"
        return self._line("warning", message, None, None, {})


def keep_standard_error() -> None:
    """If standard error is closed, open /dev/null in its place: a socket could get its number."""
    if sys.stderr is None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != _STANDARD_ERROR:
            os.dup2(nowhere, _STANDARD_ERROR)
            os.close(nowhere)
        sys.stderr = open(_STANDARD_ERROR, "w", closefd=False)  # noqa: SIM115


def _now() -> str:
    """The time in UTC, with milliseconds (RFC 3339)."""
    milliseconds = int(time() * 1000)
    now = gmtime(milliseconds // 1000)
    return (
        f"{now.tm_year:04}-{now.tm_mon:02}-{now.tm_mday:02}T"
        f"{now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}.{milliseconds % 1000:03}Z"
    )


class _Handler(logging.Handler):
    """Writes the records of the standard library's logging."""

    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # the arguments do not fit the message
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
    """The stack trace of an error in one line, innermost call first."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return " < ".join(
        f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}"  # noqa: PTH119
        for frame in frames
    )


def _bounded(line: _Line, limit: int) -> _Line:
    """`line` with texts cut to `limit` characters, and without lone surrogates."""
    bounded: _Line = {}
    for name, value in line.items():
        if isinstance(value, str):
            if len(value) > limit:
                value = f"{value[: limit - 1]}…"
            # Bytes that are not UTF-8 (PEP 383) are shown in hexadecimal.
            value = value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        bounded[name] = value
    return bounded
