"""Manifests that do not fit each other get one line per problem: the file, the field, the reason.

`broken.yaml` is the table of broken manifests and their messages.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mockservice.manifests.checks import check
from mockservice.manifests.documents import read
from tests.manifests.folders import LANES, Copy, together

if TYPE_CHECKING:
    from collections.abc import Iterator


_BROKEN = yaml.load(Path(__file__).with_name("broken.yaml").read_text(), yaml.CSafeLoader)


def _messages(copy: Copy) -> list[str]:
    """The messages of the checks for a copy, without line numbers."""
    lines = [str(problem).removeprefix(f"{copy.folder}/") for problem in check(copy.read())]
    assert all("\n" not in line for line in lines)
    return [re.sub(r"^(\S+):\d+: ", r"\1: ", line) for line in lines]


@pytest.mark.parametrize("lane_folder", LANES)
def test_the_manifests_fit_each_other(lane_folder: str) -> None:
    assert check(together(lane_folder)) == []


@pytest.mark.parametrize("case", [pytest.param(case, id=case["broken"]) for case in _BROKEN])
def test_each_problem_is_reported(tmp_path: Path, case: dict[str, Any]) -> None:
    copy = Copy(tmp_path, case["lanes"])
    copy.edit(case["file"], case["old"], case["new"])
    assert _messages(copy) == case["messages"]


def test_a_problem_names_the_line_of_the_field(tmp_path: Path) -> None:
    copy = Copy(tmp_path, "release-v3/asm")
    copy.edit("release-v3/asm/mock-route.yaml", "subset: v3", "subset: v4")
    (problem,) = check(copy.read())
    file, line, _ = str(problem).split(":", 2)
    assert Path(file).read_text().splitlines()[int(line) - 1].strip() == "subset: v4"


def _weighted(tmp_path: Path, *weights: int) -> Copy:
    """The strict ASM lanes, entered by weight."""
    copy = Copy(tmp_path, "asm/strict")
    routing = "    ingressRouting:\n      ingressRoutingStrategy: weighted\n"
    copy.edit("asm/strict/swimlanegroup.yaml", "      type: ASM\n", f"      type: ASM\n{routing}")
    for lane, weight in zip(("v1", "v2"), weights, strict=True):
        entrance = f"  ingressWeight: {{destination: {{host: mocka}}, weight: {weight}}}\n"
        selector = f"    version: {lane}\n"
        copy.edit("asm/strict/swimlanes.yaml", selector, selector + entrance)
    return copy


def test_the_weights_of_lanes_add_up_to_100(tmp_path: Path) -> None:
    assert _messages(_weighted(tmp_path / "good", 60, 40)) == []
    assert _messages(_weighted(tmp_path / "bad", 60, 30)) == [
        "asm/strict/swimlanes.yaml: ASMSwimLane v2: spec.ingressWeight.weight: "
        "weights must add up to 100, but 60 + 30 is 90"
    ]


def test_a_service_may_have_a_baseline_of_its_own(tmp_path: Path) -> None:
    copy = Copy(tmp_path, "asm/permissive-header")
    target = "fallbackTarget: s1\n"
    own = f"    serviceLevelFallbackTarget:\n      default/mockb: s3\n    {target}"
    copy.edit("asm/permissive-header/swimlanegroup.yaml", f"    {target}", own)
    # The fallbackTarget may lack it then.
    before = (
        "      namespace: default\n    - name: mockb\n      namespace: default\n    - name: mockc"
    )
    after = "      namespace: default\n    - name: mockc"
    copy.edit("asm/permissive-header/swimlanes.yaml", before, after)
    assert _messages(copy) == []


_SERVICES = """\
apiVersion: v1
kind: Service
metadata: {{name: mockb, namespace: other}}
spec: {{selector: {{app: b}}, ports: [{{port: 80}}, {{port: 443}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: mockb, namespace: other}}
spec:
  selector: {{matchLabels: {{app: b}}}}
  template:
    metadata: {{labels: {{app: b}}}}
    spec:
      containers: [{{name: default, env: [{{name: upstream_url, value: "{url}"}}]}}]
"""


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://mockb/", None),
        ("https://mockb.other", None),
        ("http://mockb.other.svc:80/x", None),
        ("http://mockb.other.svc.cluster.local.:80/", None),
        ("", None),
        # Hosts outside the manifests are not checked.
        ("https://example.org/", None),
        ("http://192.0.2.1:8000/", None),
        ("http://[2001:db8::1]:8000/", None),
        ("http://mockb:8000/", "Service mockb has no port 8000; must be one of 443, 80"),
        ("http://mokb/", "there is no Service 'mokb' in namespace other; did you mean 'mockb'?"),
        (
            "http://mokb.other/",
            "there is no Service 'mokb.other'; did you mean 'mockb.other.svc.cluster.local'?",
        ),
        (
            "http://mockb.default.svc/",
            "there is no Service 'mockb.default.svc'; there is only mockb.other.svc.cluster.local",
        ),
        ("ftp://mockb/", "must be an http or https URL with a host"),
        ("http://mockb:x/", "must be an http or https URL with a host"),
    ],
)
def test_an_upstream_is_found_as_dns_finds_it(
    tmp_path: Path, url: str, message: str | None
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(_SERVICES.format(url=url))
    problems = [str(problem) for problem in check(read([file]))]
    place = "Deployment mockb: spec.template.spec.containers[0].env[0].value"
    assert problems == ([f"{file}:14: {place}: {url}: {message}"] if message else [])


def test_a_field_that_is_null_counts_as_absent(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    named = _SERVICES.format(url="").replace("{port: 80}", "{port: 80, targetPort: http}")
    file.write_text(named.replace("name: default", "name: default, ports: [{name: null}]"))
    (problem,) = check(read([file]))
    place = "spec.template.spec.containers[0].ports[0].containerPort"
    assert str(problem) == f"{file}:14: Deployment mockb: {place}: must be set"
    file.write_text(
        named.replace("name: default", "name: default, ports: [{name: null, containerPort: 80}]")
    )
    (problem,) = check(read([file]))
    assert str(problem).endswith("no container has a port named 'http'; there is none")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 101) | st.sampled_from(["", "v1", "mocka", "a.b"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=3,
)


@given(st.data())
def test_every_manifest_is_checked_without_an_exception(data: st.DataObject) -> None:
    documents = together(data.draw(st.sampled_from(list(LANES))))
    index = data.draw(st.integers(0, len(documents) - 1))
    body = deepcopy(documents[index].body)
    labels = body["metadata"].get("labels", {})
    places = [(body, "spec"), *_places(body["spec"]), *_places(labels)]
    owner, name = data.draw(st.sampled_from(places))
    if data.draw(st.booleans()):
        owner[name] = data.draw(_JSON)
    else:
        del owner[name]
    documents[index] = replace(documents[index], body=body)
    for problem in check(documents):
        assert "\n" not in str(problem)


def _places(owner: Any) -> Iterator[tuple[Any, Any]]:
    """Every value inside an object, as its container and its key."""
    for name, value in list(owner.items() if isinstance(owner, dict) else enumerate(owner)):
        yield owner, name
        if isinstance(value, dict | list):
            yield from _places(value)
