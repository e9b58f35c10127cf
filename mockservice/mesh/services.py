"""Reads Services: the pods behind them, their ports, and what those ports carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mockservice.mesh import kubernetes
from mockservice.mesh.model import Service

if TYPE_CHECKING:
    from mockservice.mesh.containers import Container
    from mockservice.mesh.fields import Fields
    from mockservice.mesh.workloads import Workload

# Istio, "Protocol Selection": what a port's appProtocol, or its name up to the first hyphen, says.
_NOT_HTTP: Final = frozenset(
    {"https", "mongo", "mysql", "redis", "tcp", "tls", "udp", "hbone", "double_hbone"}
)
_TCP_PORTS: Final = (25, 53, 3306, 27017)
"""Ports that are taken for TCP where nothing else is declared."""
_HTTP: Final = frozenset({"grpc", "http", "http2", "http_proxy"})
_MAX_PORT: Final = 65535
_DEFAULT_PORT: Final = 8000
"""Of pods for which nothing names a port."""


@dataclass(frozen=True, slots=True)
class Target:
    """A port of a Service, and that of the pods that it leads to."""

    service: Service
    port: int
    target: str
    """A number, or the name of a container's port."""


def read_service(
    spec: Fields, name: str, namespace: str, workloads: list[Workload]
) -> tuple[Service, list[Target]]:
    """Read a Service's `spec`, and where its ports lead.

    Of the pods of hops, one of its target ports at least must be the port.
    """
    ports, tcp_ports, targets = [], [], []
    elsewhere: list[tuple[Fields, int, str | int, list[Workload]]] = []
    with spec:
        selector = spec.pairs("selector")
        is_headless = spec.text("clusterIP") == "None"
        if spec.text("externalName"):
            spec.note("externalName", "leads out of the mesh: calls to it get 503 here")
            selector = ()
        elif not selector:
            reason = "none: what is behind it is not among the manifests, and calls to it get 503"
            spec.note("selector", reason)
        if spec.text("sessionAffinity", "None") != "None":
            spec.note("sessionAffinity", "no effect, as in Istio")
        whole = Service(name, namespace, selector, ())
        behind = [one for one in workloads if whole.is_of(one.namespace, one.labels)]
        hops = [one for one in behind if one.hop is not None and one.port is not None]
        for port in spec.objects("ports"):
            with port:
                name_of_port, protocol = port.text("name"), port.text("appProtocol")
                number: int = port.number("port", 0)
                target = port.scalar("targetPort") or number
                if isinstance(target, int) and not 1 <= target <= _MAX_PORT:
                    port.refuse("targetPort", f"{target}: must be from 1 to {_MAX_PORT}")
                transport = port.text("protocol", "TCP", allowed=("TCP", "UDP", "SCTP"))
                port.known(kubernetes.SERVICE_PORT)
                if transport != "TCP":
                    port.note("protocol", f"{transport} is left out: a mesh does not route it")
                    continue
                ports.append(number)
                targets.append((number, str(target)))
                if not _carries_http(number, name_of_port, protocol):
                    tcp_ports.append(number)
                missed = [one for one in hops if not _reaches(one, str(target))]
                if missed:
                    elsewhere.append((port, number, target, missed))
        spec.known(kubernetes.SERVICE)
        # A port for metrics, say: a hop listens at one port.
        is_reached = len(elsewhere) < len(ports)
        for port, _, target, missed in elsewhere:
            at, pod = missed[0].port, next(iter(missed[0].pods()), missed[0])
            if is_reached and missed == behind:
                reason = f"{target!r}: pods listen only at {at} here; calls to it get 503"
                port.note("targetPort", reason)
            else:
                port.refuse("targetPort", f"{target!r}: must be {at}, the port of {pod}")
    service = Service(
        name,
        namespace,
        selector,
        tuple(ports),
        tuple(tcp_ports),
        tuple(number for _, number, _, _ in elsewhere),
        is_headless,
    )
    return service, [Target(service, number, target) for number, target in targets]


def listening(workload: Workload, targets: list[Target]) -> tuple[Container | None, int, str]:
    """The container of a workload that is called, the port where it listens, and what says so.

    It is the target of the first port of its Services or, without any, the first port of all.
    """
    containers = workload.containers
    for one in targets:
        if not one.service.is_of(workload.namespace, workload.labels):
            continue
        said = f"Service {one.service.name}"
        for container in containers:
            for name, number in container.ports:
                if one.target in (name, str(number)):
                    return container, number, said
        if one.target.isdigit():
            return next(iter(containers), None), int(one.target), said
    for container in containers:
        for _, number in container.ports:
            return container, number, f"container {container.name}"
    return next(iter(containers), None), _DEFAULT_PORT, "default"


def _reaches(workload: Workload, target: str) -> bool:
    """Whether a Service's target, a number or a name, is the port that hops listen at."""
    ports = {} if workload.hop is None else dict(workload.hop.ports)
    return str(ports.get(target, target)) == str(workload.port)


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
