"""`make mutants`: all mutants of all folders of `k8s/` with lane rules, as a table."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.manifests.folders import K8S, LANES
from tests.mutants.run import Tried, running


async def main(names: list[str], verbose: bool) -> int:
    """Run them.

    Returns:
        1 if a mutant is missed.
    """
    total: Counter[str] = Counter()
    for name in names or LANES:
        folders = [K8S / one for one in (*LANES[name], name)]
        outcomes: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as place:
            async with running(folders, Path(place)) as sound:
                if not sound.verification.hold:
                    sys.stdout.write(f"{name}: not sound: {sound.verification.problems()}\n")
                for mutant in sound.mutants():
                    tried = await sound.try_mutant(mutant)
                    outcomes[tried.outcome] += 1
                    _show(tried, verbose)
                for app, header in sound.hops():
                    tried = await sound.try_hop(app, header)
                    outcomes[tried.outcome] += 1
                    _show(tried, verbose)
        total += outcomes
        sys.stdout.write(f"{name}: {dict(outcomes)}\n")
        sys.stdout.flush()
    sys.stdout.write(f"all: {dict(total)}\n")
    return 1 if total["missed"] else 0


def _show(tried: Tried, verbose: bool) -> None:
    is_alarm = tried.outcome == "equivalent" and any(one.startswith("error") for one in tried.told)
    if verbose or is_alarm or tried.outcome == "missed":
        sys.stdout.write(f"  {tried.outcome:10} {tried.mutant} [{tried.changed}]\n")
        for line in tried.told[:3]:
            sys.stdout.write(f"                 {line[:300]}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    names = [one for one in arguments if one != "--verbose"]
    sys.exit(asyncio.run(main(names, "--verbose" in arguments)))
