"""Several processes of one hop, which share its port (`SO_REUSEPORT`, socket(7))."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def run(count: int, work: Callable[[int, int], int]) -> int:
    """Run `work` in `count` processes: signals go to all of them, and the end of one ends all.

    Args:
        count: the processes.
        work: gets the number of its process, from 0 on, and a file descriptor that reads as ended
            once this process is gone, and returns the exit code of its process. `STOP_SIGNALS`
            are blocked until it unblocks them.

    Returns:
        0 if all ended with it, else the first other exit code; 1 for a worker that was killed.
    """
    lifeline, held = os.pipe()
    workers = set()
    # A signal waits until there is someone to take it, in the workers too.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            os.close(held)
            # A Ctrl-C goes to a whole process group: it comes from the parent alone, and once.
            os.setpgid(0, 0)
            _work(partial(work, number, lifeline))
        workers.add(pid)
    os.close(lifeline)

    def pass_on(number: int, _: FrameType | None = None) -> None:
        for pid in workers:
            # One may have ended just now.
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    for number in STOP_SIGNALS:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    exit_code = 0
    while workers:
        pid, status = os.wait()
        workers.discard(pid)
        code = os.waitstatus_to_exitcode(status)
        exit_code = exit_code or (1 if code < 0 else code)
        if exit_code:
            pass_on(signal.SIGTERM)
    return exit_code


def _work(work: Callable[[], int]) -> None:
    """Do `work` and end this process, whatever comes: the rest of it is the parent's."""
    exit_code = 1
    try:
        exit_code = work()
    except Exception as error:  # the last word of this process
        sys.stderr.write(f"mockservice: worker: {type(error).__name__}: {error}\n")
    finally:
        sys.stderr.flush()
        os._exit(exit_code)
