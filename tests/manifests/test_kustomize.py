"""What Kustomize makes of the folders of `k8s/`, and that the probe's pods get it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mockservice.manifests.checks import check
from mockservice.manifests.documents import read
from tests.manifests.folders import FOLDERS, K8S, LANES, documents
from tests.manifests.kustomize import FILE, KUSTOMIZATIONS, build, is_component, kustomization

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

_SETTINGS = "components/settings"
_BUILT = [folder for folder in KUSTOMIZATIONS if not is_component(folder)]
_ELSEWHERE = {"argo-cd", "metrics"}
"""Folders that go where Argo CD and Grafana are."""
_KNOWN = {
    "apiVersion",
    "kind",
    "resources",
    "components",
    "configMapGenerator",
    "images",
    "patches",
    "replacements",
}


def _parts(folder: str, field: str) -> list[str]:
    """Folders that a folder names, as paths inside of `k8s/`."""
    return [
        str((K8S / folder / one).resolve().relative_to(K8S))
        for one in kustomization(folder).get(field, ())
    ]


def _generated(folder: str) -> dict[str, list[str]]:
    """The ConfigMaps that hold files of a folder, each with the names of its files."""
    return {
        one["name"]: one["files"]
        for one in kustomization(folder).get("configMapGenerator", ())
        if "files" in one
    }


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_file_of_a_folder_is_listed(folder: str) -> None:
    files = sorted(file.name for file in (K8S / folder).glob("*.yaml"))
    assert kustomization(folder)["resources"] == files
    assert all(listed == files for listed in _generated(folder).values())


@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_a_kustomization_is_of_its_kind_and_names_what_exists(folder: str) -> None:
    body = kustomization(folder)
    kind = ("v1alpha1", "Component") if is_component(folder) else ("v1beta1", "Kustomization")
    assert (body["apiVersion"], body["kind"]) == (f"kustomize.config.k8s.io/{kind[0]}", kind[1])
    assert set(body) <= _KNOWN
    assert all(is_component(one) for one in _parts(folder, "components"))
    assert all((K8S / one).exists() for one in _parts(folder, "resources"))


def test_no_kustomization_has_a_name_that_kubectl_applies() -> None:
    assert [file for file in K8S.rglob("*.y*ml") if file.stem.lower() == "kustomization"] == []


@pytest.mark.parametrize("folder", [one for one in FOLDERS if one not in _ELSEWHERE])
def test_the_settings_are_those_of_every_folder(folder: str) -> None:
    if folder.startswith("components/"):
        return
    lanes = [one.body["spec"] for one in documents(folder) if one.kind == "ASMSwimLane"]
    expected = ["components/mockb-v3"] if "components/mockb-v3" in LANES.get(folder, ()) else []
    expected.append(_SETTINGS)
    if any("services" in lane for lane in lanes):
        expected.append("components/asm-lanes")
    assert _parts(folder, "components") == expected


def test_the_probe_reads_the_files_of_all_folders_for_mock() -> None:
    generated = {folder: list(_generated(folder)) for folder in FOLDERS if _generated(folder)}
    assert generated == {
        **{folder: ["mock-manifests-lanes"] for folder in LANES if not folder.startswith("shop/")},
        "workloads": ["mock-manifests-workloads"],
        "release-v3/workloads": ["mock-manifests-v3"],
        "failing-v3/workloads": ["mock-manifests-v3"],
        "components/mockb-v3": ["mock-manifests-v3"],
    }
    (volume,) = _pod("probe")["volumes"]
    assert {one["configMap"]["name"] for one in volume["projected"]["sources"]} == {
        name for names in generated.values() for name in names
    }
    assert all(one["configMap"]["optional"] for one in volume["projected"]["sources"])
    assert "--manifests /manifests" in " ".join(_pod("probe")["containers"][0]["args"])
    assert _pod("probe")["containers"][0]["volumeMounts"][0]["mountPath"] == "/manifests"


@pytest.mark.parametrize("lane_folder", [one for one in LANES if not one.startswith("shop/")])
def test_files_that_the_probe_reads_together_have_names_of_their_own(lane_folder: str) -> None:
    names = Counter(
        file.name
        for one in (*LANES[lane_folder], lane_folder)
        for file in (K8S / one).glob("*.yaml")
    )
    assert max(names.values()) == 1


def _job(folder: str) -> Any:
    (document,) = documents(folder)
    spec = document.body["spec"]
    match document.kind:
        case "CronJob":
            spec = spec["jobTemplate"]["spec"]
        case "AnalysisTemplate":
            spec = spec["metrics"][0]["provider"]["job"]["spec"]
    return spec


def _pod(folder: str) -> Any:
    return _job(folder)["template"]["spec"]


def test_the_three_probes_differ_only_in_when_they_run() -> None:
    job, cron_job, analysis = map(_job, ("probe", "probe/watch", "probe/argo-rollouts"))
    assert cron_job == job
    (template,) = documents("probe/argo-rollouts")
    (url,) = template.body["spec"]["args"]
    args = analysis["template"]["spec"]["containers"][0]["args"]
    assert args[1] == f"{{{{args.{url['name']}}}}}"
    args[1] = url["value"]
    assert analysis == job


def test_a_hop_of_one_lane_stands_in_one_place() -> None:
    assert [file.parent for file in K8S.rglob("mockb-v3.yaml")] == [K8S / "components/mockb-v3"]


def test_the_command_of_the_release_names_the_new_file(tmp_path: Path) -> None:
    command = "sed -i '/mock-v2/p; s/mock-v2/mock-v3/' k8s/workloads/Kustomization"
    assert f"`{command}`" in (K8S / "release-v3/README.md").read_text()
    shutil.copytree(K8S / "workloads", tmp_path / "k8s/workloads")
    subprocess.run(shlex.split(command), cwd=tmp_path, check=True)
    body = yaml.safe_load((tmp_path / "k8s/workloads" / FILE).read_text())
    (config_map,) = body["configMapGenerator"]
    assert body["resources"] == ["mock-v1.yaml", "mock-v2.yaml", "mock-v3.yaml"]
    assert config_map["files"] == body["resources"]


# What a real Kustomize builds.


def _in_default(body: dict[str, Any]) -> dict[str, Any]:
    """An object with the namespace that it gets if it names none."""
    metadata = body["metadata"]
    if body["kind"] not in ("ASMSwimLane", "ASMSwimLaneGroup"):
        metadata = {"namespace": "default", **metadata}
    return {**body, "metadata": metadata}


def _by_name(bodies: list[dict[str, Any]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    named = {
        (body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"]): body
        for body in bodies
    }
    assert len(named) == len(bodies)
    return named


def _is_for_the_probe(body: dict[str, Any]) -> bool:
    name = str(body["metadata"]["name"])
    return body["kind"] == "ConfigMap" and name.startswith("mock-manifests-")


@pytest.mark.parametrize("folder", [one for one in _BUILT if one in FOLDERS])
def test_a_folder_is_built_as_it_is_applied_plainly(folder: str) -> None:
    parts = [one for one in _parts(folder, "components") if one in FOLDERS]
    built = build(K8S / folder)
    plain = _by_name([_in_default(one.body) for one in documents(folder, *parts)])
    assert _by_name([one for one in built if not _is_for_the_probe(one)]) == plain
    assert {one["metadata"]["name"]: one["data"] for one in built if _is_for_the_probe(one)} == {
        name: {file: (K8S / one / file).read_text() for file in files}
        for one in (folder, *parts)
        for name, files in _generated(one).items()
    }


def test_a_sync_of_argo_cd_ends_with_the_probe() -> None:
    (plain,) = build(K8S / "probe")
    (hook,) = build(K8S / "argo-cd/probe")
    assert hook["metadata"].pop("annotations") == {
        "argocd.argoproj.io/hook": "PostSync",
        "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
    }
    assert hook == plain


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `k8s/` with an image, a namespace and replicas of its own."""
    copy = tmp_path_factory.mktemp("elsewhere") / "k8s"
    shutil.copytree(K8S, copy)
    file = copy / _SETTINGS / FILE
    text = file.read_text()
    for old, new in (
        ("newName: ghcr.io/mockservice/mockservice", "newName: registry.example.com/mock"),
        ("newTag: ", "newTag: own-"),
        ("namespace=default", "namespace=lanes"),
        ("value: 1", "value: 3"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    file.write_text(text)
    return copy


@pytest.mark.parametrize("folder", [one for one in _BUILT if one not in _ELSEWHERE])
def test_image_namespace_and_replicas_are_set_in_one_place(folder: str, elsewhere: Path) -> None:
    built = [one for one in build(elsewhere / folder) if not _is_for_the_probe(one)]
    text = yaml.dump_all(built, Dumper=yaml.CSafeDumper)
    assert "ghcr.io/mockservice" not in text
    assert ".default" not in text
    assert "namespace: default" not in text
    for body in built:
        if body["kind"] not in ("ASMSwimLane", "ASMSwimLaneGroup"):
            assert body["metadata"]["namespace"] in ("lanes", "istio-system")
        is_hop = body["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "hop"
        if body["kind"] == "Deployment":
            assert body["spec"]["replicas"] == (3 if is_hop else 1)


@pytest.mark.parametrize("lane_folder", LANES)
def test_lanes_in_another_namespace_fit_their_workloads(
    lane_folder: str, elsewhere: Path, tmp_path: Path
) -> None:
    folders = [one for one in (*LANES[lane_folder], lane_folder) if one in _BUILT]
    built = [body for folder in folders for body in build(elsewhere / folder)]
    (tmp_path / "all.yaml").write_text(yaml.dump_all(built, Dumper=yaml.CSafeDumper))
    assert check(read([tmp_path])) == []
