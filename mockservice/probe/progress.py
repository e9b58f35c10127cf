"""The progress bar that people see while the probe runs."""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


def progress(total: int | None) -> AbstractContextManager[Callable[[], object]]:
    """A progress bar on standard error, where that is a terminal.

    Args:
        total: requests; None: without an end.

    Returns:
        A context that gives what to call once for each request done.
    """
    if sys.stderr is not None and sys.stderr.isatty():
        return _bar(total)
    return nullcontext(lambda: None)


@contextmanager
def _bar(total: int | None) -> Iterator[Callable[[], object]]:
    # Scripts, which see no bar, do not wait for these imports.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
