"""The hops on the cluster: where they are, what they answer, what they use."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.kube.control_plane import START_TIMEOUT
from tests.kube.node.cluster import NODE
from tests.kube.node.load import Load
from tests.running import request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kube.node.cluster import Cluster

APPS: Final = ("mocka", "mockb", "mockc")
VERSIONS: Final = ("v1", "v2")
DEPLOYMENTS: Final = tuple(f"{app}-{version}" for version in VERSIONS for app in APPS)
CHAIN: Final = re.compile(
    "".join(rf"-> {app}\(version: (v\d), ip: ([\d.]+)\)" for app in APPS).encode()
)
"""A whole chain: the version and the address of each hop."""
MIB: Final = 1024 * 1024

_PODS: Final = ("pods", "--selector", "app.kubernetes.io/component=hop")

Pod = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Amount:
    """Of memory, in bytes, and of CPU, in cores or in seconds of one core."""

    memory: float
    cpu: float


class Hops:
    """The hops of `k8s/workloads`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._kubectl = cluster.kubectl

    def address(self, service: str = "mocka") -> str:
        """The ClusterIP of a Service."""
        address: str = self._kubectl.get("service", service)["spec"]["clusterIP"]
        return address

    def ask(self, times: int) -> list[bytes]:
        """Answers of the chain, each over a connection of its own."""
        url = f"http://{self.address()}:8000/"
        return [request(url).body for _ in range(times)]

    def load(self) -> Load:
        """A load on the chain, all answers of which have to be whole chains."""
        return Load(
            self.address(),
            lambda status, body: status == 200 and CHAIN.fullmatch(body) is not None,
        )

    def pods(self, deployment: str = "mock") -> list[Pod]:
        """The pods of all hops, or of one Deployment, that are not on their way out."""
        return [
            pod
            for pod in self._all_pods()
            if name_of(pod).startswith(deployment) and "deletionTimestamp" not in pod["metadata"]
        ]

    def pod_of(self, deployment: str) -> Pod:
        """The only pod of a Deployment."""
        [pod] = self.pods(deployment)
        return pod

    def busy_mockb(self, load: Load) -> str:
        """The Deployment of mockb that gets most of a load: hops keep their connections."""
        self.wait("two seconds of load", lambda: len(load.recent) == load.recent.maxlen)
        chains = map(CHAIN.fullmatch, tuple(load.recent))
        versions = Counter(chain[3].decode() for chain in chains if chain)
        return f"mockb-{versions.most_common(1)[0][0]}"

    def roll_out(self, deployment: str) -> float:
        """Restart a Deployment.

        Returns:
            The seconds until its new pod is ready.
        """
        began = time.monotonic()
        self._kubectl.must("rollout", "restart", f"deployment/{deployment}")
        self.wait_for_rollout(deployment)
        return time.monotonic() - began

    def wait_for_rollout(self, deployment: str) -> None:
        """Wait until a Deployment is as it should be."""
        self._kubectl.must("rollout", "status", "--timeout=2m", f"deployment/{deployment}")

    def wait_for_old_pods(self) -> None:
        """Wait until no pod is on its way out."""
        self.wait("the end of the old pods", lambda: len(self._all_pods()) == len(DEPLOYMENTS))

    def wait(self, what: str, is_true: Callable[[], bool]) -> float:
        """Wait until `is_true`.

        Returns:
            The seconds that it took.
        """
        return self._cluster.processes.wait(what, is_true, START_TIMEOUT)

    def usage(self) -> dict[str, Amount]:
        """What the container of each pod has used, as kubelet says."""
        path = f"/api/v1/nodes/{NODE}/proxy/stats/summary"
        found = json.loads(self._kubectl.must("get", "--raw", path))
        return {
            pod["podRef"]["name"]: Amount(
                container["memory"]["workingSetBytes"],
                container["cpu"]["usageCoreNanoSeconds"] / 1e9,
            )
            for pod in found["pods"]
            for container in pod.get("containers", ())
            if pod["podRef"]["name"].startswith("mock")
        }

    def resources(self) -> tuple[Amount, Amount]:
        """What each hop requests, and what limits it: the same for all."""
        found = {
            json.dumps(pod["spec"]["containers"][0]["resources"], sort_keys=True)
            for pod in self.pods()
        }
        [resources] = map(json.loads, found)
        return _amount(resources["requests"]), _amount(resources["limits"])

    def _all_pods(self) -> list[Pod]:
        pods: list[Pod] = self._kubectl.get(*_PODS)["items"]
        return pods


def name_of(pod: Pod) -> str:
    """The name of a pod."""
    found: str = pod["metadata"]["name"]
    return found


def container(pod: Pod) -> dict[str, Any]:
    """The status of a pod's only container."""
    [status] = pod["status"]["containerStatuses"]
    return dict(status)


def is_ready(pod: Pod) -> bool:
    """Whether a pod gets requests."""
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _amount(resources: dict[str, str]) -> Amount:
    memory, cpu = resources["memory"], resources["cpu"]
    assert memory.endswith("Mi")
    cores = float(cpu.removesuffix("m")) / (1000 if cpu.endswith("m") else 1)
    return Amount(float(memory.removesuffix("Mi")) * MIB, cores)
