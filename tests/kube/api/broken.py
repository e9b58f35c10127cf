"""Manifests that are broken on purpose: the test is worth something if each of them is told."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.kube.api.folders import KUSTOMIZED, PLAIN, apply
from tests.manifests.folders import K8S

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kube.kubectl import Kubectl


@dataclass(frozen=True, slots=True)
class Breakage:
    """A folder with one thing wrong."""

    what: str
    file: str
    """Inside of `k8s/`; its folder is applied."""
    old: str
    """What is replaced, once."""
    new: str
    told: str
    """A part of what has to be told."""
    way: str = PLAIN
    by_hand: tuple[str, ...] = ()
    """A kubectl command after the folder has been applied."""

    def try_it(self, kubectl: Kubectl, place: Path) -> list[str]:
        """What is told of it."""
        shutil.copytree(K8S, place)
        path = place / self.file
        text = path.read_text()
        assert self.old in text, f"{self.old!r} is not in {self.file}"
        path.write_text(text.replace(self.old, self.new, 1))
        folder = self.file.rpartition("/")[0]
        return apply(kubectl, place, folder, self.way, self.by_hand).problems


_POD: Final = "workloads/mock-v1.yaml"

BREAKAGES: Final = (
    Breakage(
        "a field of a Deployment is misspelt",
        _POD,
        "revisionHistoryLimit",
        "revisionHistoryLimt",
        'unknown field "spec.revisionHistoryLimt"',
    ),
    Breakage(
        "a field of an Istio route is misspelt",
        "istio/strict/mock-route.yaml",
        "weight: 50",
        "wieght: 50",
        'unknown field "spec.http[0].route[0].wieght"',
    ),
    Breakage(
        "a field of Argo CD's project is misspelt",
        "argo-cd/project.yaml",
        "namespaceResourceWhitelist",
        "namespaceResourceWhiteList",
        'unknown field "spec.namespaceResourceWhiteList"',
        KUSTOMIZED,
    ),
    Breakage(
        "a field of the AnalysisTemplate's pods is misspelt",
        "probe/argo-rollouts/analysis-template.yaml",
        "restartPolicy",
        "restartPolcy",
        'unknown field "spec.metrics[0].provider.job.spec.template.spec.restartPolcy"',
    ),
    Breakage(
        "a weight of the Gateway API is negative",
        "gateway-api/mock-route.yaml",
        "weight: 50",
        "weight: -50",
        "should be greater than or equal to 0",
    ),
    Breakage(
        "a selector does not select its pods",
        _POD,
        "matchLabels:\n      app: mocka",
        "matchLabels:\n      app: mockx",
        "`selector` does not match template `labels`",
        KUSTOMIZED,
    ),
    Breakage(
        "a setting stands there twice",
        _POD,
        "- name: app\n",
        "- name: version\n",
        'hides previous definition of "version"',
    ),
    Breakage(
        "a finalizer has no path",
        "argo-cd/application.yaml",
        "resources-finalizer.argocd.argoproj.io/foreground",
        "resources-finalizer.argocd.argoproj.io",
        "prefer a domain-qualified finalizer name",
    ),
    Breakage(
        "a container runs as root",
        _POD,
        "runAsUser: 65532",
        "runAsUser: 0",
        'pods "mocka-v1-made" is forbidden: violates PodSecurity',
    ),
    Breakage(
        "the probe's CronJob may run as root",
        "probe/watch/cron-job.yaml",
        "runAsNonRoot: true",
        "runAsNonRoot: false",
        "runAsNonRoot != true",
        KUSTOMIZED,
    ),
    Breakage(
        "a pod of the AnalysisTemplate may gain privileges",
        "probe/argo-rollouts/analysis-template.yaml",
        "allowPrivilegeEscalation: false",
        "allowPrivilegeEscalation: true",
        'pods "mock-lanes-made" is forbidden: violates PodSecurity',
    ),
    Breakage(
        "Jaeger mounts a folder of its node",
        "tracing/jaeger.yaml",
        "emptyDir:\n            sizeLimit: 64Mi",
        "hostPath:\n            path: /tmp",
        "restricted volume types",
    ),
    Breakage(
        "somebody changes an object by hand",
        _POD,
        "",
        "",
        "diff: -  replicas: 2",
        by_hand=("scale", "deployment/mocka-v1", "--replicas=2"),
    ),
)
