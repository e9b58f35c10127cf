"""Deployments, ConfigMaps and Services: the pods of the mesh and the names they are called by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mockservice.mesh.model import Pairs, Pod, Service, pairs, selects
from mockservice.pod_settings import SettingError, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mockservice.mesh.fields import Fields

_MAX_REPLICAS: Final = 20

# What tells a cluster how to place, start, guard and end the pods: here they are processes of
# `mockservice serve`, whatever the image.
_DEPLOYMENT_ELSEWHERE: Final = (
    "selector",
    "strategy",
    "minReadySeconds",
    "progressDeadlineSeconds",
    "revisionHistoryLimit",
)
_POD_ELSEWHERE: Final = (
    "affinity",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "imagePullSecrets",
    "nodeSelector",
    "priorityClassName",
    "restartPolicy",
    "securityContext",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
)
_CONTAINER_ELSEWHERE: Final = (
    "name",
    "image",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "readinessProbe",
    "resources",
    "securityContext",
    "startupProbe",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
)
_SERVICE_ELSEWHERE: Final = ("type", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")


@dataclass(frozen=True, slots=True)
class Workload:
    """The pods of one Deployment, and the names that it gives to its ports."""

    pods: tuple[Pod, ...]
    port_names: Pairs


@dataclass(frozen=True, slots=True)
class _Container:
    env: Pairs = ()
    port: int | None = None
    port_names: Pairs = ()


def read_deployment(
    spec: Fields, name: str, namespace: str, config_maps: Mapping[tuple[str, str], Pairs]
) -> Workload:
    """Read a Deployment's `spec`: one pod for each replica.

    Args:
        config_maps: the data of ConfigMaps, by namespace and name.
    """

    def config_map(name: str) -> Pairs | None:
        return config_maps.get((namespace, name))

    with spec:
        spec.ignore(*_DEPLOYMENT_ELSEWHERE)
        replicas: int = spec.number("replicas", 1)
        if not 0 <= replicas <= _MAX_REPLICAS:
            spec.refuse("replicas", f"{replicas}: must be from 0 to {_MAX_REPLICAS}")
            replicas = 1
        with spec.object("template") as template:
            with template.object("metadata") as metadata:
                metadata.ignore("annotations", "name", "creationTimestamp")
                labels = metadata.pairs("labels")
            with template.object("spec") as pod:
                pod.ignore(*_POD_ELSEWHERE)
                containers = pod.each("containers", lambda one: _read_container(one, config_map))
                if len(containers) != 1:
                    pod.refuse("containers", "local lanes run exactly one container in a pod")
    container = containers[0] if containers else _Container()
    if container.port is None:
        return Workload((), ())
    pods = tuple(
        Pod(f"{name}-{number}", namespace, labels, container.env, container.port, spec.document)
        for number in range(replicas)
    )
    return Workload(pods, container.port_names)


def _read_container(container: Fields, config_map: Callable[[str], Pairs | None]) -> _Container:
    env: dict[str, str] = {}
    with container:
        container.ignore(*_CONTAINER_ELSEWHERE)
        for source in container.objects("envFrom"):
            with source, source.object("configMapRef") as reference:
                data = config_map(reference.text("name"))
                is_optional = reference.flag("optional")
                if data is None and not is_optional:
                    reference.refuse("name", "there is no such ConfigMap")
                env |= data or ()
        env |= container.each("env", _read_variable)
        port_names = {}
        for named in container.objects("ports"):
            with named:
                named.ignore("protocol")
                port_names[named.text("name")] = str(named.number("containerPort"))
        try:
            port: int | None = Settings.from_env(env).port
        except SettingError as error:
            container.refuse("env", f"local lanes run mockservice: {error}")
            port = None
    return _Container(pairs(env), port, pairs(port_names))


def _read_variable(variable: Fields) -> tuple[str, str]:
    with variable:
        return variable.text("name"), variable.text("value")


def read_service(spec: Fields, name: str, namespace: str, workloads: list[Workload]) -> Service:
    """Read a Service's `spec`; its ports must be those that the pods behind it listen at."""
    with spec:
        spec.ignore(*_SERVICE_ELSEWHERE)
        selector = spec.pairs("selector")
        if not selector:
            spec.refuse("selector", "local lanes need one to find the pods")
        ports = []
        for port in spec.objects("ports"):
            with port:
                port.ignore("name", "appProtocol")
                port.text("protocol", "TCP", allowed=("TCP",))
                number: int = port.number("port", 0)
                target = port.scalar("targetPort") or number
                ports.append(number)
                for workload in workloads:
                    pod = next(iter(workload.pods), None)
                    if pod is None or pod.namespace != namespace:
                        continue
                    reached = dict(workload.port_names).get(str(target), str(target))
                    if selects(selector, pod.labels) and reached != str(pod.port):
                        reason = f"{target!r} is not where {pod} listens, which is {pod.port}"
                        port.refuse("targetPort", reason)
    return Service(name, namespace, selector, tuple(ports))
