"""The node's own place on this machine, of which nothing is left after it.

The node runs in network, mount and process namespaces of its own (namespaces(7)). What it makes
there is gone when its first process ends: processes, interfaces, iptables rules, mounts, and its
folders below `/run`, `/var/lib` and `/var/log`. Control groups and three kernel settings are shared
with the machine: they are put back.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.kube.needs import ROOT
from tests.kube.processes import BrokenError

if TYPE_CHECKING:
    from collections.abc import Iterator

NODE_IP: Final = "192.0.2.1"
"""The node's address. Nobody has one of its kind (RFC 5737)."""

PACKAGES: Final = {
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
"""Programs that the node takes, each with the Debian package that has it."""

CNI: Final = Path("/usr/lib/cni")
"""The programs that connect pods, of Debian's containernetworking-plugins."""

_CGROUPS: Final = Path("/sys/fs/cgroup")
_PODS: Final = "kubepods"
# kubelet sets them for the whole machine.
_KERNEL: Final = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")
_PRIVATE: Final = ("/run", "/var/lib", "/var/log")
_GONE_TIMEOUT: Final = 30.0


def missing() -> list[str]:
    """What else the node takes and is not here, a line for each, with how to get it."""
    lines = []
    if os.geteuid() != 0:
        lines.append("root: run it as root")
    if not (CNI / "ptp").exists():
        lines.append(f"{CNI}/ptp: apt-get install containernetworking-plugins")
    with suppress(FileNotFoundError):
        if subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
            lines.append("a Docker engine that runs: dockerd &")
    if list(_pod_cgroups()):
        lines.append(f"a machine that runs no pods yet: {_CGROUPS} has {_PODS}")
    return lines


def run_inside(place: Path) -> int:
    """Run `python -m tests.kube.node PLACE` in namespaces of its own.

    Returns:
        Its exit code.
    """
    with _kernel_settings_kept():
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


def prepare() -> None:
    """Make the network and the folders of the node. Only inside its namespaces."""
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


@contextmanager
def _kernel_settings_kept() -> Iterator[None]:
    files = [Path("/proc/sys", name) for name in _KERNEL]
    values = [file.read_text() for file in files]
    try:
        yield
    finally:
        for file, value in zip(files, values, strict=True):
            if file.read_text() != value:
                file.write_text(value)


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
