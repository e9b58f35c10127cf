"""Lanes that manifests declare as such: ASM's lane groups and lanes, word for word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mockservice.mesh.lane_map import Lane, Owed
from mockservice.mesh.model import Text
from mockservice.mesh.topology import versions

if TYPE_CHECKING:
    from mockservice.mesh.model import DeclaredLane, LaneGroup, Mesh
    from mockservice.mesh.topology import Topology


def declared_lanes(mesh: Mesh, topology: Topology) -> tuple[list[Lane], str | None]:
    """The lanes of all lane groups, and the baseline of the first permissive group."""
    lanes = [_lane(topology, group, lane) for group in mesh.lane_groups for lane in group.lanes]
    baselines = [group.baseline for group in mesh.lane_groups if group.baseline is not None]
    return lanes, baselines[0] if baselines else None


def _lane(topology: Topology, group: LaneGroup, lane: DeclaredLane) -> Lane:
    owed = {app: one for app in topology.apps if (one := _owed(topology, group, lane, app))}
    if group.route_header is None:
        return Lane(lane.name, owed, labels=lane.labels, source=lane.source)
    return Lane(
        lane.name,
        owed,
        headers=((group.route_header, Text("exact", lane.name)),),
        values=((group.route_header, lane.name),),
        source=lane.source,
    )


def _owed(topology: Topology, group: LaneGroup, lane: DeclaredLane, app: str) -> Owed | None:
    hosts = [one.host for one in topology.services_of(app) if one.host in group.hosts]
    if not hosts:
        # A Service outside of the group is everybody's.
        everything = topology.versions(app)
        return Owed(everything, is_own=False) if len(everything) == 1 else None
    held = any(host in lane.hosts for host in hosts)
    name = lane.name
    if not held:
        name = dict(group.baselines).get(hosts[0]) or group.baseline or ""
    pods = topology.pods_of_subset(app, name)
    return Owed(versions(pods or ()), is_own=held)
