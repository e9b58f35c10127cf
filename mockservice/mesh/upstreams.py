"""Finds out which Services a workload calls.

What the command line says counts first, then the annotation, then the variables of its containers
whose values are the address of a Service.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mockservice.manifests.inventory import one_of_hosts
from mockservice.manifests.problems import one_of
from mockservice.mesh.workloads import CALLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mockservice.mesh.containers import Container
    from mockservice.mesh.model import Service
    from mockservice.mesh.overrides import Override
    from mockservice.mesh.workloads import Workload

MAX_CALLS: Final = 32
"""As many as a hop may have."""

# A host and what is around it: `http://`, `jdbc:mysql://`, a user, a port and a path.
_HOST: Final = r"(?P<host>[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)\.?"
_AFTER: Final = r"(?::(?P<port>\d{1,5}))?(?P<path>/[!-~]*)?"
_SCHEME: Final = r"(?P<scheme>[a-z][a-z0-9+.:-]*)://(?:[^@/\s]*@)?"
_URL: Final = re.compile(_SCHEME + _HOST + _AFTER, re.IGNORECASE)
_ADDRESS: Final = re.compile(_HOST + r":(?P<port>\d{1,5})")
_CALLEE: Final = re.compile(rf"(?:http://)?{_HOST}{_AFTER}")
_HTTP_PORTS: Final = {"http": 80, "https": 443}
# Where telemetry goes is not called to answer a request.
_NO_CALLS: Final = "OTEL_"
_OF_HOSTS: Final = ("HOST", "HOSTNAME")


@dataclass(frozen=True, slots=True)
class Upstream:
    """A call of a workload, and what says so."""

    service: Service
    port: int
    path: str
    said_by: str
    is_certain: bool = True
    """Whether somebody said so; else it is taken from a variable."""

    def url(self, namespace: str) -> str:
        """The URL, as a caller in that namespace writes it."""
        host = self.service.name
        if self.service.namespace != namespace:
            host += f".{self.service.namespace}"
        port = "" if self.port == 80 else f":{self.port}"
        return f"http://{host}{port}{self.path}"


class Upstreams:
    """Finds the Services that workloads call.

    Args:
        services: by full host name.
        problems: what is wrong is added here.
    """

    def __init__(self, services: Mapping[str, Service], problems: list[str]) -> None:
        self._services = services
        self._problems = problems

    def of(
        self, workload: Workload, said: Override | None, container: Container | None
    ) -> list[Upstream]:
        """The calls of a workload.

        Args:
            workload: the caller.
            said: what the command line says of it.
            container: the one whose variables count.
        """
        if said is not None:
            return self._listed(said.value, workload, said.option.partition(" ")[0], str(said))
        if (text := workload.annotations.get(CALLS)) is not None:
            source = workload.source
            where = f"{source.path}:{source.line}: {workload}: annotation {CALLS}: {text!r}"
            return self._listed(text, workload, f"annotation {CALLS}", where)
        variables = () if container is None else container.env
        found: dict[tuple[str, int], Upstream] = {}
        for name, value in variables:
            for one in self._in_variable(name, value, workload):
                # A Service does not call itself, not even where it is told its own address.
                if not one.service.is_of(workload.namespace, workload.labels):
                    found.setdefault((one.service.host, one.port), one)
        return list(found.values())[:MAX_CALLS]

    def _listed(self, text: str, workload: Workload, said_by: str, where: str) -> list[Upstream]:
        """The Services that somebody has listed."""
        found = []
        for callee in filter(None, map(str.strip, text.split(","))):
            match = _CALLEE.fullmatch(callee)
            service = match and self._named(match["host"], workload.namespace)
            if match is None or service is None:
                hosts = one_of_hosts(callee, workload.namespace, self._services)
                self._problems.append(f"{where}: there is no Service {callee!r}; {hosts}")
                continue
            port = int(match["port"]) if match["port"] else _usual_port(service)
            if port is None or port not in service.ports:
                allowed = one_of("", map(str, service.ports))
                reason = f"Service {service.name} has no port {port or ''}"
                self._problems.append(f"{where}: {reason.rstrip()}; {allowed}")
                continue
            found.append(Upstream(service, port, match["path"] or "/", said_by))
        if len(found) > MAX_CALLS:
            self._problems.append(f"{where}: must be at most {MAX_CALLS} Services")
        return found

    def _in_variable(self, name: str, value: str, workload: Workload) -> Iterator[Upstream]:
        if name.startswith(_NO_CALLS):
            return
        for part in map(str.strip, value.split(",")):
            match = _URL.fullmatch(part) or _ADDRESS.fullmatch(part)
            if match is None and name.upper().endswith(_OF_HOSTS):
                match = re.fullmatch(_HOST, part)
            service = match and self._called(match["host"], workload.namespace)
            if match is None or service is None:
                continue
            parts = match.groupdict()
            scheme = (parts.get("scheme") or "").lower()
            usual = _HTTP_PORTS.get(scheme) or _usual_port(service)
            port = int(parts["port"]) if parts.get("port") else usual
            if port in service.ports and port is not None:
                path = parts.get("path") if scheme in _HTTP_PORTS else None
                yield Upstream(service, port, path or "/", f"variable {name}", is_certain=False)

    def _called(self, host: str, namespace: str) -> Service | None:
        """The Service of a host, which may also be that of one pod behind a headless Service."""
        if service := self._named(host, namespace):
            return service
        behind = self._named(host.partition(".")[2], namespace)
        return behind if behind is not None and behind.is_headless else None

    def _named(self, host: str, namespace: str) -> Service | None:
        """The Service that a caller in a namespace means by a host, as DNS on a cluster does."""
        host = host.lower()
        for ending in (
            f".{namespace}.svc.cluster.local",
            ".svc.cluster.local",
            ".cluster.local",
            "",
        ):
            if service := self._services.get(host + ending):
                return service
        return None


def _usual_port(service: Service) -> int | None:
    """The port of a Service that names none: the first that may carry HTTP, or else the first."""
    may = [port for port in service.ports if port not in service.tcp_ports]
    return next(iter([*may, *service.ports]), None)
