"""`mockservice lanes` as a process, and what is seen of it through its gateway."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.running import Response, request

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 40.0
"""Seconds that local lanes get for whatever they do, on a busy machine."""

K8S = Path(__file__).parents[2] / "k8s"


@dataclass
class RunningLanes:
    """A process of `mockservice lanes --json`."""

    process: subprocess.Popen[str]
    path: Path
    """The first of its manifests."""
    errors: Path
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def gateway(self) -> str:
        """The gateway's URL."""
        url: str = self.events[0]["gateway"]
        return url

    def wait_for(self, event: str, after: int = 0) -> dict[str, Any]:
        """The first such event from the number `after` on."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            for said in self.events[after:]:
                if said["event"] == event:
                    return said
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"no {event}: {self.events[after:]} {self.errors.read_text()}")

    def get(self, path: str = "/mock", **headers: str) -> Response:
        """Send a request to the gateway; underscores in names of headers stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return request(f"{self.gateway}{path}", named)

    def versions(self, path: str = "/mock", **headers: str) -> str:
        """The versions of the hops that answered, as `v1 v1 v2`; fails where one has failed."""
        response = self.get(path, **headers)
        assert response.status == 200, response.text
        return versions_in(response.text)

    def share(self, count: int, **headers: str) -> Counter[str]:
        """How often which versions answered."""
        return Counter(self.versions(**headers) for _ in range(count))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT)

    def children(self) -> list[int]:
        """The processes that it has started, and those that these have started."""
        return descendants(self.process.pid)

    def pod(self, name: str) -> int:
        """The process of a pod."""
        [pid] = (pid for pid in self.children() if name_of(pid) == name)
        return pid


def versions_in(text: str) -> str:
    """The versions in a chain, in order."""
    return " ".join(re.findall(r"version: ([^,]+),", text))


def free_port(first: int | None = None) -> int:
    """A port that is free, as is the one that `--replace` gives to the proxy of its process."""
    for port in range(first or 20000 + os.getpid() % 9000, 40000):
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, those that these have started, and so on."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return children + [one for child in children for one in descendants(child)]


def parent_of(pid: int) -> int:
    """The process that has started this one (proc_pid_stat(5))."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def name_of(pid: int) -> str:
    """The name of a process (proc_pid_comm(5))."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def is_running(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


@contextmanager
def lanes(*paths: Path, folder: Path, options: tuple[str, ...] = ()) -> Iterator[RunningLanes]:
    """Local lanes of manifests, ready; `folder` is for their files."""
    errors = folder / "errors.txt"
    command = [sys.executable, "-m", "mockservice", "lanes", "--json", *options]
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [*command, *map(str, paths)],
            env={"PATH": os.environ["PATH"], "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    running = RunningLanes(process, paths[0], errors)

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            running.events.append(json.loads(line))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        running.wait_for("ready")
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(TIMEOUT)
            finally:
                process.kill()
        reader.join()
        assert process.stdout is not None
        process.stdout.close()
