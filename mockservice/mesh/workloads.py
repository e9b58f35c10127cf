"""Reads Deployments and Services: the pods of the mesh and their Services."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mockservice.mesh.model import Pairs, Pod, Service, pairs, selects
from mockservice.pod_settings import SettingError, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mockservice.mesh.fields import Fields

_MAX_REPLICAS: Final = 20

# Fields that tell a cluster how to schedule, start, restrict and stop pods. Local lanes ignore
# them: each pod is a process of `mockservice serve`, whatever its image.
_IGNORED_IN_DEPLOYMENT: Final = (
    "selector",
    "strategy",
    "minReadySeconds",
    "progressDeadlineSeconds",
    "revisionHistoryLimit",
)
_IGNORED_IN_POD: Final = (
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
_IGNORED_IN_CONTAINER: Final = (
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
# Istio, "Protocol Selection": what a port's appProtocol, or its name up to the first hyphen, says.
_NOT_HTTP: Final = frozenset(
    {"https", "mongo", "mysql", "redis", "tcp", "tls", "udp", "hbone", "double_hbone"}
)
_TCP_PORTS: Final = (25, 53, 3306, 27017)
"""Ports that are taken for TCP where nothing else is declared."""
_HTTP: Final = frozenset({"grpc", "http", "http2", "http_proxy"})

_IGNORED_IN_SERVICE: Final = ("type", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")


@dataclass(frozen=True, slots=True)
class Workload:
    """The pods of one Deployment and the names of its ports."""

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
    """Read a Deployment's `spec`.

    Args:
        spec: the fields to read.
        name: the Deployment's name.
        namespace: the Deployment's namespace.
        config_maps: the data of ConfigMaps, by namespace and name.

    Returns:
        One pod for each replica.
    """

    def config_map(name: str) -> Pairs | None:
        return config_maps.get((namespace, name))

    with spec:
        spec.ignore(*_IGNORED_IN_DEPLOYMENT)
        replicas: int = spec.number("replicas", 1)
        if not 0 <= replicas <= _MAX_REPLICAS:
            spec.refuse("replicas", f"{replicas}: must be from 0 to {_MAX_REPLICAS}")
            replicas = 1
        with spec.object("template") as template:
            with template.object("metadata") as metadata:
                metadata.ignore("annotations", "name", "creationTimestamp")
                labels = metadata.pairs("labels")
            with template.object("spec") as pod:
                pod.ignore(*_IGNORED_IN_POD)
                containers = pod.each("containers", lambda one: _read_container(one, config_map))
                if len(containers) != 1:
                    pod.refuse("containers", "must be exactly one container in local lanes")
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
        container.ignore(*_IGNORED_IN_CONTAINER)
        for source in container.objects("envFrom"):
            with source, source.object("configMapRef") as reference:
                name = reference.text("name")
                data = config_map(name)
                is_optional = reference.flag("optional")
                if data is None and not is_optional:
                    reference.refuse("name", f"there is no ConfigMap {name!r}")
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
            container.refuse("env", f"invalid settings for mockservice: {error}")
            port = None
    return _Container(pairs(env), port, pairs(port_names))


def _read_variable(variable: Fields) -> tuple[str, str]:
    with variable:
        return variable.text("name"), variable.text("value")


def read_service(spec: Fields, name: str, namespace: str, workloads: list[Workload]) -> Service:
    """Read a Service's `spec`; one of its target ports at least must be that of its pods."""
    ports, tcp_ports, elsewhere = [], [], []
    with spec:
        spec.ignore(*_IGNORED_IN_SERVICE)
        selector = spec.pairs("selector")
        if not selector:
            spec.refuse("selector", "must be set in local lanes")
        behind = [
            one
            for one in workloads
            if (pod := next(iter(one.pods), None))
            and pod.namespace == namespace
            and selects(selector, pod.labels)
        ]
        for port in spec.objects("ports"):
            with port:
                port.ignore("nodePort")
                name_of_port, protocol = port.text("name"), port.text("appProtocol")
                port.text("protocol", "TCP", allowed=("TCP",))
                number: int = port.number("port", 0)
                target = port.scalar("targetPort") or number
                ports.append(number)
                if not _carries_http(number, name_of_port, protocol):
                    tcp_ports.append(number)
                missed = [one for one in behind if not _reaches(one, str(target))]
                if missed:
                    elsewhere.append((port, number, target, missed))
        # A port for metrics, say: the pods of local lanes listen at one port.
        is_reached = len(elsewhere) < len(ports)
        for port, _, target, missed in elsewhere:
            pod = missed[0].pods[0]
            if is_reached and missed == behind:
                reason = f"{target!r}: pods listen only at {pod.port} here; calls of it get 503"
                port.note("targetPort", reason)
            else:
                reason = f"{target!r}: must be {pod.port}, the port of {pod}"
                port.refuse("targetPort", reason)
    return Service(
        name,
        namespace,
        selector,
        tuple(ports),
        tuple(tcp_ports),
        tuple(number for _, number, _, _ in elsewhere),
    )


def _reaches(workload: Workload, target: str) -> bool:
    """Whether a Service's target, a number or a name, is the port that pods listen at."""
    return dict(workload.port_names).get(target, target) == str(workload.pods[0].port)


def _carries_http(number: int, name: str, app_protocol: str) -> bool:
    """Whether a mesh routes what gets to a port as HTTP; it finds out where nothing is declared.

    Source: Istio, "Protocol Selection".
    """
    known = {"kubernetes.io/h2c": "http2", "kubernetes.io/ws": "http", "kubernetes.io/wss": "https"}
    declared = (known.get(app_protocol, app_protocol) or name).lower()
    protocol = declared.partition("-")[0]
    if protocol in _NOT_HTTP:
        return False
    return protocol in _HTTP or number not in _TCP_PORTS
