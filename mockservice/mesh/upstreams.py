"""Finds out which Services a workload calls.

What the command line says counts first, then the annotation, then the variables of its containers
whose values are the address of a Service.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from mockservice.manifests.hosts import host_called
from mockservice.manifests.inventory import one_of_hosts
from mockservice.manifests.problems import one_of
from mockservice.mesh.model import Note
from mockservice.mesh.workloads import CALLS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

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
_CALLBACK: Final = re.compile(r"callback|webhook|redirect|return|notify", re.IGNORECASE)
_IN_CLUSTER: Final = (".svc.cluster.local", ".svc")
_RESEMBLANCE: Final = 0.8
"""Of a host that may be meant to be a Service's: other hosts are often outside of the mesh."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A call of a workload, and what says so."""

    service: Service
    port: int
    path: str
    said_by: str
    is_certain: bool = True
    """Whether somebody said so; else it is taken from a variable."""
    is_callback: bool = False
    """Whether the variable is named like an address that others are told to call."""

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
        notes: variables that look like calls and are none are added here.
        apps: what pods show, by which Services may be missed.
    """

    def __init__(
        self,
        services: Mapping[str, Service],
        problems: list[str],
        notes: list[Note],
        apps: Collection[str] = (),
    ) -> None:
        self._services = services
        self._problems = problems
        self._notes = notes
        self._apps = apps

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
        if container is None:
            return []
        found: dict[tuple[str, int], Upstream] = {}
        for name, value in container.env:
            for one in self._in_variable(name, value, workload, container):
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

    def _in_variable(
        self, name: str, value: str, workload: Workload, container: Container
    ) -> Iterator[Upstream]:
        if name.startswith(_NO_CALLS):
            return

        def note(text: str) -> None:
            entries = container.fields.objects("env")
            own = (one.source for one in entries if one.body.get("name") == name)
            source = next(own, container.fields.source)
            self._notes.append(Note(f"{workload}: variable {name} {text}", source))

        for part in map(str.strip, value.split(",")):
            match = _URL.fullmatch(part) or _ADDRESS.fullmatch(part)
            if match is None and name.upper().endswith(_OF_HOSTS):
                match = re.fullmatch(_HOST, part)
            if match is None:
                continue
            service = self._called(match["host"], workload.namespace)
            if service is None:
                if reason := self._missed(match["host"].lower(), workload.namespace):
                    note(f"is no call: {reason}")
                continue
            # A Service does not call itself, not even where it is told its own address.
            if service.is_of(workload.namespace, workload.labels):
                continue
            parts = match.groupdict()
            scheme = (parts.get("scheme") or "").lower()
            usual = _HTTP_PORTS.get(scheme) or _usual_port(service)
            port = int(parts["port"]) if parts.get("port") else usual
            if port is None or port not in service.ports:
                allowed = one_of("", map(str, service.ports))
                note(f"is no call: Service {service.name} has no port {port or ''}; {allowed}")
            else:
                if scheme == "https" and port not in service.tcp_ports:
                    note(
                        f"calls {service.name} by https: a sidecar cannot see the headers inside,"
                        " so that on a cluster no rule which matches a header is for that call"
                    )
                path = parts.get("path") if scheme in _HTTP_PORTS else None
                yield Upstream(
                    service,
                    port,
                    path or "/",
                    f"variable {name}",
                    is_certain=False,
                    is_callback=_CALLBACK.search(name) is not None,
                )

    def _called(self, host: str, namespace: str) -> Service | None:
        """The Service of a host, which may also be that of one pod behind a headless Service."""
        if service := self._named(host, namespace):
            return service
        behind = self._named(host.partition(".")[2], namespace)
        return behind if behind is not None and behind.is_headless else None

    def _missed(self, host: str, namespace: str) -> str | None:
        """Why a host that is no Service may be meant to be one; None: it may be any other."""
        ending = next((one for one in _IN_CLUSTER if host.endswith(one)), "")
        short = host.removesuffix(ending)
        shown = {f"{one.name}.{one.namespace}": one for one in self._services.values()}
        own = {one.name: one for one in self._services.values() if one.namespace == namespace}
        same = [name for name, one in shown.items() if ending and one.name == short.split(".")[0]]
        near = same or get_close_matches(short, [*own, *shown], n=1, cutoff=_RESEMBLANCE)
        if near:
            return f"there is no Service {host!r}; did you mean {near[0] + ending!r}?"
        if ending:
            return f"there is no Service {host!r} among the manifests"
        if host in self._apps:
            return f"there is no Service {host!r}, only pods of that app"
        return None

    def _named(self, host: str, namespace: str) -> Service | None:
        """The Service that a caller in a namespace means by a host, as DNS on a cluster does."""
        full = host_called(host.lower(), namespace, self._services)
        return None if full is None else self._services[full]


def _usual_port(service: Service) -> int | None:
    """The port of a Service that names none: the first that may carry HTTP, or else the first."""
    may = [port for port in service.ports if port not in service.tcp_ports]
    return next(iter([*may, *service.ports]), None)
