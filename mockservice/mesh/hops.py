"""Workloads -> pods: what runs in place of each, a hop of its own or a mock of somebody's image.

A mock needs what a hop's environment says: its app, its version, its port, and whom it calls.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from mockservice.mesh.alternatives import alternatives
from mockservice.mesh.model import Note, pairs, selects
from mockservice.mesh.overrides import Overrides, said_of
from mockservice.mesh.services import listening
from mockservice.mesh.upstreams import Upstreams
from mockservice.propagation import CARRIED, HEADER_NAME, NEVER_CARRIED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mockservice.mesh.containers import Container
    from mockservice.mesh.model import (
        LaneCarrier,
        LaneGroup,
        Pod,
        RouteTable,
        Service,
        Subset,
    )
    from mockservice.mesh.services import Target
    from mockservice.mesh.upstreams import Upstream
    from mockservice.mesh.workloads import Workload

_APP_LABELS: Final = ("app.kubernetes.io/name", "app")
_VERSION_LABELS: Final = ("version", "app.kubernetes.io/version")
_NO_VERSION: Final = "latest"
"""Istio, canonical revision: what a workload is called that has no version."""


@dataclass(slots=True)
class _Mock:
    """What a workload runs as; `by` says where it is taken from."""

    workload: Workload
    app: str
    app_by: str
    hosts: frozenset[str]
    """The Services in front of it."""
    called_as: frozenset[str]
    """These, and all that stand in for them."""
    named: str | None = None
    """The Service that callers name, where others stand in for it."""
    version: str = _NO_VERSION
    version_by: str = ""
    container: Container | None = None
    port_by: str = ""
    upstreams: list[Upstream] = field(default_factory=list)
    dropped: list[Upstream] = field(default_factory=list)
    """Calls that are left out because they would run in a circle."""


class Casting:
    """Finds out what each workload runs as.

    Args:
        workloads: all of them.
        services: by full host name.
        targets: where the ports of Services lead.
        overrides: what the command line says.
        problems: what is wrong is added here.
    """

    def __init__(
        self,
        workloads: Sequence[Workload],
        services: Mapping[str, Service],
        targets: list[Target],
        overrides: Overrides,
        problems: list[str],
    ) -> None:
        self._workloads = workloads
        self._services = services
        self._overrides = overrides
        self._problems = problems
        self._mocks = [self._mock(one) for one in workloads if one.hop is None]
        for mock in self._mocks:
            mock.container, mock.workload.port, mock.port_by = listening(mock.workload, targets)
        self.notes: list[Note] = []
        """What is to be told, filled by `pods`."""

    def bare_pods(self) -> list[Pod]:
        """All pods, before it is known what the pods of mocks show."""
        return [pod for workload in self._workloads for pod in workload.pods()]

    def pods(
        self,
        subsets: Sequence[Subset],
        groups: Iterable[LaneGroup],
        headers: Iterable[str],
        gateway: Sequence[RouteTable],
        calls: Sequence[RouteTable],
    ) -> list[Pod]:
        """All pods.

        Args:
            subsets: of all Services.
            groups: lane groups, whose lanes give versions their names.
            headers: that rules between pods match, in lower case; mocks carry them.
            gateway: the routes of the gateway.
            calls: the routes of the calls between pods.
        """
        self._settle_apps(self._joined(gateway, calls))
        self._settle_versions(subsets, list(groups))
        self._problems += self._overrides.problems(self._versions())
        self._settle_calls(
            [
                destination.host
                for table in gateway
                for route in table.routes
                for destination in route.destinations
            ]
        )
        lane_headers = ",".join(_to_carry(headers))
        found = []
        mocks = {id(mock.workload): mock for mock in self._mocks}
        for workload in self._workloads:
            mock = mocks.get(id(workload))
            env = {} if mock is None else self._env(mock, lane_headers)
            pods = [
                self._overridden(
                    replace(
                        pod,
                        env=pairs(env) if env else pod.env,
                        without_sidecar=_without_sidecar(workload),
                    ),
                    mock,
                )
                for pod in workload.pods()
            ]
            replaced_by = next((pod.replaced_by for pod in pods if pod.replaced_by), None)
            if replaced_by is not None:
                # One process answers in place of all of them.
                del pods[1:]
            found += pods
            self.notes += self._notes(workload, mock, replaced_by)
        return found

    def _mock(self, workload: Workload) -> _Mock:
        labels = dict(workload.labels)
        hosts = frozenset(
            host
            for host, service in self._services.items()
            if service.is_of(workload.namespace, workload.labels)
        )
        for name in _APP_LABELS:
            if app := labels.get(name):
                return _Mock(workload, app, f"label {name}", hosts, hosts)
        mock = _Mock(workload, workload.name, "its name", hosts, hosts)
        if hosts:
            self._name_by_service([mock])
        return mock

    def _joined(
        self, gateway: Sequence[RouteTable], calls: Sequence[RouteTable]
    ) -> list[list[_Mock]]:
        """The mocks that are versions of one app although they have Services of their own."""
        found = []
        for one in alternatives(gateway, calls, self._hosts_called()):
            mocks = [mock for mock in self._mocks if mock.hosts & one.hosts]
            for mock in mocks:
                mock.called_as |= one.hosts
                mock.named = mock.named or one.named
            found.append(mocks)
        return found

    def _hosts_called(self) -> set[str]:
        """The hosts that workloads call by their names, before it is settled what apps they are."""
        upstreams = Upstreams(self._services, problems=[], notes=[])
        found: set[str] = set()
        for mock in self._mocks:
            names = {mock.app, *(self._services[host].name for host in mock.hosts)}
            names |= {f"{name}.{mock.workload.namespace}" for name in names}
            calls = [one for one in self._overrides.calls if one.app in names]
            for said in calls or (None,):
                found |= _hosts_of(upstreams.of(mock.workload, said, mock.container))
        for workload in self._workloads:
            if workload.hop is not None:
                env = dict(workload.hop.env)
                told = said_of(self._overrides.calls, env.get("app", ""), env.get("version", ""))
                found |= _hosts_of(upstreams.of(workload, told, workload.hop))
        return found

    def _settle_apps(self, joined: list[list[_Mock]]) -> None:
        """Where labels do not tell apps apart, or tell one app apart, Services name them."""
        by_hosts = defaultdict(list)
        for mock in self._mocks:
            if mock.hosts:
                by_hosts[mock.hosts].append(mock)
        for same in (*by_hosts.values(), *joined):
            if len({mock.app for mock in same}) > 1:
                self._name_by_service(same)
        by_app = defaultdict(list)
        for mock in self._mocks:
            by_app[mock.app].append(mock)
        for same in by_app.values():
            parts = _connected(same)
            if len(parts) > 1:
                for part in parts:
                    self._name_by_service(part)
        by_app.clear()
        for mock in self._mocks:
            by_app[mock.app].append(mock)
        for same in by_app.values():
            self._name_by_namespace(same)

    def _name_by_namespace(self, same: list[_Mock]) -> None:
        """Tell apps of one name apart that are in several namespaces."""
        parts = _connected(same)
        is_one = len(parts) == 1 and bool(same[0].hosts)
        if is_one or len({mock.workload.namespace for mock in same}) == 1:
            return
        for part in parts:
            for mock in part:
                named = self._services.get(mock.named or "")
                namespace = mock.workload.namespace if named is None else named.namespace
                mock.app = f"{mock.app}.{namespace}"

    def _name_by_service(self, mocks: list[_Mock]) -> None:
        counts = Counter(host for mock in mocks for host in sorted(mock.hosts))
        # The Service of most of them, and of several the one with the shortest name.
        host = min(counts, key=lambda one: (-counts[one], len(one), one), default=None)
        named = {mock.named for mock in mocks if mock.named in self._services}
        if len(named) == 1:
            host = named.pop()
        for mock in mocks:
            if host is None:
                mock.app, mock.app_by = mock.workload.name, "its name"
            else:
                name = self._services[host].name
                mock.app, mock.app_by = name, f"Service {name}"

    def _settle_versions(self, subsets: Sequence[Subset], groups: list[LaneGroup]) -> None:
        by_app = defaultdict(list)
        for mock in self._mocks:
            by_app[mock.app].append(mock)
            labels = dict(mock.workload.labels)
            mock.version, mock.version_by = _NO_VERSION, ""
            for name in _VERSION_LABELS:
                if version := labels.get(name):
                    mock.version, mock.version_by = version, f"label {name}"
                    break
            for group in groups:
                for lane in group.lanes:
                    if mock.hosts.intersection(group.hosts) and selects(
                        lane.labels, mock.workload.labels
                    ):
                        mock.version = "-".join(value for _, value in lane.labels)
                        mock.version_by = f"lane {lane.name}"
        for mocks in by_app.values():
            self._tell_apart(mocks, subsets)

    def _tell_apart(self, mocks: list[_Mock], subsets: Sequence[Subset]) -> None:
        """Give versions to the pods of an app that rules tell apart and version labels do not."""
        places: list[frozenset[str]] = []
        names: set[str] = set()
        for mock in mocks:
            found = [one for one in subsets if one.host in mock.hosts]
            names.update(name for one in found for name, _ in one.labels)
            names.update(name for host in mock.hosts for name, _ in self._services[host].selector)
            own = [one for one in found if selects(one.labels, mock.workload.labels)]
            places.append(mock.hosts | {f"{one.host} {one.name}" for one in own})
        if not _are_alike(mocks, places):
            return
        labels = [dict(mock.workload.labels) for mock in mocks]
        telling = [name for name in sorted(names) if len({one.get(name) for one in labels}) > 1]
        for mock, known in zip(mocks, labels, strict=True):
            used = [name for name in telling if name in known]
            if used:
                mock.version = "-".join(known[name] for name in used)
                mock.version_by = f"label {', '.join(used)}"
        if _are_alike(mocks, places):
            for mock in mocks:
                mock.version, mock.version_by = mock.workload.name, "its name"
        if _are_alike(mocks, places):
            for mock in mocks:
                mock.version = f"{mock.workload.name}.{mock.workload.namespace}"
                mock.version_by = "its name and namespace"

    def _versions(self) -> dict[str, set[str]]:
        """The versions of each app, those of hops included."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for mock in self._mocks:
            found[mock.app].add(mock.version)
        for workload in self._workloads:
            if workload.hop is not None:
                env = dict(workload.hop.env)
                found[env.get("app", "")].add(env.get("version", ""))
        return found

    def _settle_calls(self, entries: list[str]) -> None:
        apps = {mock.app for mock in self._mocks}
        upstreams = Upstreams(self._services, self._problems, self.notes, apps)
        for mock in self._mocks:
            said = said_of(self._overrides.calls, mock.app, mock.version)
            mock.upstreams = upstreams.of(mock.workload, said, mock.container)
        _without_circles(self._mocks, entries)

    def _env(self, mock: _Mock, lane_headers: str) -> dict[str, str]:
        """The environment of a mock."""
        namespace = mock.workload.namespace
        urls = [one.url(namespace) for one in mock.upstreams]
        env = {"app": mock.app, "version": mock.version, "port": str(mock.workload.port)}
        if urls:
            env["upstream_url"] = ",".join(urls)
        if lane_headers:
            env["lane_headers"] = lane_headers
        return env

    def _overridden(self, pod: Pod, mock: _Mock | None) -> Pod:
        """A pod as the command line wants it."""
        said = said_of(self._overrides.replaced, pod.app, pod.version)
        if said is not None:
            pod = replace(pod, replaced_by=said.value.rstrip("/"))
        calls = said_of(self._overrides.calls, pod.app, pod.version)
        if mock is None and calls is not None:
            workload = next(one for one in self._workloads if one.source == pod.source)
            upstreams = Upstreams(self._services, self._problems, self.notes)
            listed = upstreams.of(workload, calls, None)
            urls = ",".join(one.url(pod.namespace) for one in listed)
            pod = replace(pod, env=pairs({**dict(pod.env), "upstream_url": urls}))
        return pod

    def _notes(
        self, workload: Workload, mock: _Mock | None, replaced_by: str | None
    ) -> Iterator[Note]:
        app = workload.hop if mock is None else mock.container
        others = [f"container {one.name}" for one in workload.containers if one is not app]
        without = dict.fromkeys(text for one in workload.containers for text in one.without)
        if mock is not None:
            yield Note(f"{workload}: {_told(mock, replaced_by)}", workload.source, informs=True)
        left_out = [*workload.left_out, *others, *without]
        if left_out:
            text = f"{workload}: left out: {', '.join(left_out)}"
            yield Note(text, workload.source, changes_no_lanes=not without)
        if (note := _without_sidecar(workload)) is not None:
            yield note


