"""The folders of `k8s/` match their documentation and fit each other."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from mockservice import __version__
from mockservice.manifests.checks import check
from mockservice.manifests.inventory import kind_of
from mockservice.serve.run import _tracing
from mockservice.serve.settings import Settings
from tests.manifests.folders import FOLDERS, K8S, LANES, Copy, documents, together
from tests.manifests.kustomize import FILE

if TYPE_CHECKING:
    from pathlib import Path

_DOCS = K8S.parent / "docs"
_WAVE = "argocd.argoproj.io/sync-wave"
_EDITED = {
    "release-v3/asm": "asm/strict",
    "release-v3/istio": "istio/strict",
    "failing-v3/workloads": "release-v3/workloads",
    "failing-v3/roll-back/asm": "release-v3/asm",
}
"""Folders that result from the edits in a page, each with the folder before the edits."""


def _diffs(page: Path) -> list[str]:
    return re.findall(r"^```diff\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def _files(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.glob("*.yaml")}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_contains_only_manifests_and_a_readme(folder: str) -> None:
    files = [file for file in (K8S / folder).iterdir() if file.is_file()]
    assert {file.name for file in files if file.suffix != ".yaml"} <= {"README.md", FILE}
    # Users copy single files, so each must be a file and not a link.
    assert all(not file.is_symlink() for file in files)


@pytest.mark.parametrize(
    "page", [K8S / "README.md", _DOCS / "lanes.md"], ids=lambda page: page.name
)
def test_the_table_has_every_lane_folder(page: Path) -> None:
    listed = re.findall(r"^\| \[([\w/-]+)\]\(([\w./-]+)\) \|", page.read_text(), re.MULTILINE)
    assert {name for name, _ in listed} >= set(LANES)
    assert all((page.parent / path).is_dir() for _, path in listed)


def test_both_tables_are_equal() -> None:
    rows = [
        re.findall(r"^\| \[([\w/-]+)\]\(.*?\) \| (.*) \|$", page.read_text(), re.MULTILINE)
        for page in (K8S / "README.md", _DOCS / "lanes.md")
    ]
    assert rows[0][: len(LANES)] == rows[1]


@pytest.mark.parametrize(
    "page",
    [K8S / "release-v3/README.md", K8S / "failing-v3/README.md", _DOCS / "lanes.md"],
    ids=str,
)
def test_the_diff_makes_the_release_and_backwards_the_roll_back(page: Path, tmp_path: Path) -> None:
    diffs = _diffs(page)
    assert diffs
    for diff in diffs:
        (before,) = set(re.findall(r"^\+\+\+ b/k8s/(.*)/[\w-]+\.yaml$", diff, re.MULTILINE))
        (after,) = (edited for edited, folder in _EDITED.items() if folder == before)
        shutil.copytree(K8S / before, tmp_path / "k8s" / before)
        for backwards, result in (([], after), (["--reverse"], before)):
            subprocess.run(
                ["git", "apply", *backwards, "-"],
                input=diff.encode(),
                cwd=tmp_path,
                check=True,
                # Keep git from finding the repository around the temporary folder.
                env={"GIT_CEILING_DIRECTORIES": str(tmp_path.parent), "PATH": "/usr/bin:/bin"},
            )
            assert _files(tmp_path / "k8s" / before) == _files(K8S / result)


def test_the_roll_back_is_one_file_on_both_meshes() -> None:
    edited = _files(K8S / "failing-v3/roll-back/asm")["mock-route.yaml"]
    expected = _files(K8S / "release-v3/istio") | {"mock-route.yaml": edited}
    assert _files(K8S / "failing-v3/roll-back/istio") == expected


def test_a_v3_that_fails_is_checked_with_the_lanes_of_the_release() -> None:
    for mesh in ("asm", "istio"):
        together = ("workloads", "failing-v3/workloads", f"release-v3/{mesh}")
        assert check(documents(*together)) == []


def test_the_workloads_of_the_release_are_made_by_one_command() -> None:
    made = (K8S / "workloads/mock-v2.yaml").read_text().replace("v2", "v3")
    assert (K8S / "release-v3/workloads/mock-v3.yaml").read_text() == made
    for page in (K8S / "release-v3/README.md", _DOCS / "lanes.md"):
        command = "sed s/v2/v3/g k8s/workloads/mock-v2.yaml > k8s/workloads/mock-v3.yaml"
        assert command in page.read_text()


def test_the_message_in_the_page_is_that_of_the_checks(tmp_path: Path) -> None:
    copy = Copy(tmp_path, "release-v3/asm")
    copy.edit("release-v3/asm/mock-route.yaml", "subset: v3", "subset: v4")
    (problem,) = check(copy.read())
    message = str(problem).removeprefix(f"{copy.folder}/release-v3/asm")
    assert f"k8s/asm/strict{message}\n" in (_DOCS / "lanes.md").read_text()


def test_all_hops_run_the_image_of_this_version() -> None:
    images = set(re.findall(r"image: (\S*mockservice\S*)", "".join(_all_text())))
    assert images == {f"ghcr.io/mockservice/mockservice:{__version__}"}


def _all_text() -> list[str]:
    return [file.read_text() for folder in FOLDERS for file in (K8S / folder).glob("*.yaml")]


@pytest.mark.parametrize("lane_folder", LANES)
def test_waves_go_from_the_workloads_to_the_way_in(lane_folder: str) -> None:
    waves: dict[str, set[int]] = {}
    for document in together(lane_folder):
        annotations = document.body["metadata"].get("annotations", {})
        is_way_in = document.name in ("mock", "shop") and "Lane" not in document.kind
        role = "way in" if is_way_in else ""
        wave = int(annotations.get(_WAVE, 0))
        waves.setdefault(role or document.kind, set()).add(wave)
    expected = {
        "Service": {0},
        "Deployment": {0},
        "Gateway": {1},
        "ASMSwimLaneGroup": {1},
        "ASMSwimLane": {1},
        "DestinationRule": {1},
        "VirtualService": {2},
        "HTTPRoute": {2},
        "way in": {3},
    }
    assert waves == {role: expected[role] for role in waves}


def _argo_cd(kind: str) -> Any:
    (document,) = (one for one in documents("argo-cd") if one.kind == kind)
    return document.body


def test_the_application_is_made_of_folders_that_fit_each_other() -> None:
    spec = _argo_cd("Application")["spec"]
    paths = [source["path"].removeprefix("k8s/") for source in spec["sources"]]
    *plain, probe = paths
    assert probe == "argo-cd/probe"
    assert check(documents(*plain)) == []
    assert {source["repoURL"] for source in spec["sources"]} == set(
        _argo_cd("AppProject")["spec"]["sourceRepos"]
    )
    assert spec["project"] == _argo_cd("AppProject")["metadata"]["name"]
    assert spec["destination"]["server"] == "https://kubernetes.default.svc"
    assert set(spec["syncPolicy"]["automated"]) == {"prune", "selfHeal"}


def test_a_finalizer_has_a_path_as_kubernetes_wants_it() -> None:
    finalizers = [
        finalizer
        for folder in FOLDERS
        for document in documents(folder)
        for finalizer in document.body["metadata"].get("finalizers", ())
    ]
    assert finalizers
    assert all(re.fullmatch(r"[a-z.-]+/[a-z-]+", finalizer) for finalizer in finalizers)


def test_the_project_allows_what_the_lanes_need_and_no_more() -> None:
    needed = documents("probe")
    for lane_folder in LANES:
        if lane_folder != "gateway-api":
            needed += together(lane_folder)
    # The files that the probe reads are in ConfigMaps.
    kinds = {kind_of(one) for one in needed if one.namespace} | {"ConfigMap"}
    spec = _argo_cd("AppProject")["spec"]
    allowed = {
        scope: sorted(
            f"{one['group']}/{one['kind']}".removeprefix("/") for one in spec[f"{scope}Whitelist"]
        )
        for scope in ("clusterResource", "namespaceResource")
    }
    assert allowed == {
        "clusterResource": sorted({kind_of(one) for one in needed if not one.namespace}),
        "namespaceResource": sorted(kinds),
    }
    assert sorted(one["namespace"] for one in spec["destinations"]) == sorted(
        {one.namespace for one in needed if one.namespace}
    )


async def test_tracing_turns_on_every_hop() -> None:
    (settings,) = (one for one in documents("tracing") if one.kind == "ConfigMap")
    for lane_folder in LANES:
        for hop in (one for one in together(lane_folder) if one.kind == "Deployment"):
            (container,) = hop.body["spec"]["template"]["spec"]["containers"]
            reference = {"name": settings.name, "optional": True}
            assert container["envFrom"] == [{"configMapRef": reference}]
            assert hop.namespace == settings.namespace
    env = {"app": "mocka", "version": "v1"}
    assert _tracing(Settings.from_env(env), env) is None
    env |= settings.body["data"]
    tracing = _tracing(Settings.from_env(env), env)
    assert tracing is not None
    await tracing.flush()


def test_spans_are_sent_to_a_port_that_takes_them() -> None:
    (service,) = (one for one in documents("tracing") if one.kind == "Service")
    (settings,) = (one for one in documents("tracing") if one.kind == "ConfigMap")
    ports = {port["name"]: port["port"] for port in service.body["spec"]["ports"]}
    host = f"{service.name}.{service.namespace}.svc.cluster.local"
    endpoint = settings.body["data"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert endpoint == f"http://{host}:{ports['http-otlp']}"
    page = (K8S / "tracing/README.md").read_text()
    assert f"service: {host}\n        port: {ports['grpc-otlp']}\n" in page
    for document in documents("tracing"):
        if document.kind == "Telemetry":
            (tracing,) = document.body["spec"]["tracing"]
            (provider,) = tracing["providers"]
            assert f"- name: {provider['name']}\n" in page


def test_tracing_is_checked_with_the_workloads() -> None:
    assert check(documents("workloads", "tracing")) == []
