"""The node's own place on this machine, of which nothing is left after it.

The node runs in network, mount and process namespaces of its own (namespaces(7)). What it makes
there is gone when its first process ends: processes, interfaces, iptables rules, mounts, and its
folders below `/run`, `/var/lib` and `/var/log`. Control groups alone are shared with the machine;
they are removed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.kube.needs import ROOT
from tests.kube.processes import BrokenError

if TYPE_CHECKING:
    from collections.abc import Iterator

NODE_IP: Final = "192.0.2.1"
"""The node's address. Nobody has one of its kind (RFC 5737)."""

CNI: Final = Path("/usr/lib/cni")
"""The folder of the programs that connect pods."""

PACKAGES: Final = {
    f"{CNI}/ptp": "containernetworking-plugins",
    "containerd": "containerd",
    "ctr": "containerd",
    "dnsmasq": "dnsmasq-base",
    "docker": "docker.io",
    "ip": "iproute2",
    "iptables": "iptables",
    "mount": "mount",
    "runc": "runc",
    "sysctl": "procps",
    "unshare": "util-linux",
}
"""Programs that the node takes, by name or path, each with the Debian package that has it."""

_CGROUPS: Final = Path("/sys/fs/cgroup")
_PODS: Final = "kubepods"
_KERNEL: Final = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
"""What kubelet sets for the whole machine, unless it is set."""
_PRIVATE: Final = ("/run", "/var/lib", "/var/log")
_GONE_TIMEOUT: Final = 30.0


def missing() -> list[str]:
    """What else the node takes and is not here, a line for each, with how to get it."""
    lines = []
    if os.geteuid() != 0:
        lines.append("root: run it as root")
    with suppress(FileNotFoundError):
        if subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
            lines.append("a Docker engine that runs: dockerd &")
    if _runs("kubelet"):
        lines.append("a machine without a cluster: this one runs a kubelet")
    return lines


def run_inside(place: Path) -> int:
    """Run `python -m tests.kube.node PLACE` in namespaces of its own.

    Returns:
        Its exit code.
    """
    # Of a run that was killed.
    _remove_cgroups()
    namespaces = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    process = subprocess.Popen(
        # All that runs in the namespaces ends with unshare, and that ends with this process.
        [
            *("setpriv", "--pdeathsig", "KILL", "unshare", *namespaces),
            *(sys.executable, "-m", "tests.kube.node", str(place)),
        ],
        cwd=ROOT,
    )
    try:
        return process.wait()
    finally:
        process.kill()
        process.wait()
        _remove_cgroups()


def prepare(place: Path) -> None:
    """Make the network and the folders of the node. Only inside its namespaces.

    Args:
        place: a folder for its files.

    Raises:
        BrokenError: the machine does not allow it.
    """
    _pretend_kernel_settings(place)
    for folder in _PRIVATE:
        _run("mount", "-t", "tmpfs", "tmpfs", folder)
    _run("ip", "link", "set", "lo", "up")
    # The node's interface leads nowhere: no packet can leave.
    _run("ip", "link", "add", "node0", "type", "veth", "peer", "name", "nowhere")
    _run("ip", "address", "add", f"{NODE_IP}/24", "dev", "node0")
    _run("ip", "link", "set", "nowhere", "up")
    _run("ip", "link", "set", "node0", "up")
    _run("ip", "route", "add", "default", "dev", "node0")
    _run("sysctl", "--quiet", "net.ipv4.ip_forward=1")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise BrokenError(f"{' '.join(command)}: {done.stderr.strip()}")


def _runs(program: str) -> bool:
    """Whether a process runs it (proc_pid_comm(5))."""
    for file in Path("/proc").glob("[0-9]*/comm"):
        # A process may end meanwhile.
        with suppress(OSError):
            if file.read_text() == f"{program}\n":
                return True
    return False


def _pretend_kernel_settings(place: Path) -> None:
    """Let kubelet read that the kernel is as it wants it, so that it leaves the machine's alone."""
    folder = place / "kernel"
    folder.mkdir()
    for name, value in _KERNEL.items():
        file = folder / name.replace("/", "-")
        file.write_text(f"{value}\n")
        _run("mount", "--bind", str(file), f"/proc/sys/{name}")


def _pod_cgroups() -> Iterator[Path]:
    """The control groups of pods: one (cgroups v2), or one for each controller."""
    for parent in (_CGROUPS, *_CGROUPS.iterdir()):
        if (parent / _PODS).is_dir():
            yield parent / _PODS


def _remove_cgroups() -> None:
    """Remove the control groups, once the kernel has ended all that was in them."""
    end = time.monotonic() + _GONE_TIMEOUT
    while left := list(_pod_cgroups()):
        if time.monotonic() > end:
            raise BrokenError(f"control groups that cannot be removed: {', '.join(map(str, left))}")
        for root in left:
            for folder, _, _ in os.walk(root, topdown=False):
                with suppress(OSError):
                    Path(folder).rmdir()
        time.sleep(0.1)
