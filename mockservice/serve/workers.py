"""Worker processes of one hop, which share its port (`SO_REUSEPORT`, socket(7))."""

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
    """Run `work` in `count` processes. All of them get a signal; if one ends, all end.

    Args:
        count: the number of processes.
        work: called in each process with its number, from 0 on, and with a file descriptor that
            reports end of file once the parent process is gone. It returns the exit code. It must
            unblock `STOP_SIGNALS`, which are blocked at first.

    Returns:
        0 if all processes exit with 0, else the first other exit code; 1 for a killed worker.
    """
    lifeline, held = os.pipe()
    workers = set()
    # Signals stay pending until there is a handler, in the workers too.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            os.close(held)
            # Ctrl-C signals a whole process group. In a group of its own, the worker gets the
            # signal from its parent only.
            os.setpgid(0, 0)
            _work(partial(work, number, lifeline))
        workers.add(pid)
    os.close(lifeline)

    def pass_on(number: int, _: FrameType | None = None) -> None:
        for pid in workers:
            # It may have ended just now.
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
    """Do `work`, then exit without returning: the code after the fork is for the parent."""
    exit_code = 1
    try:
        exit_code = work()
    except Exception as error:  # reported, as nothing above handles it
        sys.stderr.write(f"mockservice: worker: {type(error).__name__}: {error}\n")
    finally:
        sys.stderr.flush()
        os._exit(exit_code)
