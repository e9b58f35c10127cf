"""What is done to the hops on the cluster, and what has to come of it."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from tests.docs.pages import blocks
from tests.kube.node import gateway
from tests.kube.node.hops import (
    APPS,
    CHAIN,
    DEPLOYMENTS,
    MIB,
    VERSIONS,
    Hops,
    container,
    is_ready,
    name_of,
)
from tests.kube.node.load import RATE, Load
from tests.kube.processes import BrokenError
from tests.manifests.folders import K8S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kube.node.cluster import Cluster

_STEADY: Final = 20.0
"""Seconds of load in which nothing happens."""
_ROUNDS: Final = 2
"""How often each Deployment is restarted."""
_EVERY: Final = 5.0
"""Seconds from one restart to the next, at least: a minute for all."""
_AFTER: Final = 5.0
"""Seconds of load after something that was done to a pod is over."""
_KILLED: Final = 128 + 9
"""The exit code of a process that SIGKILL ends."""

_MOCKB: Final = re.compile(r"mockb\([a-z]+: ([^)]*)\)")
"""mockb as the hop before it names it if it does not answer."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    what: str
    seen: str
    problems: list[str] = field(default_factory=list)


class Rows:
    """All that is done on one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._kubectl = cluster.kubectl
        self._hops = Hops(cluster)

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
            self._worse,
        )

    # The pods run.

    def _start(self) -> Iterator[Row]:
        began = time.monotonic()
        self._kubectl.must("apply", "--validate=strict", "-k", "k8s/workloads")
        self._cluster.publish_names()
        condition = "--for=condition=Available"
        self._kubectl.must("wait", condition, "--timeout=3m", "deployment", "--all")
        seconds = time.monotonic() - began
        pods = self._hops.pods()
        problems = [f"{name_of(pod)} is not ready" for pod in pods if not is_ready(pod)]
        if len(pods) != len(DEPLOYMENTS):
            problems.append(f"there are {len(pods)} pods")
        yield Row("apply k8s/workloads", f"{len(pods)} pods ready after {seconds:.1f} s", problems)
        ran = self._kubectl("run", "unrestricted", "--image=any", "--dry-run=server")
        problems = [] if "violates PodSecurity" in ran.err else [ran.err or ran.out]
        yield Row("an unrestricted pod beside them", "refused", problems)

    def _chain(self) -> Iterator[Row]:
        places = {
            (labels["app"], labels["version"]): pod["status"]["podIP"]
            for pod in self._hops.pods()
            for labels in [pod["metadata"]["labels"]]
        }
        problems = []
        chains = set()
        for body in self._hops.ask(50):
            found = CHAIN.fullmatch(body)
            if found is None:
                problems.append(f"not the chain: {body!r}")
                continue
            parts = [part.decode() for part in found.groups()]
            versions, ips = parts[::2], parts[1::2]
            chains.add(tuple(versions))
            problems += [
                f"{app} {version} says {ip}: its pod has {places[app, version]}"
                for app, version, ip in zip(APPS, versions, ips, strict=True)
                if places[app, version] != ip
            ]
        if len({chain[0] for chain in chains}) != len(VERSIONS):
            problems.append(f"not every version of mocka has answered: {chains}")
        yield Row("the chain by mocka's ClusterIP", "50 of 50, each ip its pod's", problems)

    # Under load.

    def _steady(self) -> Iterator[Row]:
        before = self._hops.usage()
        began = time.monotonic()
        with self._hops.load() as load:
            time.sleep(_STEADY)
            after = self._hops.usage()
            seconds = time.monotonic() - began
        yield Row(f"{RATE} requests/s, nothing else", load.found, _lost(load))
        requests, limits = self._hops.resources()
        for app in APPS:
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
                f"a pod of {app} at rest, and under that load",
                f"{_mib(at_rest)}, and {_mib(memory)} MiB (request {_mib(requests.memory)},"
                f" limit {_mib(limits.memory)}); {_milli(cpu)} CPU (request {_milli(requests.cpu)},"
                f" limit {_milli(limits.cpu)})",
                problems,
            )

    def _restart(self) -> Iterator[Row]:
        before = {name_of(pod) for pod in self._hops.pods()}
        took: list[float] = []
        with self._hops.load() as load:
            began = time.monotonic()
            for deployment in DEPLOYMENTS * _ROUNDS:
                time.sleep(max(0.0, began + len(took) * _EVERY - time.monotonic()))
                took.append(self._hops.roll_out(deployment))
            self._hops.wait_for_old_pods()
            time.sleep(_AFTER)
        after = {name_of(pod) for pod in self._hops.pods()}
        yield Row(
            f"kubectl rollout restart, {len(took)} times",
            f"{load.found} in {load.seconds:.0f} s; rolled out after"
            f" {min(took):.1f} to {max(took):.1f} s",
            [*_lost(load), *(f"{name} was not replaced" for name in before & after)],
        )

    def _delete(self) -> Iterator[Row]:
        with self._hops.load() as load:
            deployment = self._hops.busy_mockb(load)
            name = name_of(self._hops.pod_of(deployment))
            began = time.monotonic()
            self._kubectl.must("delete", "pod", name, "--wait=false")
            replaced = self._hops.wait(
                f"a new pod for {name}",
                lambda: any(
                    name_of(pod) != name and is_ready(pod) for pod in self._hops.pods(deployment)
                ),
            )
            self._hops.wait_for_old_pods()
            gone = time.monotonic() - began
            time.sleep(_AFTER)
        yield Row(
            f"the pod of {deployment} deleted",
            f"{load.found}; a new one ready after {replaced:.1f} s, gone after {gone:.1f} s",
            _lost(load),
        )

    def _kill(self) -> Iterator[Row]:
        with self._hops.load() as load:
            deployment = self._hops.busy_mockb(load)
            pod = self._hops.pod_of(deployment)
            self._cluster.kill(container(pod)["containerID"])
            ready = self._hops.wait(
                f"{name_of(pod)} ready again",
                lambda: any(
                    is_ready(one) and container(one)["restartCount"] == 1
                    for one in self._hops.pods(deployment)
                ),
            )
            again = time.monotonic()
            time.sleep(_AFTER)
        after = self._hops.pod_of(deployment)
        code = container(after)["lastState"]["terminated"]["exitCode"]
        problems = []
        if name_of(after) != name_of(pod):
            problems.append("it is another pod, not another container")
        if code != _KILLED:
            problems.append(f"kubelet says exit code {code}")
        for one in load.failed:
            if not _MOCKB.search(one.text):
                problems.append(f"does not name mockb: {one.text}")
            # Endpoints take a moment to reach kube-proxy.
            if one.at > again + 1:
                problems.append(f"lost though it is ready: {one.text}")
        reasons = Counter(one for failed in load.failed for one in _MOCKB.findall(failed.text))
        named = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        at_mockb = f", at mockb: {named}" if named else ""
        yield Row(
            f"a container of {deployment} killed",
            f"exit code {code}, ready again after {ready:.1f} s; {load.found}{at_mockb}",
            problems[:5],
        )

    def _release(self) -> Iterator[Row]:
        release, roll_back = _commands("release-v3/README.md")
        self._kubectl.must("apply", "-f", "k8s/asm/strict")
        with self._hops.load() as load:
            began = time.monotonic()
            released = self._kubectl.shell(release)
            seconds = time.monotonic() - began
            is_there = any(b"version: v3" in answer for answer in self._hops.ask(200))
            rolled_back = self._kubectl.shell(roll_back)
            self._hops.wait_for_old_pods()
            time.sleep(_AFTER)
        problems = [ran.err for ran in (released, rolled_back) if ran.code != 0]
        if not is_there:
            problems.append("v3 does not answer")
        yield Row(
            "release v3 and its roll-back, as its page says",
            f"{load.found} in {load.seconds:.0f} s; v3 answers after {seconds:.1f} s",
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
        weights = {self._hops.address(f"mocka-{version}"): 50 for version in VERSIONS}
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
        for version in VERSIONS:
            for app, upstream in pairwise(APPS):
                setting = f"upstream_url=http://{upstream}-{version}:8000/"
                self._kubectl.must("set", "env", f"deployment/{app}-{version}", setting)
        for deployment in DEPLOYMENTS:
            self._hops.wait_for_rollout(deployment)
        self._hops.wait_for_old_pods()
        code, log, seconds = self._probe()
        holding = _verdicts(log, "holds")
        yield Row(
            "the probe's Job, each version calls its own",
            f"ended after {seconds:.0f} s, exit code {code}; holds: {', '.join(holding)}",
            [] if code == 0 and "isolation" in holding else [f"exit code {code}", log],
        )

    def _probe(self) -> tuple[int, str, float]:
        """Run the Job as its page says: the exit code of its last pod, its log, its seconds."""
        [commands] = _commands("probe/README.md")
        # The folders before it are there, and what comes after it waits for a Job that holds.
        run = re.findall(r"^kubectl .*(?:-k k8s/probe|logs).*$", commands, re.MULTILINE)
        began = time.monotonic()
        ran = self._kubectl.shell("\n".join(run))
        if ran.code != 0:
            raise BrokenError(f"{run}: {ran.err}")

        def has_ended() -> bool:
            conditions = self._kubectl.get("job", "mock-probe")["status"].get("conditions", [])
            return any(
                one["type"] in ("Complete", "Failed") and one["status"] == "True"
                for one in conditions
            )

        self._hops.wait("the end of the probe's Job", has_ended)
        seconds = time.monotonic() - began
        pods = self._kubectl.get("pods", "--selector", "job-name=mock-probe")["items"]
        last = max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
        code = container(last)["state"]["terminated"]["exitCode"]
        return code, self._kubectl.must("logs", name_of(last)), seconds

    # That the load can tell.

    def _worse(self) -> Iterator[Row]:
        """Restarts of pods that are killed at once, as the manifests' pods are not."""
        spec = "/spec/template/spec"
        patch = [
            {"op": "remove", "path": f"{spec}/containers/0/lifecycle"},
            {"op": "replace", "path": f"{spec}/terminationGracePeriodSeconds", "value": 0},
        ]
        deployments = [f"{app}-{VERSIONS[0]}" for app in APPS]
        for deployment in deployments:
            self._kubectl.must(
                *("patch", "deployment", deployment, "--type=json", "--patch", json.dumps(patch))
            )
        for deployment in deployments:
            self._hops.wait_for_rollout(deployment)
        self._hops.wait_for_old_pods()
        with self._hops.load() as load:
            for deployment in deployments:
                self._hops.roll_out(deployment)
            time.sleep(_AFTER)
        yield Row(
            f"restarts without a grace period, {len(deployments)} times",
            f"{load.found} in {load.seconds:.0f} s, as there must be some",
            [] if load.failed else ["the load does not tell"],
        )


def _commands(page: str) -> list[str]:
    """What a page of `k8s/` says to run on a cluster."""
    return [block.text for block in blocks(K8S / page) if block.reason == "takes a cluster"]


def _lost(load: Load) -> list[str]:
    problems = [one.text for one in load.failed[:5]]
    if load.answered < load.seconds * RATE * 0.9:
        problems.append(f"only {load.answered} requests in {load.seconds:.0f} s")
    return problems


def _verdicts(log: str, verdict: str) -> list[str]:
    """The names of the probe's verdicts that are this one."""
    return re.findall(rf"^(\w+) +{verdict}\b", log, re.MULTILINE)


def _mib(count: float) -> str:
    return f"{count / MIB:.0f}"


def _milli(cores: float) -> str:
    return f"{cores * 1000:.0f}m"
