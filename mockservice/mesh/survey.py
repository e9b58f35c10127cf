"""Mesh -> lane map: the lanes, the requests that enter them, and what of it is to be told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mockservice.mesh.declared import declared_lanes
from mockservice.mesh.entrances import MAX_KINDS, kinds, without_example
from mockservice.mesh.inferred import inferred_lanes
from mockservice.mesh.lane_map import Entrance, LaneMap
from mockservice.mesh.matching import Request, examples, gateway_route
from mockservice.mesh.misled import misled
from mockservice.mesh.model import Note, selects
from mockservice.mesh.shadowed import shadowed
from mockservice.mesh.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mockservice.mesh.entrances import Kind
    from mockservice.mesh.lane_map import Lane, Share
    from mockservice.mesh.model import Mesh, Pairs, Pod, Route, Subset


def read_lane_map(mesh: Mesh) -> LaneMap:
    """Read the lanes out of a mesh; of one without lanes the map is empty, and a note says so."""
    topology = Topology(mesh)
    notes: list[Note] = []
    if mesh.lane_groups:
        lanes, baseline = declared_lanes(mesh, topology)
    else:
        lanes, baseline, notes = inferred_lanes(mesh, topology)
    if not lanes:
        notes.append(Note("no lanes: no rule between pods matches a header or a caller's labels"))
    lanes.sort(key=lambda lane: (lane.name != baseline, lane.name))
    lane_map = LaneMap(mesh, topology, tuple(lanes), baseline, (), (*mesh.notes, *notes))
    requests = kinds(mesh, _marks(lane_map))
    entrances = tuple(_entrances(lane_map, requests[:MAX_KINDS]))
    lane_map = replace(lane_map, entrances=entrances, unproved=tuple(_unproved(lane_map)))
    more = (
        *_without_entrance(lane_map),
        *_balanced(lane_map),
        *_not_entered(lane_map, len(requests)),
        *_without_own_pods(lane_map),
        *_unreached(lane_map),
        *_not_called(lane_map),
        *dict.fromkeys(misled(topology)),
    )
    failing = _without_sidecars(lane_map)
    notes = [failing.get(note, note) for note in (*lane_map.notes, *more)]
    return replace(lane_map, notes=tuple(notes))


def _entrances(lane_map: LaneMap, requests: list[Kind]) -> Iterator[Entrance]:
    mesh = lane_map.mesh
    plain: dict[tuple[str | None, str, str], tuple[Share, ...]] = {}
    for host, path, method, headers in requests:
        asked = dict(headers)
        route = gateway_route(mesh, Request(path, method, asked, host=host))
        # A redirect or a direct response enters no lane.
        if route is not None and route.destinations:
            shares = lane_map.shares(route, asked)
            # What the gateway does not look at, or takes away, makes no other entrance.
            place = (host, path, method)
            is_ignored = lane_map.names_lane(route) or _removes(route, asked)
            if is_ignored and plain.get(place) == shares:
                continue
            plain.setdefault(place, shares)
            yield Entrance(host, path, method, headers, shares, route.source)


def _marks(lane_map: LaneMap) -> list[Pairs]:
    """The headers that name lanes: all values of a lane that rules tell apart."""
    marks = [lane.values for lane in lane_map.lanes if lane.values]
    for lane in lane_map.lanes:
        for place, (name, text) in enumerate(lane.headers):
            for value in examples(text)[1:]:
                values = (*lane.values[:place], (name, value), *lane.values[place + 1 :])
                marks.append(values)
    return marks


def _not_entered(lane_map: LaneMap, requests: int) -> Iterator[Note]:
    """What of the gateway's routes no request is made up for."""
    for route in without_example(lane_map.mesh):
        text = f"{route.source} at the gateway is not entered: no request for it can be made up"
        yield Note(text, route.source)
    if requests > MAX_KINDS:
        text = (
            f"the gateway tells more than {MAX_KINDS} kinds of requests apart: not all are entered"
        )
        yield Note(text, fails=True)


def _removes(route: Route, headers: Mapping[str, str]) -> bool:
    """Whether a route takes away a header that a request carries."""
    changes = (route.headers, *(one.headers for one in route.destinations))
    removed = {name.lower() for one in changes for name in one.request.remove}
    return not removed.isdisjoint(headers)


