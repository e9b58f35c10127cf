"""`/metrics`: negotiates the text format, and writes it in a thread."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from mockservice.chain import TEXT_TYPE
from mockservice.serve.hop import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from mockservice.serve.hop import Request
    from mockservice.serve.settings import Settings
    from mockservice.serve.telemetry.metrics import Metrics

_OPEN_METRICS: Final = "application/openmetrics-text"
_TYPES: Final = {
    True: f"{_OPEN_METRICS}; version=1.0.0; charset=utf-8",
    False: "text/plain; version=0.0.4; charset=utf-8",
}
_log: Final = logging.getLogger(__name__)


class Scrapes:
    """Answers with the metrics of a hop. For use in the event loop that is running."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._loop = asyncio.get_running_loop()
        self._app = settings.app
        self._version = settings.version
        self._metrics = metrics
        self._pending: dict[bool, asyncio.Future[Answer]] = {}

    def answer(self, request: Request, reply: Callable[[Answer], None]) -> None:
        """Reply with the text that a thread writes. Concurrent scrapes share one text."""
        open_metrics = _takes_open_metrics(request)
        pending = self._pending.get(open_metrics)
        if pending is None:
            self._metrics.publish()
            pending = self._loop.run_in_executor(None, self._write, open_metrics)
            self._pending[open_metrics] = pending
            pending.add_done_callback(lambda _: self._pending.pop(open_metrics))
        pending.add_done_callback(lambda done: reply(done.result()))

    def _write(self, open_metrics: bool) -> Answer:
        try:
            # Takes time and memory: only hops that are scraped import it.
            from mockservice.serve.telemetry import exposition

            snapshot = self._metrics.snapshot()
            text = exposition.text(self._app, self._version, snapshot, open_metrics=open_metrics)
        except Exception:  # the request must be answered
            _log.exception("no metrics")
            return Answer(500, TEXT_TYPE, b"no metrics: see the logs")
        return Answer(200, _TYPES[open_metrics], text)


def _takes_open_metrics(request: Request) -> bool:
    """Whether `Accept` prefers OpenMetrics, or ranks both equal (RFC 9110 section 12.5.1).

    Prometheus accepts both, and prefers OpenMetrics.
    """
    qualities = {_OPEN_METRICS: 0.0, "text/plain": 0.0}
    for name, value in request.headers:
        if name.lower() == b"accept":
            for part in value.decode("latin-1").lower().split(","):
                media_type, *parameters = (field.strip() for field in part.split(";"))
                if media_type in qualities:
                    qualities[media_type] = max(qualities[media_type], _quality(parameters))
    return 0 < qualities[_OPEN_METRICS] >= qualities["text/plain"]


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0
    return 1