def _without_sidecar(workload: Workload) -> Note | None:
    if workload.without_sidecar is None:
        return None
    text = "it has a sidecar here, and on a cluster none, so that no rule is for its calls"
    return Note(f"{workload}: {workload.without_sidecar}: {text}", workload.source)


def _hosts_of(upstreams: Iterable[Upstream]) -> set[str]:
    return {one.service.host for one in upstreams}


def _are_alike(mocks: list[_Mock], places: list[frozenset[str]]) -> bool:
    """Whether two mocks show the same version, and rules lead to them differently."""
    seen: dict[str, frozenset[str]] = {}
    return any(
        seen.setdefault(mock.version, place) != place
        for mock, place in zip(mocks, places, strict=True)
    )


def _told(mock: _Mock, replaced_by: str | None) -> str:
    """What a workload runs as, and where that is taken from, in one line."""
    labels = [by.removeprefix("label ") for by in (mock.app_by, mock.version_by)]
    if mock.app_by.startswith("label ") and mock.version_by.startswith("label "):
        by = f"labels {' and '.join(labels)}"
    else:
        by = f"{mock.app_by} and {mock.version_by or 'no version label'}"
    names = dict.fromkeys(one.service.name for one in mock.upstreams)
    said_by = list(dict.fromkeys(one.said_by for one in mock.upstreams))
    if len(said_by) > 1:
        # Only variables are several.
        said_by = [f"variables {', '.join(said.removeprefix('variable ') for said in said_by)}"]
    runs = "runs as the mock" if replaced_by is None else f"is {replaced_by} as"
    parts = [f"{runs} {mock.app}({mock.version}), by {by}"]
    parts.append(f"calls {', '.join(names)}, by {said_by[0]}" if names else "calls nothing")
    parts += [
        f"leaves out {one.service.name}, by {one.said_by}, as calls would run in a circle"
        for one in mock.dropped
    ]
    parts.append(f"port {mock.workload.port}, by {mock.port_by}")
    return "; ".join(parts)