def _without_entrance(lane_map: LaneMap) -> Iterator[Note]:
    entries = lane_map.topology.entries
    for lane in lane_map.lanes:
        if lane_map.entrances_of(lane.name):
            continue
        led = [one for one in lane_map.entrances if lane.name in one.weights]
        if led:
            text = f"lane {lane.name} gets no request: its weight is 0"
            yield Note(text, led[0].source)
            continue
        own = [app for app in entries if (one := lane.owed.get(app)) and one.is_own]
        if lane.headers or own:
            where = f" with {lane.token}" if lane.headers else ""
            text = f"lane {lane.name} gets no request: no route at the gateway leads to it{where}"
            yield Note(text, lane.source, fails=True)


def _balanced(lane_map: LaneMap) -> Iterator[Note]:
    """Destinations of the gateway that no subset keeps to one lane."""
    for entrance in lane_map.entrances:
        lanes = [share.lane for share in entrance.shares if share.is_spread and share.lane]
        apps = {
            pod.app
            for share in entrance.shares
            if share.is_spread
            for pod in lane_map.topology.pods_at(share.destination)
        }
        if lanes:
            text = (
                f"{entrance}: the gateway balances requests over all pods of"
                f" {', '.join(sorted(apps))}, of lanes {', '.join(dict.fromkeys(lanes))}"
            )
            yield Note(text, entrance.source)


def _without_own_pods(lane_map: LaneMap) -> Iterator[Note]:
    """Subsets of a lane that select the baseline's pods, while others are nobody's."""
    baseline = lane_map.lane(lane_map.baseline)
    if baseline is None or lane_map.mesh.lane_groups:
        return
    for lane in lane_map.lanes:
        for app, owed in lane.owed.items():
            base = baseline.owed.get(app)
            if lane is baseline or base is None or owed.versions != base.versions:
                continue
            subset = _subset(lane_map, app, lane.name)
            same = _subset(lane_map, app, baseline.name)
            left = [pod for pod in lane_map.topology.pods(app) if not _is_owed(lane_map, pod)]
            if subset is None or same is None or not left:
                continue
            if not any(selects(subset.labels, pod.labels) for pod in lane_map.topology.pods(app)):
                # It has no pods at all, as another note says.
                continue
            text = (
                f"lane {lane.name} has no {app} of its own: subset {subset.name} of"
                f" {subset.source} selects the same pods as subset {same.name}, and"
                f" {_named(left)} none"
            )
            yield Note(text, subset.source, fails=True)


def _unreached(lane_map: LaneMap) -> Iterator[Note]:
    """Pods that no lane is owed."""
    told = set()
    tables = (*lane_map.mesh.gateway, *lane_map.mesh.calls)
    unused = {id(route) for table in tables for route, _ in shadowed(table.routes)}
    for app in lane_map.apps:
        for pod in lane_map.topology.pods(app):
            if _is_owed(lane_map, pod) or (app, pod.version) in told:
                continue
            told.add((app, pod.version))
            reason = "; ".join(_reasons(lane_map, pod, unused)) or "no lane has it"
            yield Note(f"{app}({pod.version}) gets no request: {reason}", pod.source)


def _unproved(lane_map: LaneMap) -> Iterator[str]:
    """The apps whose versions lanes tell apart, and that no request gets to."""
    topology = lane_map.topology
    return (
        app
        for app in topology.apps
        if app not in topology.reached
        and is_told_apart(lane_map, app)
        and _carries_http(topology, app)
    )


def is_told_apart(lane_map: LaneMap, app: str) -> bool:
    """Whether it matters to a lane which version of an app answers."""
    everything = lane_map.topology.versions(app)
    return lane_map.topology.tells_requests_apart(app) or any(
        owed.is_own and owed.versions < everything
        for lane in lane_map.lanes
        if lane.name != lane_map.baseline and (owed := lane.owed.get(app)) is not None
    )


def _carries_http(topology: Topology, app: str) -> bool:
    return any(set(one.ports) != set(one.tcp_ports) for one in topology.services_of(app))


def _not_called(lane_map: LaneMap) -> Iterator[Note]:
    """Lanes that are not seen at work: nothing that requests get to calls what they hold."""
    topology, apps = lane_map.topology, lane_map.unproved
    if not apps:
        return
    # Callers that nothing calls either are to be called first, unless no Service names them.
    callers = [
        app
        for app in topology.apps
        if app not in topology.reached
        and topology.services_of(app)
        and not topology.reached_from([app]).isdisjoint(apps)
    ]
    called = {one for app in callers for one in topology.reached_from([app]) if one != app}
    first = [app for app in callers if app not in called] or list(apps)
    held = [
        f"lane {lane.name} holds {' and '.join(own)}"
        for lane in lane_map.lanes
        if lane.name != lane_map.baseline and (own := _own_pods(lane, apps))
    ]
    text = (
        f"{'; '.join(held) or f'rules tell the versions of {_joined(apps)} apart'},"
        f" but no hop that requests get to calls {_joined(first, 'or')}:"
        f" name {'its' if len(first) == 1 else 'their'} callers with --calls"
    )
    tables = (topology.table(one) for app in apps for one in topology.services_of(app))
    source = next((table.source for table in tables if table is not None), None)
    yield Note(text, source, fails=True)


