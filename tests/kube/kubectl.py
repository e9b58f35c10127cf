"""kubectl, as people run it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.kube.needs import BUILT, ROOT, built
from tests.kube.processes import BrokenError

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT: Final = 300.0


@dataclass(frozen=True, slots=True)
class Ran:
    """What a kubectl did."""

    code: int
    out: str
    err: str
    """Warnings of the API server come here."""

    @property
    def lines(self) -> list[str]:
        """The lines of its output."""
        return self.out.splitlines()


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl, with a kubeconfig, in the repository's folder."""

    config: Path
    """The kubeconfig."""

    def __call__(self, *arguments: str, stdin: str | None = None) -> Ran:
        """Run it."""
        return self._run(built("kubectl"), *arguments, stdin=stdin)

    def shell(self, commands: str) -> Ran:
        """Run the commands of a page, until one fails."""
        return self._run("sh", "-ec", commands)

    def _run(self, *command: str | Path, stdin: str | None = None) -> Ran:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={
                "PATH": f"{BUILT}:{os.environ['PATH']}",
                "KUBECONFIG": str(self.config),
                "KUBECACHEDIR": str(self.config.parent / "kubectl-cache"),
            },
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
        )
        return Ran(done.returncode, done.stdout, done.stderr.strip())

    def must(self, *arguments: str, stdin: str | None = None) -> str:
        """Run what has to work, and return its output.

        Raises:
            BrokenError: it did not work.
        """
        ran = self(*arguments, stdin=stdin)
        if ran.code != 0:
            raise BrokenError(f"kubectl {' '.join(arguments)}: {ran.err or ran.out}")
        return ran.out

    def get(self, *arguments: str) -> Any:
        """What `kubectl get` says, read as JSON."""
        return json.loads(self.must("get", "--output", "json", *arguments))
