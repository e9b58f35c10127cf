"""What is done to the pods of a node, and what has to come of it."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from tests.docs.pages import blocks
from tests.kube.control_plane import START_TIMEOUT
from tests.kube.node import gateway
from tests.kube.node.cluster import NODE
from tests.kube.node.load import RATE, Load
from tests.kube.processes import BrokenError
from tests.manifests.folders import K8S
from tests.running import request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kube.node.cluster import Cluster

_APPS: Final = ("mocka", "mockb", "mockc")
_VERSIONS: Final = ("v1", "v2")
_DEPLOYMENTS: Final = tuple(f"{app}-{version}" for version in _VERSIONS for app in _APPS)
_CHAIN: Final = re.compile(
    "".join(rf"-> {app}\(version: (v\d), ip: ([\d.]+)\)" for app in _APPS).encode()
)
_MOCKB: Final = re.compile(r"mockb\([a-z]+: ([^)]*)\)")
"""mockb as the hop before it names it if it does not answer."""
_HOPS: Final = ("pods", "--selector", "app.kubernetes.io/component=hop")
_ALL_READY: Final = ("wait", "--for=condition=Available", "--timeout=3m", "deployment", "--all")
_PROBE: Final = "job/mock-probe"

_STEADY: Final = 20.0
"""Seconds of load in which nothing happens."""
_ROUNDS: Final = 2
"""How often each Deployment is restarted."""
_EVERY: Final = 5.0
"""Seconds from one restart to the next, at least: a minute for all."""
_AFTER: Final = 5.0
"""Seconds of load after something that was done to a pod is over."""
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    what: str
    seen: str
    problems: list[str] = field(default_factory=list)


Pods = list[dict[str, Any]]


class Rows:
    """All that is done on one cluster, in order."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._kubectl = cluster.kubectl

    @property
    def all(self) -> tuple[Callable[[], Iterator[Row]], ...]:
        """What is done, in order."""
        return (
            self._start,
            self._chain,
            self._steady,
            self._restart,
            self._delete,
            self._kill,
            self._release,
            self._leaking_probe,
            self._holding_probe,
        )

    # The pods run.

    def _start(self) -> Iterator[Row]:
        began = time.monotonic()
        self._kubectl.must("apply", "--validate=strict", "-k", "k8s/workloads")
        self._cluster.publish_names()
        self._kubectl.must(*_ALL_READY)
        seconds = time.monotonic() - began
        pods = self._pods()
        problems = [f"{_name(pod)} is not ready" for pod in pods if not _is_ready(pod)]
        if len(pods) != len(_DEPLOYMENTS):
            problems.append(f"there are {len(pods)} pods")
        yield Row("apply k8s/workloads", f"{len(pods)} pods ready after {seconds:.1f} s", problems)
        as_root = ("run", "as-root", "--image=any", "--dry-run=server")
        refused = self._kubectl(*as_root)
        problems = [] if "violates PodSecurity" in refused.err else [refused.err or refused.out]
        yield Row("a pod as root beside them", "refused: violates PodSecurity", problems)

    def _chain(self) -> Iterator[Row]:
        places = {
            (labels["app"], labels["version"]): pod["status"]["podIP"]
            for pod in self._pods()
            for labels in [pod["metadata"]["labels"]]
        }
        problems = []
        chains = set()
        for body in self._ask(50):
            found = _CHAIN.fullmatch(body)
            if found is None:
                problems.append(f"not the chain: {body!r}")
                continue
            parts = [part.decode() for part in found.groups()]
            versions, ips = parts[::2], parts[1::2]
            chains.add(tuple(versions))
            problems += [
                f"{app} {version} says {ip}: its pod has {places[app, version]}"
                for app, version, ip in zip(_APPS, versions, ips, strict=True)
                if places[app, version] != ip
            ]
        if len({chain[0] for chain in chains}) != len(_VERSIONS):
            problems.append(f"not every version of mocka has answered: {chains}")
        seen = f"50 chains of 3 hops, {len(chains)} mixes of versions, each ip its pod's"
        yield Row("the chain by mocka's ClusterIP", seen, problems)

    # Under load.

    def _steady(self) -> Iterator[Row]:
        before = self._usage()
        began = time.monotonic()
        with self._load() as load:
            time.sleep(_STEADY)
            after = self._usage()
            seconds = time.monotonic() - began
        yield Row(f"{RATE} requests/s, nothing else", load.found, _lost(load))
        requests, limits = self._resources()
        for app in _APPS:
            names = [name for name in after if name.startswith(app)]
            at_rest = max(before[name].memory for name in names)
            memory = max(after[name].memory for name in names)
            cpu = max((after[name].cpu - before[name].cpu) / seconds for name in names)
            problems = []
            if memory > requests.memory:
                problems.append("it uses more memory than it requests")
            if cpu > limits.cpu:
                problems.append("it uses more CPU than its limit")
            yield Row(
                f"{app} at rest, and under that load",
                f"{_mib(at_rest)}, and {_mib(memory)} MiB (request {_mib(requests.memory)},"
                f" limit {_mib(limits.memory)}); {_milli(cpu)} CPU (request {_milli(requests.cpu)},"
                f" limit {_milli(limits.cpu)})",
                problems,
            )

    def _restart(self) -> Iterator[Row]:
        before = {_name(pod) for pod in self._pods()}
        took: list[float] = []
        with self._load() as load:
            began = time.monotonic()
            for name in _DEPLOYMENTS * _ROUNDS:
                time.sleep(max(0.0, began + len(took) * _EVERY - time.monotonic()))
                took.append(self._roll_out(f"deployment/{name}"))
            self._wait_for_old_pods()
            time.sleep(_AFTER)
        after = {_name(pod) for pod in self._pods()}
        problems = [*_lost(load), *(f"{name} was not replaced" for name in before & after)]
        yield Row(
            f"{len(took)} times rollout restart, of 6 Deployments",
            f"{load.found} in {load.seconds:.0f} s; rolled out within"
            f" {min(took):.1f} to {max(took):.1f} s",
            problems,
        )

    def _delete(self) -> Iterator[Row]:
        with self._load() as load:
            deployment = self._busy_mockb()
            name = _name(self._pod_of(deployment))
            began = time.monotonic()
            self._kubectl.must("delete", "pod", name, "--wait=false")
            replaced = self._wait(
                f"a new pod for {name}",
                lambda: any(
                    _name(pod) != name and _is_ready(pod) for pod in self._pods(deployment)
                ),
            )
            self._wait_for_old_pods()
            gone = time.monotonic() - began
            time.sleep(_AFTER)
        seen = f"{load.found}; a new one ready after {replaced:.1f} s, gone after {gone:.1f} s"
        yield Row(f"the pod of {deployment} deleted", seen, _lost(load))

    def _kill(self) -> Iterator[Row]:
        with self._load() as load:
            deployment = self._busy_mockb()
            pod = self._pod_of(deployment)
            self._cluster.kill(pod["status"]["containerStatuses"][0]["containerID"])
            ready = self._wait(
                f"{_name(pod)} ready again",
                lambda: any(
                    _is_ready(one) and one["status"]["containerStatuses"][0]["restartCount"] == 1
                    for one in self._pods(deployment)
                ),
            )
            again = time.monotonic()
            time.sleep(_AFTER)
        after = self._pod_of(deployment)
        ended = after["status"]["containerStatuses"][0]["lastState"]["terminated"]
        problems = []
        if _name(after) != _name(pod):
            problems.append("it is another pod, not another container")
        if ended["exitCode"] != 137:
            problems.append(f"kubelet says {ended}")
        problems += [
            f"does not name mockb: {one.text}" for one in load.failed if not _MOCKB.search(one.text)
        ]
        problems += [f"lost though ready: {one.text}" for one in load.failed if one.at > again + 1]
        reasons = Counter(one for failed in load.failed for one in _MOCKB.findall(failed.text))
        named = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        at = f", at mockb: {named}" if named else ""
        yield Row(
            f"a container of {deployment} killed",
            f"exit code {ended['exitCode']}, ready again after {ready:.1f} s; {load.found}{at}",
            problems[:5],
        )

    def _busy_mockb(self) -> str:
        """The Deployment of mockb that gets most of the load: hops keep their connections."""
        chains = map(_CHAIN.fullmatch, self._ask(50))
        versions = Counter(chain[3].decode() for chain in chains if chain)
        return f"mockb-{versions.most_common(1)[0][0]}"

    def _release(self) -> Iterator[Row]:
        release, roll_back = _commands("release-v3/README.md")
        self._kubectl.must("apply", "-f", "k8s/asm/strict")
        with self._load() as load:
            began = time.monotonic()
            ran = self._kubectl.shell(release)
            released = time.monotonic() - began
            problems = [] if ran.code == 0 else [ran.err]
            if not any(b"version: v3" in answer for answer in self._ask(200)):
                problems.append("v3 does not answer")
            ran = self._kubectl.shell(roll_back)
            problems += [] if ran.code == 0 else [ran.err]
            self._wait_for_old_pods()
            time.sleep(_AFTER)
        yield Row(
            "release v3 and its roll-back, as its page says",
            f"{load.found} in {load.seconds:.0f} s; v3 answers after {released:.1f} s",
            problems + _lost(load),
        )

    # The probe.

    def _leaking_probe(self) -> Iterator[Row]:
        self._kubectl.must("apply", "--validate=strict", "-k", "k8s/asm/strict")
        # A Service for each version of each hop.
        self._kubectl.must("apply", "-f", "k8s/gateway-api/hop-versions.yaml")
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": gateway.service()})
        self._kubectl.must("apply", "--filename", "-", stdin=items)
        self._cluster.publish_names()
        weights = {self._address(f"mocka-{version}"): 50 for version in _VERSIONS}
        gateway.start(self._cluster.processes, self._cluster.place, weights)
        code, log, seconds = self._probe()
        failing = _verdicts(log, "fails")
        yield Row(
            "the probe's Job, without a mesh to keep lanes",
            f"ended after {seconds:.0f} s, exit code {code}; fails: {', '.join(failing)}",
            [] if code == 1 and "isolation" in failing else [f"exit code {code}", log],
        )

    def _holding_probe(self) -> Iterator[Row]:
        # As a mesh would: each version calls its own version.
        for version in _VERSIONS:
            for app, upstream in pairwise(_APPS):
                setting = f"upstream_url=http://{upstream}-{version}:8000/"
                self._kubectl.must("set", "env", f"deployment/{app}-{version}", setting)
        for name in _DEPLOYMENTS:
            self._kubectl.must("rollout", "status", "--timeout=2m", f"deployment/{name}")
        self._wait_for_old_pods()
        code, log, seconds = self._probe()
        holding = _verdicts(log, "holds")
        yield Row(
            "the probe's Job, each version calls its own",
            f"ended after {seconds:.0f} s, exit code {code}; holds: {', '.join(holding)}",
            [] if code == 0 and "isolation" in holding else [f"exit code {code}", log],
        )

    def _probe(self) -> tuple[int, str, float]:
        """Run the Job as its page says: the exit code of its last pod, its log, its seconds."""
        began = time.monotonic()
        [commands] = _commands("probe/README.md")
        # The folders before it are there, and what comes after it waits for a Job that holds.
        run = re.findall(r"^kubectl .*(?:-k k8s/probe|logs).*$", commands, re.MULTILINE)
        ran = self._kubectl.shell("\n".join(run))
        if ran.code != 0:
            raise BrokenError(f"{run}: {ran.err}")

        def has_ended() -> bool:
            conditions = self._kubectl.get(_PROBE)["status"].get("conditions", [])
            return any(
                one["type"] in ("Complete", "Failed") and one["status"] == "True"
                for one in conditions
            )

        self._wait("the end of the probe's Job", has_ended)
        seconds = time.monotonic() - began
        pods = self._kubectl.get("pods", "--selector", "job-name=mock-probe")["items"]
        last = max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
        code = last["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"]
        return code, self._kubectl.must("logs", _name(last)), seconds

    # What the rows share.

    def _address(self, service: str = "mocka") -> str:
        address: str = self._kubectl.get("service", service)["spec"]["clusterIP"]
        return address

    def _ask(self, times: int) -> list[bytes]:
        """Answers of the chain, each over a connection of its own."""
        url = f"http://{self._address()}:8000/"
        return [request(url).body for _ in range(times)]

    def _load(self) -> Load:
        """A load on the chain."""
        return Load(
            self._address(),
            lambda status, body: status == 200 and _CHAIN.fullmatch(body) is not None,
        )

    def _wait(self, what: str, is_true: Callable[[], bool]) -> float:
        return self._cluster.processes.wait(what, is_true, START_TIMEOUT)

    def _pods(self, deployment: str = "mock") -> Pods:
        """The pods of all hops, or of one, that are not on their way out."""
        pods: Pods = self._kubectl.get(*_HOPS)["items"]
        return [
            pod
            for pod in pods
            if _name(pod).startswith(deployment) and "deletionTimestamp" not in pod["metadata"]
        ]

    def _pod_of(self, deployment: str) -> dict[str, Any]:
        [pod] = self._pods(deployment)
        return pod

    def _wait_for_old_pods(self) -> None:
        """Until no pod is on its way out."""
        count = len(_DEPLOYMENTS)
        self._wait("the end of the old pods", lambda: self._count() == count)

    def _count(self) -> int:
        return len(self._kubectl.get(*_HOPS)["items"])

    def _roll_out(self, deployment: str) -> float:
        began = time.monotonic()
        self._kubectl.must("rollout", "restart", deployment)
        self._kubectl.must("rollout", "status", "--timeout=2m", deployment)
        return time.monotonic() - began

    def _usage(self) -> dict[str, Amount]:
        """What the containers of the hops have used, as kubelet says."""
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

    def _resources(self) -> tuple[Amount, Amount]:
        """What the hops request, and what limits them: the same in all."""
        found = {
            json.dumps(pod["spec"]["containers"][0]["resources"], sort_keys=True)
            for pod in self._pods()
        }
        [resources] = map(json.loads, found)
        return _amount(resources["requests"]), _amount(resources["limits"])


