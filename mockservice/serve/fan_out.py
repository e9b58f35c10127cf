"""The calls of a hop with several upstreams: all at the same time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, cast

from mockservice.chain import Failure
from mockservice.serve.hop import REMAINING_FIELD, TREE_TOO_LARGE
from mockservice.serve.upstream import MAX_BODY, Answer, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mockservice.propagation import FieldLines
    from mockservice.serve.hop import Calls, Cancelable
    from mockservice.serve.upstream import Outcome, Outcomes

_TOO_LONG: Final = f"answers of more than {MAX_BODY} bytes together"


class FanOut:
    """Calls several upstreams at the same time."""

    def __init__(self, upstreams: Sequence[Calls], names: Sequence[str]) -> None:
        """`names` are those by which failures name the upstreams."""
        self.upstreams = tuple(zip(upstreams, names, strict=True))

    def get(
        self, lines: FieldLines, timeout: float, done: Callable[[Outcomes], None]
    ) -> Cancelable:
        """GET all upstreams with these headers.

        Args:
            lines: the headers for each upstream. `x-mock-hops-remaining` must be the last one: each
                upstream gets its share.
            timeout: seconds for each call, and so for all of them.
            done: called once, when all calls have ended.
        """
        return _FannedOutCall(self, lines, timeout, done)


class _FannedOutCall:
    """One request to all upstreams."""

    __slots__ = ("_calls", "_done", "_outcomes", "_pending", "_upstreams")

    def __init__(
        self,
        fan_out: FanOut,
        lines: FieldLines,
        timeout: float,
        done: Callable[[Outcomes], None],
    ) -> None:
        upstreams = self._upstreams = fan_out.upstreams
        self._done = done
        self._pending = len(upstreams)
        self._outcomes: list[Outcome | None] = [None] * self._pending
        self._calls: list[Cancelable | None] = [None] * self._pending
        common = lines[:-1]
        remaining = int(lines[-1].removeprefix(REMAINING_FIELD))
        for place, (upstream, name) in enumerate(upstreams):
            # An equal share for each, the first ones one more.
            share = (remaining + len(upstreams) - 1 - place) // len(upstreams)
            end = partial(self._end, place)
            if share == 0:
                end(UpstreamError(508, Failure(name, "loop", TREE_TOO_LARGE)))
                continue
            own = REMAINING_FIELD + b"%d" % share
            self._calls[place] = upstream.get([*common, own], timeout, end)

    def cancel(self) -> None:
        """Cancel the calls that have not ended."""
        for call, outcome in zip(self._calls, self._outcomes, strict=True):
            if call is not None and outcome is None:
                call.cancel()

    def _end(self, place: int, outcome: Outcome) -> None:
        # It refers to this object: a cycle would wait for the garbage collector.
        self._calls[place] = None
        self._outcomes[place] = outcome
        self._pending -= 1
        if not self._pending:
            self._done(self._within_limit(cast("Outcomes", self._outcomes)))

    def _within_limit(self, outcomes: Outcomes) -> Outcomes:
        """The outcomes, with a failure in place of each answer that is too long beside the rest."""
        size = 0
        for place, outcome in enumerate(outcomes):
            if isinstance(outcome, Answer):
                if size + len(outcome.body) > MAX_BODY:
                    failure = Failure(self._upstreams[place][1], "invalid", _TOO_LONG)
                    outcomes[place] = UpstreamError(502, failure)
                else:
                    size += len(outcome.body)
        return outcomes
