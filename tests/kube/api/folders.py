"""One folder of `k8s/`, applied for real: what is not as it should be."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from tests.manifests.folders import FOLDERS
from tests.manifests.kustomize import KUSTOMIZATIONS, is_component

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.kube.kubectl import Kubectl, Ran

PLAIN: Final = "-f"
KUSTOMIZED: Final = "-k"

APPLIED: Final = sorted(
    [
        *((folder, PLAIN) for folder in FOLDERS),
        *((folder, KUSTOMIZED) for folder in KUSTOMIZATIONS if not is_component(folder)),
    ]
)
"""Each folder with each way to apply it."""

_METRICS: Final = ("--namespace", "monitoring")


@dataclass(slots=True)
class Seen:
    """What came of a folder."""

    objects: int = 0
    pods: int = 0
    problems: list[str] = field(default_factory=list)
    """Empty if all is as it should be."""

    def check(self, what: str, ran: Ran, *, ends: str = "") -> None:
        """Note what a kubectl says that it should not say.

        Args:
            what: what it was to do.
            ran: what it did.
            ends: the last word of each line that it should say.
        """
        # The API server's warnings come as errors' lines do.
        told = [line for line in ran.err.splitlines() if line]
        told += [line for line in ran.lines if not line.endswith(f" {ends}")] if ends else ran.lines
        if ran.code != 0 and not told:
            told = [f"exit code {ran.code}"]
        self.problems += [f"{what}: {line}" for line in told]


def apply(kubectl: Kubectl, k8s: Path, folder: str, way: str, by_hand: Sequence[str] = ()) -> Seen:
    """Apply a folder, compare it, apply it again, and make its pods; then delete it all.

    Args:
        kubectl: the API server's.
        k8s: the folder that has it.
        folder: its name.
        way: `-f` or `-k`.
        by_hand: a kubectl command that changes something in between.
    """
    seen = Seen()
    files = (way, str(k8s / folder), *(_METRICS if folder == "metrics" else ()))
    ran = kubectl("apply", "--validate=strict", *files)
    seen.objects = len(ran.lines)
    try:
        seen.check("apply", ran, ends="created")
        if ran.code == 0:
            if by_hand:
                kubectl.must(*by_hand)
            seen.check("diff", kubectl("diff", *files))
            _apply_again(kubectl, files, seen)
            _make_pods(kubectl, _objects(kubectl, files), seen)
    finally:
        _delete(kubectl, files)
    return seen


def _apply_again(kubectl: Kubectl, files: Sequence[str], seen: Seen) -> None:
    """Nothing may change but an object's version, which the default status of a Gateway makes new.

    kubectl's own `configured` says less: it compares lists before the API server fills in defaults.
    """
    before = _objects(kubectl, files)
    seen.check("applied again", replace(kubectl("apply", "--validate=strict", *files), out=""))
    after = _objects(kubectl, files)
    seen.problems += [
        f"applied again: {body['kind']} {body['metadata']['name']} has changed"
        for body in after
        if body not in before
    ]


def _objects(kubectl: Kubectl, files: Sequence[str]) -> list[dict[str, Any]]:
    """The objects of a folder as the API server has them, without their versions."""
    found = kubectl.get(*files)
    bodies: list[dict[str, Any]] = found.get("items", [found])
    for body in bodies:
        del body["metadata"]["resourceVersion"]
    return bodies


def _make_pods(kubectl: Kubectl, bodies: list[dict[str, Any]], seen: Seen) -> None:
    """Make what Kubernetes and Argo Rollouts would make of objects: Jobs, and pods."""
    made = [one for body in bodies for one in _made_of(body)]
    seen.pods = sum(one["kind"] == "Pod" for one in made)
    if not made:
        return
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
    seen.check(
        "pods",
        kubectl("create", "--validate=strict", "--filename", "-", stdin=items),
        ends="created",
    )
    kubectl.must("delete", "--ignore-not-found", "--filename", "-", stdin=items)


def _made_of(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The Jobs and pods of an object."""
    spec = body.get("spec", {})
    match body["kind"]:
        case "Deployment" | "Job":
            yield _like(body, "v1", "Pod", spec["template"])
        case "CronJob":
            job = _like(body, "batch/v1", "Job", spec["jobTemplate"])
            yield from (job, *_made_of(job))
        case "AnalysisTemplate":
            for metric in spec["metrics"]:
                job = _like(body, "batch/v1", "Job", {"spec": metric["provider"]["job"]["spec"]})
                yield from (job, *_made_of(job))


def _like(
    owner: dict[str, Any], api_version: str, kind: str, template: dict[str, Any]
) -> dict[str, Any]:
    """An object of a template, named after its owner."""
    metadata = {
        "name": f"{owner['metadata']['name'].removesuffix('-made')}-made",
        "namespace": owner["metadata"]["namespace"],
    }
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": template.get("metadata", {}) | metadata,
        "spec": template["spec"],
    }


def _delete(kubectl: Kubectl, files: Sequence[str]) -> None:
    """Delete a folder's objects; nobody is there to do what Argo CD's finalizer waits for."""
    left = kubectl("get", "--ignore-not-found", "--output", "json", *files)
    found = json.loads(left.out or "{}")
    for body in found.get("items", [found]):
        if body.get("metadata", {}).get("finalizers"):
            kubectl.must(
                *("patch", body["kind"], body["metadata"]["name"], "--type=merge"),
                *("--namespace", body["metadata"]["namespace"]),
                *("--patch", '{"metadata": {"finalizers": null}}'),
            )
    kubectl("delete", "--ignore-not-found", *files)
