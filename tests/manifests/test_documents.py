"""Manifests are read as `kubectl apply -f` reads them; bad files get one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mockservice.manifests.documents import MAX_FILE, ManifestError, read, read_nodes
from tests.manifests.folders import K8S

_SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: mocka}\n"


def _refusal(*paths: Path) -> str:
    with pytest.raises(ManifestError) as refused:
        read(paths)
    return str(refused.value)


def test_a_folder_is_its_yaml_files_by_name_without_its_subfolders(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "README.md", "c.json", "sub/d.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(
            f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name[0]}}}"
        )
    assert [document.name for document in read([tmp_path])] == ["a", "b"]


def test_folders_in_folders_are_read_on_request(tmp_path: Path) -> None:
    for name in ("b.yaml", "sub/a.yml", "sub/deep/c.yaml", ".git/d.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(_SERVICE.replace("mocka", Path(name).stem))
    assert [document.name for document in read([tmp_path], recursive=True)] == ["b", "a", "c"]


def test_standard_input_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"---\n{_SERVICE}---\n")
    with file.open() as piped:
        monkeypatch.setattr("sys.stdin", piped)
        (document,) = read([Path("-"), Path("-")])
        assert document.where() == "-:2: Service mocka"
        assert read([Path("-")]) == []


def test_standard_input_may_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert _refusal(Path("-")) == "-: standard input is closed"


def test_an_object_may_have_the_beginning_of_a_name_only(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("apiVersion: batch/v1\nkind: Job\nmetadata: {generateName: migrate-}\n")
    assert [document.name for document in read([file])] == ["migrate-"]


def test_the_cluster_tells_objects_with_the_same_beginning_of_a_name_apart(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    job = "apiVersion: batch/v1\nkind: Job\nmetadata: {generateName: migrate-}\n"
    file.write_text(f"{job}---\n{job}")
    assert [document.line for document in read([file])] == [1, 5]


@pytest.mark.parametrize("name", ["kustomization.yaml", "kustomization.yml", "Kustomization"])
def test_what_kustomize_reads_is_no_manifest(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(_SERVICE)
    (tmp_path / name).write_text("resources: [a.yaml]\n")
    assert [document.name for document in read([tmp_path])] == ["mocka"]


def test_files_come_in_the_order_given_and_once(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(_SERVICE.replace("mocka", name))
    documents = read([tmp_path / "b.yaml", tmp_path, tmp_path / "a.yaml"])
    assert [document.name for document in documents] == ["b", "a"]


def test_a_file_has_many_documents_and_empty_ones_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"# nothing yet\n---\n{_SERVICE}---\n---\n{_SERVICE.replace('mocka', 'mockb')}")
    assert [(one.name, one.line) for one in read([file])] == [("mocka", 3), ("mockb", 8)]


def test_a_list_is_its_items(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "apiVersion: v1\nkind: List\nitems:\n"
        "  - {apiVersion: v1, kind: Service, metadata: {name: a}}\n"
        "  - {apiVersion: v1, kind: Service, metadata: {name: b}}\n"
    )
    assert [(one.name, one.line) for one in read([file])] == [("a", 4), ("b", 5)]


@pytest.mark.parametrize(
    ("kind", "metadata", "namespace"),
    [
        ("Service", "name: a", "default"),
        ("Service", "name: a, namespace: other", "other"),
        ("ASMSwimLane", "name: a", ""),
        ("ASMSwimLaneGroup", "name: a", ""),
    ],
)
def test_a_document_is_in_the_default_namespace_unless_its_kind_is_cluster_scoped(
    tmp_path: Path, kind: str, metadata: str, namespace: str
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"apiVersion: v1\nkind: {kind}\nmetadata: {{{metadata}}}\n")
    (document,) = read([file])
    assert document.namespace == namespace


_ROUTE = """\
# A comment.
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: mock
  labels:
    app.kubernetes.io/name: mock
