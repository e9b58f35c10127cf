"""A wrapper around the hop that counts all requests, and logs those that fail, or all."""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from mockservice.propagation import ids_of, traceparent_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mockservice.serve.hop import Answer, Cancelable, Hop, Request
    from mockservice.serve.settings import Settings
    from mockservice.serve.telemetry.logs import Logs
    from mockservice.serve.telemetry.metrics import Metrics
    from mockservice.serve.telemetry.trace_context import TraceContext


class ObservedHop:
    """Answers as its hop does, counts and logs."""

    def __init__(
        self,
        hop: Hop,
        settings: Settings,
        metrics: Metrics,
        logs: Logs,
        own: Callable[[], TraceContext | None] | None = None,
    ) -> None:
        """`own` returns the context of the hop's span of the current request, if it is traced."""
        self._hop = hop
        self._upstreams = ",".join(url.hop for url in settings.upstream_urls) or None
        self._logs_all = settings.access_log
        self._requests = metrics.requests
        self._logs = logs
        self._own = own
        self._end = self._ended

    def answer(self, request: Request, reply: Callable[[Answer], None]) -> Cancelable | None:
        """Reply with the hop's answer, and count it."""
        self._requests.active += 1
        own = None if self._own is None else self._own()
        # Cheaper than a closure.
        return self._hop.answer(request, partial(self._end, reply, request, own, perf_counter()))

    def _ended(
        self,
        reply: Callable[[Answer], None],
        request: Request,
        own: TraceContext | None,
        begun: float,
        answer: Answer,
    ) -> None:
        requests = self._requests
        now = perf_counter()
        seconds = now - begun
        cell = requests.add(answer.status, answer.failure, seconds)
        requests.active -= 1
        if now > requests.due[cell]:
            traceparent = own.traceparent if own else traceparent_of(request.lane_headers)
            requests.show(cell, traceparent, seconds, now)
        if answer.status >= 500 or self._logs_all:
            self._log(answer, request, own, seconds)
        reply(answer)

    def refuse_request(self, status: int, reason: str, wants_json: bool) -> Answer:
        """The hop's answer to a bad request, counted with a duration of 0 s."""
        answer = self._hop.refuse_request(status, reason, wants_json)
        self._requests.add(status, answer.failure, 0.0)
        if self._logs_all:
            self._log(answer)
        return answer

    def _log(
        self,
        answer: Answer,
        request: Request | None = None,
        own: TraceContext | None = None,
        seconds: float | None = None,
    ) -> None:
        """Log one request. A bad request has no `request`, and no duration."""
        headers = [] if own is None else [(b"traceparent", own.traceparent)]
        if request is not None:
            headers += request.lane_headers
        status = answer.status
        failure = answer.failure
        error_type = None
        upstreams = self._upstreams
        message = f"answered {status}"
        if failure is not None:
            error_type = failure.kind
            message = f"{failure.hop} {failure.kind}: {failure.reason}"
        elif status >= 500:
            error_type = str(status)
            message = f"{upstreams} answered {status}"
        if answer.failed_upstreams:
            upstreams = ",".join(name for name, _ in answer.failed_upstreams)
            message = "; ".join(f"{name} {reason}" for name, reason in answer.failed_upstreams)
        self._logs.write(
            "error" if status >= 500 else "info",
            message,
            *ids_of(headers),
            http_request_method=None if request is None else request.method,
            url_path=None if request is None else request.target.partition("?")[0],
            client_address=None if request is None else request.client_ip,
            http_response_status_code=status,
            error_type=error_type,
            upstream=upstreams,
            duration_ms=None if seconds is None else round(seconds * 1000, 3),
        )