def _own_pods(lane: Lane, apps: Iterable[str]) -> list[str]:
    owed = ((app, lane.owed.get(app)) for app in apps)
    return [f"{app}({one})" for app, one in owed if one and one.is_own and one.versions]


def _joined(names: Iterable[str], word: str = "and") -> str:
    return f" {word} ".join(names)


def _without_sidecars(lane_map: LaneMap) -> dict[Note, Note]:
    """Notes on pods that have no sidecar on a cluster, and how they read where lanes need one."""
    found = {}
    for pod in lane_map.mesh.pods:
        if (note := pod.without_sidecar) is None:
            continue
        # To be called needs none: the caller's sidecar chooses the pod.
        callees = lane_map.topology.callees(pod.app)
        if told := [app for app in callees if is_told_apart(lane_map, app)]:
            text = f"{note.text}, and lanes tell the versions of {_joined(told)} apart"
            found[note] = replace(note, text=text, fails=True)
    return found


def _is_owed(lane_map: LaneMap, pod: Pod) -> bool:
    """Whether some lane may get to a pod; at an app that no lane is owed, any pod will do."""
    owed = [one for lane in lane_map.lanes if (one := lane.owed.get(pod.app))]
    return not owed or any(pod.version in one.versions for one in owed)


def _reasons(lane_map: LaneMap, pod: Pod, unused: set[int]) -> Iterator[str]:
    """Why no lane is owed a pod; `unused` are the ids of the routes that never apply."""
    for group in lane_map.mesh.lane_groups:
        for declared in group.lanes:
            if selects(declared.labels, pod.labels):
                yield f"lane {declared.name} does not hold {pod.app}"
    if lane_map.mesh.lane_groups:
        return
    hosts = {service.host for service in lane_map.topology.services_of(pod.app)}
    for subset in lane_map.mesh.subsets:
        if subset.host in hosts and selects(subset.labels, pod.labels):
            tables = (*lane_map.mesh.gateway, *lane_map.mesh.calls)
            routes = [route for table in tables for route in table.routes]
            place = (subset.host, subset.name)
            led = [
                route
                for route in routes
                for one in route.destinations
                if (one.host, one.subset) == place
            ]
            copied = [
                route
                for route in routes
                for one in route.mirrors
                if (one.destination.host, one.destination.subset) == place
            ]
            if copied and not led:
                yield f"{copied[0].source} leads only copies to it"
            elif led and all(id(route) in unused for route in led):
                yield f"{led[0].source} leads to it, but never applies"
            elif led:
                yield f"{led[0].source} leads to it, but for no lane that the rules tell"
            else:
                yield f"no rule leads to subset {subset.name} of {subset.source}"
            return
    others = [lane for lane in lane_map.lanes if lane.name != lane_map.baseline]
    lacking = [lane.name for lane in others if _is_elsewhere(lane, pod)]
    for name in lacking:
        yield f"lane {name} does not hold {pod.app}"
    if lacking:
        return
    for lane in others:
        chosen = _subset(lane_map, pod.app, lane.name)
        if chosen is not None:
            labels = ", ".join(f"{name}: {value}" for name, value in chosen.labels)
            yield f"subset {chosen.name} of {chosen.source} selects {labels}"


def _is_elsewhere(lane: Lane, pod: Pod) -> bool:
    """Whether a lane has the version of a pod at another app."""
    return any(
        app != pod.app and owed.is_own and owed.versions == {pod.version}
        for app, owed in lane.owed.items()
    )


def _subset(lane_map: LaneMap, app: str, name: str) -> Subset | None:
    hosts = {service.host for service in lane_map.topology.services_of(app)}
    return next(
        (one for one in lane_map.mesh.subsets if one.name == name and one.host in hosts), None
    )


def _named(pods: list[Pod]) -> str:
    return ", ".join(dict.fromkeys(f"{pod.app}({pod.version})" for pod in pods))