spec:
  http:
    - route:
        - destination:
            host: mocka
        - destination:
            host: mocka
          weight: 50
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("", 2),
        ("kind", 3),
        ("metadata.labels.app.kubernetes.io/name", 7),
        ("spec.http[0].route", 10),
        ("spec.http[0].route[1]", 13),
        ("spec.http[0].route[1].destination.host", 14),
        ("spec.http[0].route[1].weight", 15),
        # An absent field is at the innermost field around it.
        ("spec.http[0].route[0].weight", 11),
        ("spec.http[3].route", 9),
        ("status", 2),
    ],
)
def test_a_message_names_the_line_of_the_field(tmp_path: Path, place: str, line: int) -> None:
    file = tmp_path / "route.yaml"
    file.write_text(_ROUTE)
    (document,) = read([file])
    assert document.where(place) == f"{file}:{line}: VirtualService mock" + (
        f": {place}" if place else ""
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", ":3: invalid YAML: duplicate key 'a'"),
        ("1: 2\n", ":1: invalid YAML: keys must be strings, not '1'"),
        ("on: 2\n", ":1: invalid YAML: keys must be strings, not 'on'"),
        ("? [a]\n: 2\n", ":1: invalid YAML: keys must be strings, not a sequence"),
        ("a: [\n", ":2: invalid YAML: expected the node content, but found '<stream end>'"),
        ("a: b: c\n", ":1: invalid YAML: mapping values are not allowed here"),
        (
            "a: 1\nb: !os.system x\n",
            ":2: invalid YAML: could not determine a constructor for the tag '!os.system'",
        ),
        (
            "a: \x00\n",
            ": invalid YAML: unacceptable character #x0000: special characters are not allowed",
        ),
        ("- a\n", ":1: must be a Kubernetes object, not a list"),
        ("v1\n", ":1: must be a Kubernetes object, not 'v1'"),
        ("kind: Service\n", ":1: apiVersion: must be set"),
        ("apiVersion: v1\nkind: 3\n", ":2: kind: must be a string, not 3"),
        ("apiVersion: v1\nkind: Service\n", ":1: metadata.name: must be set"),
        (
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: 1\n",
            ":4: metadata.name: must be a string, not 1",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: 1}\n",
            ":3: metadata.namespace: must be a string, not 1",
        ),
        ("kind: List\nitems: 3\n", ":1: List: items: must be a list"),
        ("kind: List\nitems:\n  - 3\n", ":3: must be a Kubernetes object, not 3"),
        ("a: &a [*a]\n", ":1: document: must have at most 100000 keys and values"),
        (f"a: {'[' * 1000}\n", ": invalid YAML: nested too deeply"),
        ("# " + "x" * MAX_FILE, ": must be at most 1048576 bytes"),
    ],
)
def test_a_bad_manifest_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    assert _refusal(file) == f"{file}{message}"


def test_aliases_are_counted_expanded(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 9)
    ]
    file.write_text("\n".join(lines))
    assert _refusal(file) == f"{file}:1: document: must have at most 100000 keys and values"


def test_aliases_and_merged_keys_are_read_and_dates_are_strings(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  labels: &labels {app: a}\n"
        "spec:\n  selector: {<<: *labels, since: 2026-01-01}\n"
    )
    (document,) = read([file])
    assert document.body["spec"]["selector"] == {"app": "a", "since": "2026-01-01"}


def test_an_object_that_is_defined_twice_is_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text(_SERVICE)
    second.write_text(f"---\n{_SERVICE}")
    assert _refusal(first, second) == (
        f"{second}:2: Service mocka: must be defined only once; it is already defined in {first}:1"
    )


def test_kinds_of_one_name_are_told_apart_by_their_group(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    gateway = "kind: Gateway\nmetadata: {name: ingressgateway}\n"
    file.write_text(
        f"apiVersion: networking.istio.io/v1\n{gateway}"
        f"---\napiVersion: gateway.networking.k8s.io/v1\n{gateway}"
    )
    assert len(read([file])) == 2


def test_paths_without_manifests_are_refused(tmp_path: Path) -> None:
    assert _refusal(tmp_path) == f"{tmp_path}: must contain manifests: *.yaml or *.yml files"
    assert _refusal(tmp_path / "a.yaml") == f"{tmp_path}/a.yaml: no such file or folder"
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe")
    assert _refusal(tmp_path) == f"{tmp_path}/a.yaml: must be UTF-8 text"
    (tmp_path / "b.yaml").mkdir()
    (tmp_path / "a.yaml").unlink()
    assert _refusal(tmp_path) == f"{tmp_path}/b.yaml: is a directory"


def test_both_parsers_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(K8S.rglob("*.yaml"))
    assert yaml.__with_libyaml__
    fast = [[(_lines(node), body) for node, body in read_nodes(file)] for file in files]
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    slow = [[(_lines(node), body) for node, body in read_nodes(file)] for file in files]
    assert len(files) > 40
    assert fast == slow


def _lines(node: yaml.Node) -> list[Any]:
    """The lines of a node and of all nodes in it."""
    inner = node.value if isinstance(node.value, list) else []
    nodes = [one for part in inner for one in (part if isinstance(part, tuple) else (part,))]
    return [node.start_mark.line, *map(_lines, nodes)]
