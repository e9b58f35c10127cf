"""A folder that only Kustomize can read is told apart from one whose files are complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mockservice.manifests.documents import ManifestError
from mockservice.manifests.kustomization import look_at
from tests.manifests.folders import K8S

if TYPE_CHECKING:
    from pathlib import Path

_LISTED = "resources:\n- a.yaml\n- ./b.yaml\n"


def told(folder: Path, text: str, name: str = "kustomization.yaml") -> list[str]:
    """What is said of a folder with the files a.yaml and b.yaml, without its path."""
    folder.mkdir(exist_ok=True)
    for file in ("a.yaml", "b.yaml"):
        (folder / file).write_text("")
    (folder / name).write_text(text)
    found = list(look_at([folder], recursive=False))
    end = f"; pass - and pipe in: kubectl kustomize {folder}"
    assert all(one.endswith(end) for one in found)
    return [one.removesuffix(end).removeprefix(f"{folder / name}:") for one in found]


@pytest.mark.parametrize("name", ["kustomization.yaml", "kustomization.yml", "Kustomization"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_LISTED, None),
        (f"{_LISTED}images:\n- {{name: a, newTag: '2'}}\npatches: []\n", None),
        ("resources: [../base]\n", "1: resources: ../base is no file of this folder"),
        (
            "resources: [a.yaml, b.yaml, https://example.com/c.yaml]\n",
            "1: resources: https://example.com/c.yaml is no file of this folder",
        ),
        (f"{_LISTED}namePrefix: my-\n", "4: namePrefix: changes the manifests"),
        (f"{_LISTED}namespace: shop\n", "4: namespace: changes the manifests"),
        (f"{_LISTED}patches:\n- path: b.yaml\n", "4: patches: changes the manifests"),
        (f"{_LISTED}replicas:\n- {{name: a, count: 2}}\n", "4: replicas: changes the manifests"),
    ],
)
def test_what_changes_the_files_wants_kustomize(
    tmp_path: Path, name: str, text: str, reason: str | None
) -> None:
    assert told(tmp_path, text, name) == ([] if reason is None else [reason])


def test_each_file_is_to_be_listed_where_kubectl_cannot_apply_the_folder(tmp_path: Path) -> None:
    text = "resources: [a.yaml]\n"
    assert told(tmp_path / "one", text) == ["1: resources: b.yaml is not among them"]
    assert told(tmp_path / "other", text, "Kustomization") == []


@pytest.mark.parametrize("field", ["components: [../more]", "configMapGenerator: [{name: a}]"])
def test_what_is_added_counts_only_where_kubectl_cannot_apply_the_folder(
    tmp_path: Path, field: str
) -> None:
    text = f"{_LISTED}{field}\n"
    (reason,) = told(tmp_path / "one", text)
    assert reason == f"4: {field.partition(':')[0]}: changes the manifests"
    assert told(tmp_path / "other", text, "Kustomization") == []


def test_folders_in_folders_are_looked_at_on_request(tmp_path: Path) -> None:
    told(tmp_path / "overlay", "resources: [../base]\n")
    assert list(look_at([tmp_path], recursive=False)) == []
    assert len(list(look_at([tmp_path], recursive=True))) == 1


def test_a_kustomization_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"kustomization.yaml:1: must be a kustomization"):
        told(tmp_path, "- a\n")


@pytest.mark.parametrize(
    ("resources", "end"),
    [("5", ", not 5"), ("a.yaml", ", not 'a.yaml'"), ("{a: b}", ", not an object"), ("[5]", "")],
)
def test_its_resources_must_be_a_list_of_strings(resources: str, end: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as refused:
        told(tmp_path, f"resources: {resources}\n")
    place = f"{tmp_path}/kustomization.yaml:1: resources"
    assert str(refused.value) == f"{place}: must be a list of strings{end}"


@pytest.mark.parametrize("recursive", [False, True])
def test_a_folder_that_may_not_be_read_is_named(
    recursive: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sub" if recursive else tmp_path
    told(folder, _LISTED)

    # Root may read all.
    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.is_file", refuse)
    with pytest.raises(ManifestError) as refused:
        list(look_at([tmp_path], recursive=recursive))
    assert str(refused.value) == f"{folder if not recursive else tmp_path}: permission denied"


def test_the_folders_with_lanes_are_read_as_files() -> None:
    folders = {path.parent for path in K8S.rglob("*-route.yaml")} | {K8S / "workloads"}
    assert list(look_at(sorted(folders), recursive=False)) == []
    assert len(folders) > 10
