"""The injector: has requests suffer their faults on the way to the upstream call.

There is one only where a setting asks for faults.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from mockservice.chain import Failure
from mockservice.propagation import FAULT_HEADER, Headers
from mockservice.serve import faults
from mockservice.serve.upstream import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mockservice.serve.hop import Calls, Done
    from mockservice.serve.settings import Settings
    from mockservice.serve.telemetry.tracing import Tracing

MAX_DELAYED: Final = 1024
"""Requests that are delayed at once; each holds its connection, even if its client has left."""


class Injector:
    """Calls as its upstream does, after a delay, or answers in its place."""

    def __init__(
        self,
        settings: Settings,
        upstream: Calls | None,
        count: Callable[[str], None],
        tracing: Tracing | None = None,
    ) -> None:
        """For use in one event loop, the one that runs.

        Args:
            settings: of the hop that the faults are for.
            upstream: None behind the last hop, which has faults all the same.
            count: told which one of `FAULT_KINDS` is injected, for each.
            tracing: where the hop is traced, for the marks on its spans.
        """
        self._app = settings.app
        self._faults = settings.faults
        self._takes_header = settings.fault_header
        self._upstream = upstream
        self._tracing = tracing
        self._count = count
        self._delayed = 0
        self._loop = asyncio.get_running_loop()

    def get(self, headers: Headers, timeout: float, done: Done) -> None:
        """The upstream's answer to `headers`, unless a fault of this request is in its way.

        Args:
            headers: for the upstream, those that ask for faults included.
            timeout: seconds that the upstream gets; a delay takes none of them.
            done: called once, with None behind the last hop, and told of a delay if there was one.
        """
        if self._delayed >= MAX_DELAYED:
            reason = f"more than {MAX_DELAYED} requests are delayed"
            done(UpstreamError(503, Failure(self._app, "rejected", reason)))
            return
        try:
            delay, abort = faults.draw(self._of_request(headers))
        except ValueError as error:
            done(UpstreamError(400, Failure(self._app, "rejected", str(error))))
            return
        if delay is None and abort is None:
            self._call(headers, timeout, done)
            return
        told = {}
        if delay is not None:
            told["delay"] = f"delay {delay:g} s"
        if abort is not None:
            told["abort"] = f"abort {abort}"
        self._tell(told)

        def go_on() -> None:
            self._delayed -= delay is not None
            slow = told.get("delay")
            if abort is None:
                self._call(headers, timeout, lambda outcome, _=None: done(outcome, slow))
            else:
                done(UpstreamError(abort, Failure(self._app, "injected", told["abort"])), slow)

        if delay is None:
            go_on()
        else:
            self._delayed += 1
            later = go_on if self._tracing is None else self._tracing.in_current_span(go_on)
            self._loop.call_later(delay, later)

    def _of_request(self, headers: Headers) -> tuple[faults.Fault, ...]:
        """The faults that a request may suffer; those that it asks for come first.

        Raises:
            ValueError: it asks for what there is not.
        """
        if not self._takes_header:
            return self._faults
        values = (value for name, value in headers if name.lower() == FAULT_HEADER)
        asked = (fault for fault in faults.read_header(values) if fault.hop == self._app)
        return (*asked, *self._faults)

    def _call(self, headers: Headers, timeout: float, done: Done) -> None:
        if self._upstream is None:
            done(None)
        else:
            self._upstream.get(headers, timeout, done)

    def _tell(self, injected: dict[str, str]) -> None:
        """Tell those who look at metrics and spans what is injected, by its kind."""
        for kind in injected:
            self._count(kind)
        if self._tracing is not None:
            self._tracing.mark("mockservice.fault", ", ".join(injected.values()))
