"""`make demo`: runs lanes on this machine, probes them and stops them."""

from __future__ import annotations

import asyncio
import shlex
import sys
from typing import TYPE_CHECKING, Final

from mockservice.lanes.errors import LanesError
from mockservice.lanes.local import LocalLanes
from mockservice.lanes.report import TextReport
from mockservice.mesh.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

_REQUESTS: Final = "100"


def main(paths: Sequence[str]) -> int:
    """Run manifests and probe their lanes.

    Returns:
        The exit code of the probe, 0 if the lanes hold; 1 if they do not start.
    """
    try:
        return asyncio.run(_demo(paths))
    except (RefusedError, LanesError) as error:
        sys.stderr.write(f"mockservice: demo: {error}\n")
        return 1


async def _demo(paths: Sequence[str]) -> int:
    report = TextReport(quiet=False)
    _print_command(f"mockservice lanes {' '.join(paths)}")
    async with LocalLanes(paths, log=report.log) as lanes:
        report.running("ready", lanes)
        entrance = lanes.lane_map.example
        headers = () if entrance is None else entrance.fields
        asked = [part for name, value in headers for part in ("--header", f"{name}: {value}")]
        command = [lanes.url(entrance), "-n", _REQUESTS, *asked, "--manifests", *paths]
        _print_command(f"mockservice probe {shlex.join(command)}")
        probe = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mockservice", "probe", *command
        )
        return await probe.wait()


def _print_command(command: str) -> None:
    sys.stdout.write(f"\n$ {command}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
