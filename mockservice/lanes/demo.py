"""`make demo`: runs lanes on this machine, probes them and stops them."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final

from mockservice.lanes.errors import LanesError
from mockservice.lanes.local import LocalLanes
from mockservice.lanes.report import TextReport
from mockservice.mesh.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROBE: Final = ("-n", "100", "--expect", "v1=50,v2=50")


def main(paths: Sequence[str]) -> int:
    """Run manifests that split requests evenly between v1 and v2, and probe the lanes.

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
        command = ("probe", lanes.example_url, *_PROBE)
        _print_command(f"mockservice {' '.join(command)}")
        probe = await asyncio.create_subprocess_exec(sys.executable, "-m", "mockservice", *command)
        return await probe.wait()


def _print_command(command: str) -> None:
    sys.stdout.write(f"\n$ {command}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