def _to_carry(headers: Iterable[str]) -> list[str]:
    """The headers that a mock has to be told to carry."""
    return [
        name
        for name in sorted(set(headers))
        if HEADER_NAME.fullmatch(name) and name.encode() not in CARRIED | NEVER_CARRIED
    ]


def matched_headers(tables: Iterable[RouteTable], carriers: Iterable[LaneCarrier]) -> set[str]:
    """The headers, in lower case, by which rules between pods tell requests apart."""
    matches = [match for table in tables for route in table.routes for match in route.matches]
    found = {
        name.lower() for match in matches for name, _ in (*match.headers, *match.without_headers)
    }
    return found | {name for one in carriers for name in (one.trace_header, one.route_header)}


def look_at_headers(tables: Iterable[RouteTable]) -> Iterator[Note]:
    """Notes on the rules between pods that match what no hop passes on, such as `accept`."""
    for table in tables:
        for route in table.routes:
            asked = {name.lower() for match in route.matches for name, _ in match.headers}
            lost = sorted(name for name in asked if name.encode() in NEVER_CARRIED)
            if lost:
                text = f"{route.source} matches {', '.join(lost)}, which mocks never pass on"
                yield Note(f"{text}: no call of theirs is in a lane that this tells", route.source)


def _connected(mocks: list[_Mock]) -> list[list[_Mock]]:
    """Mocks that have Services in common, directly, by others or by Services that stand in."""
    parts: list[tuple[set[str], list[_Mock]]] = []
    for mock in mocks:
        hosts, joined = set(mock.called_as), [mock]
        for part in [one for one in parts if not hosts.isdisjoint(one[0])]:
            parts.remove(part)
            hosts |= part[0]
            joined = part[1] + joined
        parts.append((hosts, joined))
    # What is behind no Service is called by nobody: one app is as good as another.
    alone = [mock for hosts, joined in parts if not hosts for mock in joined]
    found = [joined for hosts, joined in parts if hosts]
    return [*found, *([alone] if alone else [])]


