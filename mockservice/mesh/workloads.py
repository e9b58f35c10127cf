"""Reads workloads: Deployments and all other kinds that make pods, and what their pods are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mockservice.manifests.inventory import kind_of
from mockservice.manifests.kinds import POD
from mockservice.mesh import kubernetes
from mockservice.mesh.containers import Container, PodFacts, env_of_pod, read_container
from mockservice.mesh.model import Pairs, Pod
from mockservice.pod_settings import SettingError, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mockservice.manifests.documents import Document, Source
    from mockservice.mesh.fields import Fields

_MAX_REPLICAS: Final = 20
_INJECT: Final = "sidecar.istio.io/inject"
CALLS: Final = "mockservice.io/calls"
"""The annotation that says which Services a workload calls."""


@dataclass(slots=True)
class Workload:
    """What makes pods of one kind, of which there may be none."""

    kind: str
    """Without its group."""
    name: str
    namespace: str
    labels: Pairs
    """Of its pods."""
    annotations: dict[str, str]
    """Its own, and those of its pods."""
    containers: tuple[Container, ...]
    replicas: int
    source: Source
    left_out: list[str] = field(default_factory=list)
    """What of it means nothing here, to be told."""
    without_sidecar: str | None = None
    """Why its pods have no sidecar on a cluster."""
    port: int | None = None
    """Where its pods listen; None: nothing says it yet."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def hop(self) -> Container | None:
        """The container that is made for mockservice; None: a mock runs in place of its pods."""
        return next((one for one in self.containers if one.is_hop), None)

    def pods(self) -> list[Pod]:
        """A pod for each replica, with the environment of a hop that the manifest has."""
        return [
            Pod(
                name,
                self.namespace,
                self.labels,
                () if self.hop is None else env_of_pod(self.hop, name),
                self.port or 0,
                self.source,
            )
            for number in range(self.replicas)
            for name in [self.name if self.kind == POD else f"{self.name}-{number}"]
        ]


def read_workload(
    document: Document,
    body: Fields,
    config_maps: Mapping[tuple[str, str], Pairs],
    template: Fields | None,
) -> Workload:
    """Read a workload.

    Args:
        document: the workload.
        body: its fields.
        config_maps: the data of ConfigMaps, by namespace and name.
        template: what its pods are made of, where another workload has it.
    """
    kind = kind_of(document)
    replicas = 1
    if kind == POD:
        template = body
        metadata = document.body["metadata"]
    else:
        with body.object("spec") as spec:
            if "replicas" in kubernetes.WORKLOAD[kind]:
                replicas = spec.number("replicas", 1)
            own = spec.object("template")
            template = own if template is None else template
            spec.known(kubernetes.WORKLOAD[kind])
        with template.object("metadata") as fields:
            fields.pairs("labels")
            fields.known(kubernetes.METADATA)
        metadata = template.body.get("metadata") or {}
    labels: dict[str, str] = metadata.get("labels") or {}
    annotations: dict[str, str] = metadata.get("annotations") or {}
    with template, template.object("spec") as pod:
        facts = PodFacts(
            document.namespace,
            tuple(sorted(labels.items())),
            tuple(annotations.items()),
            pod.text("serviceAccountName"),
            config_maps,
        )
        containers = pod.each("containers", lambda one: read_container(one, facts))
        skipped = [
            f"init container {one.body.get('name')}" for one in pod.objects("initContainers")
        ]
        has_host_network = pod.flag("hostNetwork")
        pod.known(kubernetes.POD)
    own_annotations: dict[str, str] = document.body["metadata"].get("annotations") or {}
    workload = Workload(
        document.kind,
        document.name,
        document.namespace,
        facts.labels,
        {**own_annotations, **annotations},
        containers,
        replicas,
        document.source(),
        skipped,
    )
    if has_host_network:
        workload.without_sidecar = "hostNetwork"
    elif "false" in (labels.get(_INJECT), annotations.get(_INJECT)):
        workload.without_sidecar = f"{_INJECT}: false"
    if workload.hop is not None:
        _check_hop(workload, workload.hop, body)
    elif replicas > _MAX_REPLICAS:
        workload.left_out.append(f"{replicas - _MAX_REPLICAS} of {replicas} replicas")
        workload.replicas = _MAX_REPLICAS
    return workload


def _check_hop(workload: Workload, hop: Container, body: Fields) -> None:
    """Find out where a hop listens, and what is wrong with its settings."""
    if not 0 <= workload.replicas <= _MAX_REPLICAS:
        reason = f"{workload.replicas}: must be from 0 to {_MAX_REPLICAS}"
        body.object("spec").refuse("replicas", reason)
        workload.replicas = 1
    for name in hop.missing:
        hop.fields.refuse("envFrom", f"there is no ConfigMap {name!r}")
    try:
        workload.port = Settings.from_env(dict(hop.env)).port
    except SettingError as error:
        hop.fields.refuse("env", f"invalid settings for mockservice: {error}")
