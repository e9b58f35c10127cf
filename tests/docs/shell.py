"""A shell for one page: a machine of its own, on which the page's commands run as they stand.

It has a network, processes and a `/tmp` of its own, so that pages which use the same ports and
files are tested side by side, and so that nothing outlives the test. Its working directory is a
copy of the checkout, and the virtual environment that runs the tests is active.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from tests.docs.output import unlike
from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.docs.pages import Command

TIMEOUT: Final = 30.0
"""Seconds that a command gets to print what its page shows, on a busy machine."""

_COPIED: Final = ("docs", "k8s", "tests/bookinfo", "compose.yaml")
_END: Final = "-- exit code "

# Commands come by descriptor 3, each ended by a NUL byte, so that none can read the next ones.
# What is told to end gets the time for it that a person takes to type the next command.
_LOOP: Final = f"""\
ip link set lo up
[ -z "$2" ] || mount --bind "$2" "$3"
mount --rbind "$1" /tmp
cd /tmp/checkout
exec 3<&0 < /dev/null
while IFS= read -r -d '' -u 3 command; do
    eval "$command" 3<&-
    printf '\\n{_END}%s\\n' "$?"
    case $command in
        'kill $!') wait $! ;;
        'kill $(jobs -p)') wait ;;
    esac
done
"""


class Shell:
    """A running shell."""

    def __init__(self, commands: IO[str], output: IO[str]) -> None:
        self._commands = commands
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, args=(output,))
        self._reader.start()

    def run(self, command: Command) -> None:
        """Run a command and wait until it has printed what the page shows.

        Raises:
            AssertionError: it prints something else. If the page shows nothing: its exit code is
                not 0.
        """
        # Background jobs may have written since the last command.
        self._lines.clear()
        self._commands.write(f"{command.text}\0")
        self._commands.flush()
        end = time.monotonic() + TIMEOUT
        while (problems := self._problems(command)) and time.monotonic() < end:
            time.sleep(0.02)
        assert not problems, "\n".join((f"$ {command.text}", *problems, "printed:", *self._lines))

    def join(self) -> None:
        """Wait until all of the shell's processes have ended."""
        self._reader.join()

    def _problems(self, command: Command) -> list[str]:
        lines = [line for line in self._lines if line]
        codes = [line.removeprefix(_END) for line in lines if line.startswith(_END)]
        if not codes:
            return ["does not end"]
        if command.shown:
            printed = "\n".join(line for line in lines if not line.startswith(_END))
            return unlike(command.shown, printed)
        return [] if codes == ["0"] else [f"exit code {codes[0]}"]

    def _read(self, output: IO[str]) -> None:
        for line in output:
            self._lines.append(line.rstrip("\n"))


@contextmanager
def shell(folder: Path) -> Iterator[Shell]:
    """A shell whose files are in `folder`; with the block all of its processes end."""
    checkout = folder / "checkout"
    checkout.mkdir()
    for name in _COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, checkout / name)
    (checkout / ".venv").symlink_to(sys.prefix)
    # Who is not root becomes it in there.
    as_root = () if os.getuid() == 0 else ("--map-root-user",)
    namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with subprocess.Popen(
        [
            "unshare",
            *as_root,
            *namespaces,
            "bash",
            "-c",
            _LOOP,
            "bash",
            str(folder),
            *_seen_in(folder),
        ],
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": "/tmp",
            "LANG": "C.UTF-8",
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        running = Shell(process.stdin, process.stdout)
        try:
            yield running
        finally:
            process.kill()
            running.join()


def _seen_in(folder: Path) -> tuple[str, str]:
    """This checkout, if it is in `/tmp`, and the place in the new `/tmp` where it stays seen."""
    root = Path(__file__).resolve().parents[2]
    if not root.is_relative_to("/tmp"):
        return "", ""
    place = folder / root.relative_to("/tmp")
    place.mkdir(parents=True)
    return str(root), str(place)
