"""The verbs of `mockservice`. Each has its own package, which is imported when the verb runs."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

from mockservice import __version__
from mockservice.imports import uncollected

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

_VERBS: Final = {
    "serve": (
        "mockservice.serve.command",
        "run one hop, configured by environment variables (default)",
    ),
    "lanes": ("mockservice.lanes.command", "run a folder of lane manifests on this machine"),
    "verify": ("mockservice.verify.command", "test lane manifests on this machine, as in CI"),
    "probe": ("mockservice.probe.command", "tell whether the lanes behind a URL hold"),
    "ui": ("mockservice.ui.command", "serve a page that shows requests run through the lanes"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb in `argv` (default: the command line), or `serve` if there is none.

    Returns:
        The exit code: 0 done, 1 a check or the work failed, 2 bad input.
    """
    verb, *arguments = (sys.argv[1:] if argv is None else argv) or ["serve"]
    if verb in ("-h", "--help"):
        verbs = "".join(f"  {name:8}{summary}\n" for name, (_, summary) in _VERBS.items())
        sys.stdout.write(f"usage: mockservice [VERB] [-h] ...\n\n{verbs}")
        return 0
    if verb == "--version":
        sys.stdout.write(f"mockservice {__version__}\n")
        return 0
    if verb not in _VERBS:
        sys.stderr.write(f"mockservice: {verb!r}: must be one of {', '.join(_VERBS)}\n")
        return 2
    _end_on_signal(0 if verb == "serve" else None)
    with uncollected():
        module = import_module(_VERBS[verb][0])
    try:
        exit_code: int = module.main(arguments)
    except SystemExit as end:
        # argparse exits after --help, and on bad arguments.
        return int(end.code or 0)
    return exit_code


def _end_on_signal(exit_code: int | None) -> None:
    """Exit at once on a signal, until the verb installs its own handlers.

    Without a handler, the kernel ignores the signals for process 1 of a container.

    Args:
        exit_code: None: 128 + the signal's number, as shells have it.
    """

    def end(number: int, _: FrameType | None) -> None:
        os._exit(128 + number if exit_code is None else exit_code)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
