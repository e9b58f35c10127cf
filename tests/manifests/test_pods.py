"""The pods in `k8s/` meet the restricted Pod Security Standard and differ only in their names."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mockservice.serve import server
from mockservice.serve.settings import Settings
from mockservice.serve.telemetry import tracing
from tests.manifests.folders import FOLDERS, documents

if TYPE_CHECKING:
    from collections.abc import Callable

    from mockservice.manifests.documents import Document

_TEMPLATES: dict[str, Callable[[Any], Any]] = {
    "Deployment": lambda spec: spec["template"],
    "Job": lambda spec: spec["template"],
    "CronJob": lambda spec: spec["jobTemplate"]["spec"]["template"],
    "AnalysisTemplate": lambda spec: spec["metrics"][0]["provider"]["job"]["spec"]["template"],
}
"""The kinds that make pods, and where each has the pod's template in its `spec`."""

_ALL = [
    (f"{folder}-{document.name}", document)
    for folder in FOLDERS
    for document in documents(folder)
    if document.kind in _TEMPLATES
]
_WORKLOADS = [pytest.param(document, id=name) for name, document in _ALL]
_HOPS = [
    pytest.param(document, id=name)
    for name, document in _ALL
    if document.body["metadata"]["labels"]["app.kubernetes.io/component"] == "hop"
]
_UPSTREAMS = {
    "mocka": "http://mockb:8000/",
    "mockb": "http://mockc:8000/",
    "mockc": None,
    "web": "http://orders:8000/, http://users:8000/",
    "orders": "http://stock:8000/, http://price:8000/",
    "stock": None,
    "price": "http://users:8000/",
    "users": None,
}
# Fails on demand. test_folders checks that it differs in nothing else.
_FAULTY = "failing-v3/workloads-mockb-v3"
_ALIKE = [deployment for deployment in _HOPS if deployment.id != _FAULTY]

# The types of volumes that the restricted standard allows.
_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def _pod(workload: Document) -> Any:
    return _TEMPLATES[workload.kind](workload.body["spec"])["spec"]


@pytest.mark.parametrize("workload", _WORKLOADS)
def test_a_pod_meets_the_restricted_pod_security_standard(workload: Document) -> None:
    pod = _pod(workload)
    for name in ("hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"):
        assert name not in pod
    assert all(set(volume) - {"name"} <= _VOLUMES for volume in pod.get("volumes", []))
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"sysctls", "seLinuxOptions", "windowsOptions", "appArmorProfile"} & set(security)
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            # Beyond the standard.
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert all("hostPort" not in port for port in container.get("ports", ()))
        probes = [one for name, one in container.items() if name.endswith("Probe")]
        for hook in (*container.get("lifecycle", {}).values(), *probes):
            assert "host" not in hook.get("httpGet", {}) | hook.get("tcpSocket", {})


@pytest.mark.parametrize("workload", _WORKLOADS)
def test_a_pod_gets_no_service_account_token_and_has_limits(workload: Document) -> None:
    pod = _pod(workload)
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}


@pytest.mark.parametrize("deployment", _ALIKE)
def test_a_hop_is_that_of_the_walkthrough(deployment: Document) -> None:
    app, version = deployment.name.rsplit("-", 1)
    template = deployment.body["spec"]["template"]
    walkthrough = {"app": app, "version": version, "ASM_TRAFFIC_TAG": version}
    assert deployment.body["spec"]["selector"] == {"matchLabels": walkthrough}
    assert template["metadata"]["labels"].items() >= walkthrough.items()
    (container,) = template["spec"]["containers"]
    env = {variable["name"]: variable["value"] for variable in container["env"]}
    upstream = _UPSTREAMS[app]
    assert env == {"version": version, "app": app} | (
        {"upstream_url": upstream} if upstream else {}
    )
    assert container["name"] == "default"
    assert container["ports"] == [{"name": "http", "containerPort": Settings.from_env(env).port}]


@pytest.mark.parametrize("deployment", _ALIKE)
def test_hops_differ_only_in_their_names(deployment: Document) -> None:
    app, version = deployment.name.rsplit("-", 1)
    first = next(one for one in documents("workloads") if one.name == "mocka-v1")

    def anonymous(document: Document, app: str, version: str) -> str:
        body = deepcopy(document.body)
        del body["apiVersion"]
        (container,) = body["spec"]["template"]["spec"]["containers"]
        container["env"] = [one for one in container["env"] if one["name"] != "upstream_url"]
        text = re.sub(
            r"(instance|part-of): (mock|shop)\n", "", yaml.dump(body, Dumper=yaml.CSafeDumper)
        )
        return re.sub(rf"\b{version}\b", "VERSION", re.sub(rf"\b{app}\b", "APP", text))

    assert anonymous(deployment, app, version) == anonymous(first, "mocka", "v1")


@pytest.mark.parametrize("deployment", _HOPS)
def test_a_hop_is_probed_at_its_reserved_paths(deployment: Document) -> None:
    container = _pod(deployment)["containers"][0]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}


@pytest.mark.parametrize("deployment", _HOPS)
def test_a_hop_and_its_sidecar_have_time_to_drain(deployment: Document) -> None:
    pod = _pod(deployment)
    rollout = deployment.body["spec"]["strategy"]["rollingUpdate"]
    assert rollout == {"maxSurge": 1, "maxUnavailable": 0}
    waited = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    longest = waited + server.GRACE_PERIOD + tracing._FLUSH_TIMEOUT
    assert longest < pod["terminationGracePeriodSeconds"]
    annotations = deployment.body["spec"]["template"]["metadata"]["annotations"]
    sidecar = yaml.safe_load(annotations["proxy.istio.io/config"])
    assert sidecar["holdApplicationUntilProxyStarts"] is True
    assert float(sidecar["terminationDrainDuration"].removesuffix("s")) >= longest
