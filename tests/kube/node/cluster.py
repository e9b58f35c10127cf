"""The components of a cluster of one node, each in its plainest way."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.kube import control_plane, crds
from tests.kube.needs import built
from tests.kube.node import images
from tests.kube.node.machine import CNI, NODE_IP

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kube.kubectl import Kubectl
    from tests.kube.processes import Processes

PROGRAMS: Final = (
    *("kube-apiserver", "kubectl", "kube-controller-manager", "kube-proxy", "kube-scheduler"),
    *("kubelet", "pause"),
)
"""What make has to build."""

NODE: Final = "node"

_PODS: Final = "198.18.0.0/24"
"""Addresses for tests of networks (RFC 2544), which are no network of anybody's."""
_DOMAIN: Final = "cluster.local"
_NAMES: Final = "names"
_SOCKET: Final = "/run/containerd/containerd.sock"

_CONTAINERD: Final = f"""\
version = 2
oom_score = 0
[grpc]
  address = "{_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{images.PAUSE}"
  # A score below that of containerd itself takes a capability that containers of machines lack.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI}"
    conf_dir = "CONF_DIR"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""

# A pair of interfaces for each pod, with routes between them: all that goes from pod to pod passes
# the rules of kube-proxy, which a bridge would need a kernel module for.
_NETWORK: Final = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {
            "type": "ptp",
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": _PODS}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
    ],
}

_KUBELET: Final = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "cgroupDriver": "cgroupfs",
    "clusterDNS": [NODE_IP],
    "clusterDomain": _DOMAIN,
    "containerRuntimeEndpoint": f"unix://{_SOCKET}",
    # How full the machine's disk is says nothing about the pods.
    "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
    "failCgroupV1": False,
    "failSwapOn": False,
    "imageGCHighThresholdPercent": 100,
    "oomScoreAdj": 0,
    "resolvConf": "",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that runs."""

    kubectl: Kubectl
    processes: Processes
    place: Path
    """The folder of all files."""

    def publish_names(self) -> None:
        """Tell the name server of all Services."""
        lines = [
            f"{one['spec']['clusterIP']} {one['metadata']['name']}"
            f".{one['metadata']['namespace']}.svc.{_DOMAIN}\n"
            for one in self.kubectl.get("services", "--all-namespaces")["items"]
        ]
        # It reads files that are new or have changed, as soon as they are closed.
        (self.place / _NAMES / "services").write_text("".join(lines))

    def kill(self, container: str) -> None:
        """End a container with SIGKILL.

        Args:
            container: its id, as in the status of its pod.
        """
        ctr = ("ctr", "--address", _SOCKET, "--namespace", "k8s.io")
        name = container.removeprefix("containerd://")
        subprocess.run([*ctr, "tasks", "kill", "--signal", "SIGKILL", name], check=True)


def start(processes: Processes, place: Path) -> Cluster:
    """Start all components, and wait until the node is ready.

    Args:
        processes: who ends them.
        place: a folder with the images, for all files.

    Raises:
        BrokenError: one does not start.
    """
    names = place / _NAMES
    network = place / "network"
    for folder in (names, network):
        folder.mkdir()
    (network / "pods.conflist").write_text(json.dumps(_NETWORK))
    (place / "containerd.toml").write_text(_CONTAINERD.replace("CONF_DIR", str(network)))
    (place / "kubelet.yaml").write_text(json.dumps(_KUBELET))
    processes.start("containerd", "containerd", "--config", place / "containerd.toml")
    processes.start(
        *("dnsmasq", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root"),
        *("--pid-file=", "--no-hosts", "--no-resolv", f"--local=/{_DOMAIN}/"),
        *("--bind-interfaces", f"--listen-address={NODE_IP}", f"--hostsdir={names}"),
    )
    kubectl = control_plane.start(
        *(processes, place, "127.0.0.1"),
        "--kubelet-preferred-address-types=InternalIP",
        advertise=NODE_IP,
    )
    config = ("--kubeconfig", kubectl.config)
    processes.start(
        *("kube-controller-manager", built("kube-controller-manager"), *config),
        *("--leader-elect=false", "--service-account-private-key-file"),
        place / control_plane.KEY,
    )
    processes.start(
        *("kube-scheduler", built("kube-scheduler"), *config, "--leader-elect=false"),
    )
    processes.start(
        *("kube-proxy", built("kube-proxy"), *config, "--proxy-mode=iptables"),
        *("--cluster-cidr", _PODS, "--hostname-override", NODE),
        # These are the machine's.
        *("--conntrack-max-per-core=0", "--oom-score-adj=0"),
    )
    processes.wait("containerd ready", lambda: _is_there(), control_plane.START_TIMEOUT)
    images.load(place, _SOCKET)
    processes.start(
        *("kubelet", built("kubelet"), *config, "--config", place / "kubelet.yaml"),
        *("--hostname-override", NODE, "--node-ip", NODE_IP),
    )
    control_plane.make_namespaces(processes, kubectl, "istio-system")
    crds.create(kubectl)
    processes.wait("node ready", lambda: _is_ready(kubectl), control_plane.START_TIMEOUT)
    return Cluster(kubectl, processes, place)


def _is_there() -> bool:
    ctr = ["ctr", "--address", _SOCKET, "version"]
    return subprocess.run(ctr, capture_output=True).returncode == 0


def _is_ready(kubectl: Kubectl) -> bool:
    nodes: list[dict[str, Any]] = kubectl.get("nodes")["items"]
    return any(
        one["type"] == "Ready" and one["status"] == "True"
        for node in nodes
        for one in node["status"]["conditions"]
    )