@dataclass(frozen=True, slots=True)
class Amount:
    """Of memory, in bytes, and of CPU, in cores or in seconds of one core."""

    memory: float
    cpu: float


def _amount(resources: dict[str, str]) -> Amount:
    memory, cpu = resources["memory"], resources["cpu"]
    assert memory.endswith("Mi")
    cores = float(cpu.removesuffix("m")) / (1000 if cpu.endswith("m") else 1)
    return Amount(float(memory.removesuffix("Mi")) * _MIB, cores)


def _commands(page: str) -> list[str]:
    """What a page of `k8s/` says to run on a cluster."""
    return [block.text for block in blocks(K8S / page) if block.reason == "takes a cluster"]


def _name(pod: dict[str, Any]) -> str:
    name: str = pod["metadata"]["name"]
    return name


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _lost(load: Load) -> list[str]:
    problems = [one.text for one in load.failed[:5]]
    if load.answered < load.seconds * RATE * 0.9:
        problems.append(f"only {load.answered} requests in {load.seconds:.0f} s")
    return problems


def _verdicts(log: str, verdict: str) -> list[str]:
    """The names of the probe's verdicts that are this one."""
    return re.findall(rf"^(\w+) +{verdict}\b", log, re.MULTILINE)


def _mib(count: float) -> str:
    return f"{count / _MIB:.0f}"


def _milli(cores: float) -> str:
    return f"{cores * 1000:.0f}m"