def _without_circles(mocks: list[_Mock], entries: list[str]) -> None:
    """Leave out calls taken from variables that would lead back to a caller.

    Addresses are also told for other ends than to answer a request, such as callbacks. Of the calls
    in a circle those count that somebody has listed, and then those whose names are not that of a
    callback and whose callers are nearest to the gateway.
    """
    behind: defaultdict[str, list[_Mock]] = defaultdict(list)
    for mock in mocks:
        for host in mock.hosts:
            behind[host].append(mock)
    ranked = [
        (one, mock) for mock in _nearest_first(mocks, entries, behind) for one in mock.upstreams
    ]
    ranked.sort(key=lambda call: (call[0].is_certain, not call[0].is_callback), reverse=True)
    kept: defaultdict[int, list[_Mock]] = defaultdict(list)
    for one, mock in ranked:
        callees = behind[one.service.host]
        if not one.is_certain and _lead_to(mock, callees, kept):
            mock.upstreams.remove(one)
            mock.dropped.append(one)
        else:
            kept[id(mock)] += callees


def _nearest_first(
    mocks: list[_Mock], entries: list[str], behind: Mapping[str, list[_Mock]]
) -> list[_Mock]:
    """Mocks by how many calls it takes to get to them; those that nothing gets to come last."""
    found: dict[int, _Mock] = {}
    first = [mock for host in entries for mock in behind[host]]
    for waiting in (first, *([mock] for mock in mocks)):
        for mock in waiting:
            if id(mock) not in found:
                found[id(mock)] = mock
                waiting += [to for one in mock.upstreams for to in behind[one.service.host]]
    return list(found.values())


def _lead_to(caller: _Mock, callees: list[_Mock], kept: Mapping[int, list[_Mock]]) -> bool:
    """Whether calls of these mocks lead to a caller."""
    seen: set[int] = set()
    waiting = list(callees)
    while waiting:
        mock = waiting.pop()
        if mock is caller:
            return True
        if id(mock) not in seen:
            seen.add(id(mock))
            waiting += kept.get(id(mock), ())
    return False
