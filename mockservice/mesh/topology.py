"""Who calls whom: the apps of the pods, and the calls between them, from the gateway on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mockservice.manifests.hosts import host_called
from mockservice.mesh.matching import Request, first_route
from mockservice.mesh.model import Destination, Pod, selects

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mockservice.mesh.model import Match, Mesh, Pairs, RouteTable, Service


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a pod makes to answer a request."""

    caller: Pod
    service: Service
    path: str
    authority: str
    """The host as the caller names it."""
    port: int

    def request(
        self, headers: Mapping[str, str] | None = None, labels: Pairs | None = None
    ) -> Request:
        """The call as routes look at it: with no header and the caller's labels by default."""
        return Request(
            self.path,
            headers=headers or {},
            source_labels=self.caller.labels if labels is None else labels,
            host=self.authority,
            port=self.port,
            source_namespace=self.caller.namespace,
        )


class Topology:
    """The apps of a mesh and the calls between them, worked out once."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._hosts = {service.host: service for service in mesh.services}
        self._tables = {
            host: table for table in reversed(mesh.calls) for host in reversed(table.hosts)
        }
        self._apps = {
            service.host: list(dict.fromkeys(pod.app for pod in mesh.pods_of(service)))
            for service in mesh.services
        }
        self._pods: dict[str, list[Pod]] = {}
        for pod in mesh.pods:
            self._pods.setdefault(pod.app, []).append(pod)
        self._calls = {
            app: list(dict.fromkeys(call for pod in pods for call in self._calls_of(pod)))
            for app, pods in self._pods.items()
        }
        self.entries = self._apps_behind_gateway()
        """The apps that the gateway calls."""
        called = (call.service for calls in self._calls.values() for call in calls)
        self._named_apps = {app for service in called for app in self.apps_of(service)}
        self._apps_by_call = {
            call: self._apps_reached_by(call) for calls in self._calls.values() for call in calls
        }
        self._callees = {
            app: list(dict.fromkeys(one for call in calls for one in self.reached_by(call)))
            for app, calls in self._calls.items()
        }
        self.apps = self._in_call_order()
        """All apps, in the order in which a request gets to them; those not called come last."""
        self.reached = self.reached_from(self.entries)
        """The apps that requests from the gateway can get to."""

    def pods(self, app: str) -> list[Pod]:
        """The pods that show this app."""
        return self._pods.get(app, [])

    def versions(self, app: str) -> frozenset[str]:
        """All versions of an app."""
        return versions(self.pods(app))

    def is_replaced(self, app: str, version: str) -> bool:
        """Whether a process that somebody runs answers in place of an app's version."""
        return any(pod.replaced_by for pod in self.pods(app) if pod.version == version)

    def calls(self, app: str) -> list[Call]:
        """The calls that an app's pods make."""
        return self._calls.get(app, [])

    def calls_to(self, app: str) -> Iterator[Call]:
        """The calls that get to an app."""
        for calls in self._calls.values():
            yield from (call for call in calls if app in self.reached_by(call))

    def calls_by_nobody(self, app: str) -> Iterator[Call]:
        """Calls of an app that nobody calls: its rules tell lanes apart all the same.

        Who calls whom may just not be told yet.
        """
        if app in self.entries or any(self.calls_to(app)):
            return
        for service in self.services_of(app):
            nobody = Pod("", service.namespace, labels=(), env=(), port=0)
            yield Call(nobody, service, "/", service.name, next(iter(service.ports), 80))

    def calls_of(self, app: str, version: str) -> list[Call]:
        """The calls that a pod of an app's version makes, in the order of its setting.

        If there is no such pod, they are those of all versions.
        """
        calls = self.calls(app)
        same = [call for call in calls if call.caller.version == version]
        return list({(call.service, call.path): call for call in same or calls}.values())

    def callees(self, app: str, name: str | None = None) -> list[str]:
        """The apps that an app calls, in the order of its setting; see `is_named` for a name."""
        if name is None:
            return self._callees.get(app, [])
        calls = [call for call in self.calls(app) if self.is_named(call, name)]
        return list(dict.fromkeys(one for call in calls for one in self.reached_by(call)))

    def reached_by(self, call: Call) -> list[str]:
        """The apps that a call gets to: those behind its Service, and where its routes lead."""
        return self._apps_by_call[call]

    def reached_from(self, apps: Iterable[str]) -> frozenset[str]:
        """These apps and all that their calls can get to, by whatever rule."""
        found: set[str] = set()
        waiting = list(apps)
        while waiting:
            app = waiting.pop()
            if app not in found:
                found.add(app)
                waiting += [one for call in self.calls(app) for one in self._led_to(call)]
        return frozenset(found)

    def leads_to_rules(self, service: Service) -> bool:
        """Whether rules route the calls of a Service, or calls that these lead to."""
        return any(
            self.table(one) is not None
            for app in self.reached_from(self.apps_of(service))
            for one in (service, *self.services_of(app))
        )

    def tells_requests_apart(self, app: str) -> bool:
        """Whether rules look at a header or at the caller to choose among the pods of an app."""
        return len(self.versions(app)) > 1 and any(
            (one.subset is not None or one.host != service.host)
            and any(map(self._tells_requests_apart, route.matches))
            for service in self.services_of(app)
            if (table := self.table(service)) is not None
            for route in table.routes
            for one in route.destinations
        )

    def is_named(self, call: Call, name: str) -> bool:
        """Whether a failure that has this name is that of a call.

        It is the host of the URL called or, from a pod that refuses the call, its app.
        """
        return call.service.name == name.partition(".")[0] or name in self.apps_of(call.service)

    def table(self, service: Service) -> RouteTable | None:
        """The routes of the calls to a Service."""
        return self._tables.get(service.host)

    def service(self, name: str, namespace: str) -> Service | None:
        """The Service that a caller in a namespace means by a name, as DNS on a cluster does."""
        host = host_called(name, namespace, self._hosts)
        return None if host is None else self._hosts[host]

    def apps_of(self, service: Service) -> list[str]:
        """The apps of the pods behind a Service."""
        return self._apps[service.host]

    def services_of(self, app: str) -> list[Service]:
        """The Services that have pods of an app behind them."""
        return [service for service in self._mesh.services if app in self.apps_of(service)]

    def pods_at(self, destination: Destination) -> list[Pod]:
        """The pods that a destination leads to."""
        service = self._hosts.get(destination.host)
        return [] if service is None else list(self._mesh.pods_of(service, destination.subset))

    def pods_of_subset(self, app: str, name: str) -> list[Pod] | None:
        """The pods of an app in the subset of that name; None where no Service of it has one."""
        hosts = {service.host for service in self.services_of(app)}
        subsets = [one for one in self._mesh.subsets if one.name == name and one.host in hosts]
        if not subsets:
            return None
        return [
            pod
            for pod in self.pods(app)
            if any(selects(subset.labels, pod.labels) for subset in subsets)
        ]

    def is_name_of_app(self, pair: tuple[str, str]) -> bool:
        """Whether a label is that of all pods of one app, so that it tells no lanes apart."""
        apps = {pod.app for pod in self._mesh.pods if pair in pod.labels}
        return len(apps) == 1 and all(pair in pod.labels for pod in self.pods(apps.pop()))

    def _led_to(self, call: Call) -> Iterator[str]:
        """The apps that a call can get to: those of its Service, and of other hosts by a rule."""
        yield from self.apps_of(call.service)
        table = self.table(call.service)
        for route in () if table is None else table.routes:
            for destination in route.destinations:
                yield from (pod.app for pod in self.pods_at(destination))

    def _tells_requests_apart(self, match: Match) -> bool:
        labels = [pair for pair in match.source_labels if not self.is_name_of_app(pair)]
        return bool(match.headers or match.without_headers or labels)

    def _calls_of(self, pod: Pod) -> Iterator[Call]:
        for url in filter(None, map(str.strip, dict(pod.env).get("upstream_url", "").split(","))):
            try:
                parts = urlsplit(url)
                port = parts.port or 80
            except ValueError:
                continue
            service = self.service(unquote(parts.hostname or ""), pod.namespace)
            if service is not None:
                query = f"?{parts.query}" if parts.query else ""
                path = f"{parts.path or '/'}{query}"
                yield Call(pod, service, path, parts.netloc, port)

    def _apps_reached_by(self, call: Call) -> list[str]:
        """The apps behind a call's Service, and those to which a route of it leads by its path.

        An app that is called by its own name or by the gateway is not among the latter: a route of
        another host that leads to it is a slip.
        """
        found = self.apps_of(call.service)
        table = self.table(call.service)
        route = None if table is None else first_route(table.routes, call.request())
        if route is None:
            return found
        known = {*found, *self._named_apps, *self.entries}
        led = [pod.app for one in route.destinations if one.weight for pod in self.pods_at(one)]
        return [*found, *dict.fromkeys(app for app in led if app not in known)]

    def _apps_behind_gateway(self) -> list[str]:
        return list(
            dict.fromkeys(
                pod.app
                for table in self._mesh.gateway
                for route in table.routes
                for destination in route.destinations
                for pod in self.pods_at(destination)
            )
        )

    def _in_call_order(self) -> list[str]:
        """Each app after all of its callers, as far as calls do not run in a circle."""
        depth: dict[str, int] = {}
        waiting = [(app, 0) for app in self.entries]
        while waiting:
            app, level = waiting.pop(0)
            if level <= depth.get(app, -1) or level > len(self._pods):
                continue
            depth[app] = level
            waiting += [(callee, level + 1) for callee in self.callees(app)]
        found = sorted(depth, key=lambda app: depth[app])
        return found + [app for app in self._pods if app not in depth]


def versions(pods: Iterable[Pod]) -> frozenset[str]:
    """The versions that pods show."""
    return frozenset(pod.version for pod in pods)


def labels_in_common(pods: Iterable[Pod]) -> Pairs:
    """The labels that all of the pods have."""
    sets = [set(pod.labels) for pod in pods]
    return tuple(sorted(set.intersection(*sets))) if sets else ()
