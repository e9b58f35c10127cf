"""The Job of k8s/probe, run as a kubelet runs it: its arguments, and the files that it mounts."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.manifests.folders import K8S, LANES, documents
from tests.manifests.kustomize import kustomization
from tests.probe.gateway import chain, gateway

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

_LANES = "asm/strict"


def _pod() -> Any:
    (job,) = documents("probe")
    return job.body["spec"]["template"]["spec"]


def _mount(folder: Path, *folders: str) -> Path:
    """Mount the ConfigMaps of these folders, of which the Job's volume may have any.

    A kubelet writes the files to a folder of their own, and puts links to them into the volume.
    """
    (volume,) = _pod()["volumes"]
    mounted = {one["configMap"]["name"] for one in volume["projected"]["sources"]}
    data = folder / "..2026_11_24"
    data.mkdir()
    (folder / "..data").symlink_to(data.name)
    for one in folders:
        for config_map in kustomization(one)["configMapGenerator"]:
            assert config_map["name"] in mounted
            for file in config_map["files"]:
                (data / file).write_bytes((K8S / one / file).read_bytes())
                (folder / file).symlink_to(f"..data/{file}")
    return folder


def _run(url: str, volume: Path) -> subprocess.CompletedProcess[str]:
    """Run the container's arguments, with another gateway and another place for the volume."""
    (container,) = _pod()["containers"]
    (mount,) = container["volumeMounts"]
    command, _, *rest = container["args"]
    arguments = [str(volume) if one == mount["mountPath"] else one for one in rest]
    return subprocess.run(
        [sys.executable, "-m", "mockservice", command, url, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_job_ends_as_its_lanes_are(tmp_path: Path) -> None:
    volume = _mount(tmp_path, *LANES[_LANES], _LANES)
    with gateway(lambda number, _: chain("v1 v1 v1" if number % 2 else "v2 v2 v2")) as sound:
        done = _run(sound.url, volume)
    assert (done.returncode, done.stderr) == (0, "")
    assert "isolation   holds" in done.stdout
    with gateway(lambda number, _: chain("v1 v1 v1" if number % 2 else "v2 v1 v2")) as leaking:
        done = _run(leaking.url, volume)
    assert (done.returncode, done.stderr) == (1, "")
    assert "lane v2 is owed mockb(v2) but got mockb(v1)" in done.stdout


def test_a_job_without_files_says_so(tmp_path: Path) -> None:
    done = _run("http://127.0.0.1:8000/mock", _mount(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("must contain manifests: *.yaml or *.yml files\n")
