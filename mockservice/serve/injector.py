"""Fault injection, before the upstream call. Imported only if a setting asks for faults."""

from __future__ import annotations

import asyncio
from random import random, uniform
from typing import TYPE_CHECKING, Final

from mockservice.chain import Failure
from mockservice.propagation import FAULT_HEADER, FieldLines
from mockservice.serve import faults
from mockservice.serve.upstream import UpstreamError, canceled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mockservice.serve.hop import Calls, Cancelable, Done
    from mockservice.serve.settings import Settings
    from mockservice.serve.telemetry.tracing import Tracing

MAX_DELAYED: Final = 1024
"""Cap on the requests that are delayed at the same time. Each keeps its connection open."""


class Injector:
    """Calls the upstream after a delay, or answers in its place."""

    def __init__(
        self,
        settings: Settings,
        upstream: Calls | None,
        count: Callable[[str], None],
        tracing: Tracing | None = None,
    ) -> None:
        """For use in the event loop that is running.

        Args:
            settings: the hop's settings.
            upstream: None for the last hop, which can have faults too.
            count: called with one of `FAULT_KINDS` for each injected fault.
            tracing: marks the spans, if the hop is traced.
        """
        self._app = settings.app
        self._faults = settings.faults
        self._takes_header = settings.fault_header
        self._upstream = upstream
        self._tracing = tracing
        self._count = count
        self._delayed = 0
        self._loop = asyncio.get_running_loop()

    def get(self, lines: FieldLines, timeout: float, done: Done) -> Cancelable | None:
        """Inject the faults of one request; call the upstream unless one of them is an abort.

        Args:
            lines: the headers for the upstream, `x-mock-fault` included.
            timeout: seconds for the upstream; a delay does not count.
            done: called once with the outcome, None for the last hop, and with the delay if any.
        """
        if self._delayed >= MAX_DELAYED:
            reason = f"more than {MAX_DELAYED} requests are delayed"
            done(UpstreamError(503, Failure(self._app, "rejected", reason)))
            return None
        try:
            delay, abort = draw(self._faults_for(lines))
        except ValueError as error:
            done(UpstreamError(400, Failure(self._app, "rejected", str(error))))
            return None
        if delay is None and abort is None:
            return self._call(lines, timeout, done)
        injected = {}
        if delay is not None:
            injected["delay"] = f"delay {delay:g} s"
        if abort is not None:
            injected["abort"] = f"abort {abort}"
        self._record(injected)

        slow = injected.get("delay")

        def proceed() -> Cancelable | None:
            if abort is None:
                return self._call(lines, timeout, lambda outcome, _=None: done(outcome, slow))
            done(UpstreamError(abort, Failure(self._app, "injected", injected["abort"])), slow)
            return None

        if delay is None:
            return proceed()
        return self._after(delay, proceed, lambda: done(canceled(self._app), slow))

    def _after(
        self, delay: float, proceed: Callable[[], Cancelable | None], give_up: Callable[[], None]
    ) -> Cancelable:
        """Call `proceed` after `delay` seconds, or `give_up` if that is canceled before."""

        def resume() -> None:
            self._delayed -= 1
            delayed.call = proceed()

        def cancel() -> None:
            self._delayed -= 1
            timer.cancel()
            give_up()

        self._delayed += 1
        delayed = _Delayed(cancel)
        later = resume if self._tracing is None else self._tracing.in_current_span(resume)
        timer = self._loop.call_later(delay, later)
        return delayed

    def _faults_for(self, lines: FieldLines) -> tuple[faults.Fault, ...]:
        """The faults in the headers of a request, then those in the settings.

        Raises:
            ValueError: the headers have wrong syntax.
        """
        if not self._takes_header:
            return self._faults
        fields = (line.partition(b": ") for line in lines)
        values = (value for name, _, value in fields if name.lower() == FAULT_HEADER)
        asked = (fault for fault in faults.read_header(values) if fault.hop == self._app)
        return (*asked, *self._faults)

    def _call(self, lines: FieldLines, timeout: float, done: Done) -> Cancelable | None:
        if self._upstream is None:
            done(None)
            return None
        return self._upstream.get(lines, timeout, done)

    def _record(self, injected: dict[str, str]) -> None:
        """Put the injected faults, by kind, into the metrics and on the span."""
        for kind in injected:
            self._count(kind)
        if self._tracing is not None:
            self._tracing.mark("mockservice.fault", ", ".join(injected.values()))


def draw(injected: Iterable[faults.Fault]) -> tuple[float | None, int | None]:
    """Draw which faults apply to one request. If several delays or aborts apply, the first wins.

    Returns:
        The delay in seconds, rounded to milliseconds, and the status of the abort.
    """
    delay = abort = None
    for fault in injected:
        if random() * 100 < fault.percent:  # noqa: S311
            if delay is None and fault.delay is not None:
                delay = round(uniform(fault.delay.least, fault.delay.most), 3)  # noqa: S311
            if abort is None:
                abort = fault.abort
    return delay, abort


class _Delayed:
    """A delay, and then the upstream call."""

    def __init__(self, stop: Callable[[], None]) -> None:
        """`stop` ends the delay."""
        self._stop = stop
        self.call: Cancelable | None = None

    def cancel(self) -> None:
        """Cancel the call, or end the delay."""
        if self.call is None:
            self._stop()
        else:
            self.call.cancel()
