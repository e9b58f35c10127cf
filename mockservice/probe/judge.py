"""Judging one request: its lane, and the hops that are not what the lane is owed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from mockservice.chain import MAX_TREE
from mockservice.mesh.blame import blame_call, blame_gateway
from mockservice.mesh.hops import matched_headers
from mockservice.mesh.matching import Request
from mockservice.probe.result import (
    TRACE_HEADERS,
    behind,
    branch_to,
    faults_of,
    lane_of,
    leaving_hops,
    outline,
    tells_headers,
)
from mockservice.probe.unanswered import unanswered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mockservice.chain import Hop, Tree
    from mockservice.manifests.documents import Source
    from mockservice.mesh.blame import Blame
    from mockservice.mesh.lane_map import Lane, LaneMap
    from mockservice.mesh.model import Note
    from mockservice.mesh.topology import Call
    from mockservice.probe.load import Load, Result


_EITHER: Final = "a fallback or a leak"
MAX_LEAKS: Final = MAX_TREE
"""Leaks of one request that are told: the largest tree that hops make has no more hops."""
_UNSEEN: Final = "whether a lane fell back without need cannot be seen: --manifests tells it"


@dataclass(frozen=True, slots=True)
class Leak:
    """A hop that is not what the lane of its request is owed."""

    lane: str
    app: str
    """Of the hop that left the lane."""
    version: str
    """The one seen; empty where no hop answered."""
    owed: str
    chain: str
    reason: str = ""
    source: Source | None = None
    """What in the manifests did it."""
    after: str = ""
    """The branch that it is in: see `branch_to`."""

    @property
    def cause(self) -> tuple[str, str, Source | None]:
        """The app, and what led to it: one request may have several leaks of one cause."""
        return self.app, self.reason, self.source

    def __str__(self) -> str:
        where = f" after {self.after}" if self.after else ""
        if not self.owed:
            return f"{self.app}({self.version}) left lane {self.lane}{where}: {self.chain}"
        got = f"{self.app}({self.version})" if self.version else "no answer"
        said = f"lane {self.lane} is owed {self.app}({self.owed}) but got {got}{where}"
        return f"{said}: {self.reason}" if self.reason else said


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one request shows."""

    lane: str | None
    """None: cannot be told."""
    leaks: tuple[tuple[int, Leak], ...] = ()
    """Each with the place of its hop in `Tree.hops`; one past the end is a hop missing."""
    fallbacks: frozenset[int] = frozenset()
    """The places of hops that the baseline stood in for, as it was to."""
    owed_faults: frozenset[int] = frozenset()
    """The branches, by place in `Tree.ends`, that failed where the lane has no pods: they were to.
    """
    told_faults: frozenset[int] = frozenset()
    """The branches whose fault a leak tells: a hop is missing there."""
    is_mixed: bool = False
    """Whether its hops show several versions, and nobody can tell whether they may."""
    unjudged: frozenset[int] = frozenset()
    """The places of hops that nothing says the right version of: calls that look the same must go
    the same way there.
    """


class Judge(Protocol):
    """Judges requests one by one."""

    baseline: str | None
    """The lane that stands in for others; None: none does, or it is not known."""
    untold: str
    """What is said of a chain of several versions where nobody can tell whether they may be."""

    @property
    def notes(self) -> tuple[Note, ...] | None:
        """What the lane map tells of the manifests; None: there is none."""

    def judge(self, result: Result) -> Judgement:
        """Judge one request."""

    def lane_of_pods(self, app: str, version: str) -> str:
        """The lane whose own the pods of an app's version are; of nobody's, their version."""

    def serves(self, lane: str | None, caller: str, callee: str | None = None) -> str | None:
        """The lane whose pods are to answer a lane's calls from an app; None: cannot be told.

        Args:
            lane: of the request.
            caller: the app that calls.
            callee: what it calls, as a failure names it. None, or nothing that it calls: any call.
        """

    def callee(self, hop: Hop, number: int) -> str | None:
        """The Service that a hop calls as its upstream of a number, from 1; None: not known."""

    def may_drop(self, hop: Hop, header: str) -> bool:
        """Whether no lane is lost where a hop does not pass on a header, by lower-case name."""

    def kept(self, requests: int, without_lane: int) -> tuple[str, ...]:
        """What can be said where none of so many requests left its lane, and what cannot.

        Args:
            requests: those that a hop has answered.
            without_lane: those among them whose lane cannot be told.
        """

    def remarks(self, load: Load, lanes: Mapping[str, int]) -> tuple[str, ...]:
        """What the requests of a load, which entered these lanes, could not show."""

    def weights(self, load: Load) -> dict[str, float] | None:
        """How often the requests of a load are to be in which lane; None: not known."""


class ByVersion:
    """Judges without manifests: the lane is the version that hops show.

    Args:
        baseline: lanes are permissive, and this version stands in for what they do not hold.
        is_strict: lanes are strict, so that a chain of two versions is a leak. With neither, a
            chain of two versions may be a fallback or a leak, which nobody can tell.
    """

    def __init__(self, baseline: str | None = None, is_strict: bool = False) -> None:
        self.baseline = baseline
        self.is_strict = is_strict
        self.untold = f"{_EITHER}, which --manifests, --baseline or --strict tells"
        self.notes: tuple[Note, ...] | None = None

    def judge(self, result: Result) -> Judgement:
        """Judge one request."""
        tree, baseline = result.chain.tree(), self.baseline
        hops = tree.hops
        lane = lane_of(hops, baseline, failed=bool(faults_of(result)))
        fallbacks = frozenset(
            place
            for place, hop in enumerate(hops)
            if lane is not None and hop.version == baseline != lane
        )
        # In strict lanes the first hop's version is the right one of all.
        unjudged = frozenset(() if self.is_strict else range(len(hops)))
        left = leaving_hops(tree, baseline)
        if not left:
            return Judgement(lane, (), fallbacks, unjudged=unjudged)
        if baseline is None and not self.is_strict:
            return Judgement(lane, (), fallbacks, is_mixed=True, unjudged=unjudged)
        start = next(hop for hop in hops if hop.version != baseline)
        drawn = outline(result)
        leaks = []
        for place in left[:MAX_LEAKS]:
            hop, after = hops[place], branch_to(tree, tree.callers[place])
            leak = Leak(start.version, hop.app, hop.version, "", drawn, after=after)
            leaks.append((place, leak))
        return Judgement(lane, tuple(leaks), fallbacks, unjudged=unjudged)

    def lane_of_pods(self, app: str, version: str) -> str:  # noqa: ARG002
        """The lane whose own the pods of an app's version are: the version."""
        return version

    def serves(
        self,
        lane: str | None,
        caller: str,  # noqa: ARG002
        callee: str | None = None,  # noqa: ARG002
    ) -> str | None:
        """The lane whose pods are to answer a lane's calls from an app: the same lane."""
        return lane

    def callee(self, hop: Hop, number: int) -> None:
        """The Service that a hop calls: nothing tells."""

    def may_drop(self, hop: Hop, header: str) -> bool:  # noqa: ARG002
        """Whether a hop need not pass on a header: hops are to pass on all of them."""
        return False

    def kept(self, requests: int, without_lane: int) -> tuple[str, ...]:  # noqa: ARG002
        """What can be said where none of so many requests left its lane, and what cannot."""
        kept = "one version" if self.baseline is None else f"one version beside {self.baseline}"
        chains = "1 chain" if requests == 1 else f"each of {requests} chains"
        if self.is_strict:
            return (f"{chains} kept to {kept}",)
        return (f"{chains} kept to {kept}", _UNSEEN)

    def remarks(self, load: Load, lanes: Mapping[str, int]) -> tuple[str, ...]:  # noqa: ARG002
        """What the requests of a load could not show: nothing tells."""
        return ()

    def weights(self, load: Load) -> None:  # noqa: ARG002
        """How often the requests of a load are to be in which lane: nothing tells."""
        return


class ByMap:
    """Judges by the lane map that manifests come to.

    Args:
        lane_map: the lanes, and what each is owed.
    """

    def __init__(self, lane_map: LaneMap) -> None:
        self.lane_map = lane_map
        self.baseline = lane_map.baseline
        self.untold = f"{_EITHER}: the lane of the request cannot be told"
        self.notes: tuple[Note, ...] | None = lane_map.notes
        # What several lanes own is the baseline's, or the first one's.
        lanes = sorted(lane_map.lanes, key=lambda lane: lane.name != lane_map.baseline)
        self._matched = matched_headers(lane_map.mesh.calls, lane_map.mesh.carriers)
        self._owners = {
            (app, version): lane.name
            for lane in reversed(lanes)
            for app, owed in lane.owed.items()
            if owed.is_own
            for version in owed.versions
        }

    def judge(self, result: Result) -> Judgement:
        """Judge one request."""
        tree = result.chain.tree()
        hops = tree.hops
        request = _request(result.url, result.method, result.sent)
        first = (hops[0].app, hops[0].version) if hops else None
        received = hops[0].lane_headers if hops and tells_headers(hops[0]) else None
        name = self.lane_map.lane_of(request, received, first)
        lane = self.lane_map.lane(name)
        if lane is None:
            # Where no lanes are known, versions may well differ from app to app.
            mixes = bool(self.lane_map.lanes and leaving_hops(tree, None))
            return Judgement(None, is_mixed=mixes, unjudged=frozenset(range(len(hops))))
        drawn = outline(result)
        wrong = list(self._wrong(lane, tree))
        # In strict lanes, what a hop of another lane leads to follows from it.
        led_away = behind(tree, wrong) if self.baseline is None else set()
        wrong = [place for place in wrong if place not in led_away]
        if self.baseline is None:
            led_away.update(wrong)
        leaks = [
            (place, self._leak(lane, place, tree, request, drawn)) for place in wrong[:MAX_LEAKS]
        ]
        owed_faults, told_faults = set(), set()
        for branch, caller, call in unanswered(self.lane_map.topology, tree, faults_of(result)):
            missing, is_owed = self._missing(lane, tree, caller, call, drawn)
            if is_owed:
                owed_faults.add(branch)
            elif missing is not None and caller not in led_away and len(leaks) < MAX_LEAKS:
                leaks.append((len(hops), missing))
                told_faults.add(branch)
        fallbacks = frozenset(
            place
            for place, hop in enumerate(hops)
            if (owed := lane.owed.get(hop.app)) is not None
            and not owed.is_own
            and hop.version in owed.versions
            and lane.name != self.baseline
        )
        unjudged = frozenset(place for place, hop in enumerate(hops) if hop.app not in lane.owed)
        return Judgement(
            lane.name,
            tuple(leaks),
            fallbacks,
            frozenset(owed_faults),
            frozenset(told_faults),
            unjudged=unjudged,
        )

    def lane_of_pods(self, app: str, version: str) -> str:
        """The lane whose own the pods of an app's version are; of nobody's, their version."""
        return self._owners.get((app, version), version)

    def serves(self, lane: str | None, caller: str, callee: str | None = None) -> str | None:
        """The lane whose pods are to answer a lane's calls from an app; None: cannot be told."""
        topology = self.lane_map.topology
        for app in topology.callees(caller, callee) or topology.callees(caller):
            owed = self.lane_map.owed(lane, app)
            if owed is not None and not owed.is_own and owed.versions:
                return self.lane_of_pods(app, min(owed.versions))
        return lane

    def callee(self, hop: Hop, number: int) -> str | None:
        """The Service that a hop calls as its upstream of a number, from 1; None: not known."""
        topology = self.lane_map.topology
        calls = topology.calls_of(hop.app, hop.version)
        # Hosts that are no Services are upstreams, too, and a process calls in an order of its own.
        is_known = len(calls) == max(1, len(hop.upstreams))
        is_known = is_known and not topology.is_replaced(hop.app, hop.version)
        return calls[number - 1].service.name if is_known else None

    def may_drop(self, hop: Hop, header: str) -> bool:
        """Whether a hop is somebody's own process, and no rule needs a header of traces."""
        is_replaced = self.lane_map.topology.is_replaced(hop.app, hop.version)
        return is_replaced and header in TRACE_HEADERS and header not in self._matched

    def kept(self, requests: int, without_lane: int) -> tuple[str, ...]:
        """What can be said where none of so many requests left its lane, and what cannot."""
        alike = "went the way of those that look the same"
        if not self.lane_map.lanes:
            return (f"{_each_of(requests)} {alike}", _UNSEEN)
        kept = f"{_each_of(requests - without_lane)} got what its lane is owed"
        if not without_lane:
            return (kept,)
        rest = f"{_each_of(without_lane)} in no lane that the manifests tell {alike}"
        return (kept, rest) if without_lane < requests else (rest,)

    def remarks(self, load: Load, lanes: Mapping[str, int]) -> tuple[str, ...]:
        """What the requests of a load, which entered these lanes, could not show."""
        lane_map = self.lane_map
        sent = dict(load.headers)
        names = {name for lane in lane_map.lanes for name, _ in lane.headers}
        asked = {name: sent[name] for name in sorted(names & sent.keys())}
        found = []
        if asked and lane_map.lane_by_headers(sent) is None:
            named = ", ".join(f"{name}: {value}" for name, value in asked.items())
            found.append(f"{named} names no lane of the manifests")
        found += [
            f"lane {lane.name} was not entered; it is entered by {lane_map.enters_by(lane)}"
            for lane in lane_map.lanes
            if not lanes.get(lane.name) and lane_map.entrances_of(lane.name)
        ]
        return tuple(found)

    def weights(self, load: Load) -> dict[str, float] | None:
        """How often the requests of a load are to be in which lane, by the gateway's route."""
        return self.lane_map.weights(_request(load.url, load.method, load.headers)) or None

    def _wrong(self, lane: Lane, tree: Tree) -> Iterator[int]:
        """The places of hops that are not what the lane is owed there."""
        for place, (hop, caller) in enumerate(zip(tree.hops, tree.callers, strict=True)):
            owed = lane.owed.get(hop.app)
            is_other = owed is not None and hop.version not in owed.versions
            callees = [] if caller is None else self._callees(tree.hops[caller])
            if is_other or (callees and hop.app not in callees):
                yield place

    def _leak(self, lane: Lane, place: int, tree: Tree, request: Request, drawn: str) -> Leak:
        hop, caller = tree.hops[place], tree.callers[place]
        owed = lane.owed.get(hop.app)
        if caller is None:
            blame = blame_gateway(self.lane_map, lane, request, hop.version)
        else:
            blame = self._blame(lane, hop.app, hop.version, tree.hops[caller], hop)
        return Leak(
            lane.name,
            hop.app,
            hop.version,
            "none" if owed is None else str(owed),
            drawn,
            blame.reason,
            blame.source,
            branch_to(tree, caller),
        )

    def _missing(
        self, lane: Lane, tree: Tree, caller: int, call: Call, drawn: str
    ) -> tuple[Leak | None, bool]:
        """A hop that the lane is owed and that no rule leads to; whether it is owed a failure."""
        for app in self.lane_map.topology.apps_of(call.service):
            owed = lane.owed.get(app)
            if owed is None:
                continue
            if not owed.versions:
                return None, True
            blame = self._blame(lane, app, None, tree.hops[caller], None)
            if not blame.has_route:
                said = (lane.name, app, "", str(owed), drawn, blame.reason, blame.source)
                return Leak(*said, branch_to(tree, caller)), False
        return None, False

    def _blame(
        self, lane: Lane, app: str, version: str | None, caller: Hop, hop: Hop | None
    ) -> Blame:
        given = caller.lane_headers if tells_headers(caller) else None
        got = hop.lane_headers if hop is not None and tells_headers(hop) else None
        pair = (caller.app, caller.version)
        return blame_call(self.lane_map, lane, app, version, pair, given, got)

    def _callees(self, hop: Hop) -> list[str]:
        """What a hop may call; empty where nobody knows."""
        topology = self.lane_map.topology
        return [] if topology.is_replaced(hop.app, hop.version) else topology.callees(hop.app)


def _each_of(requests: int) -> str:
    return "1 request" if requests == 1 else f"each of {requests} requests"


def _request(url: str, method: str, headers: Iterable[tuple[str, str]]) -> Request:
    """A request as the gateway sees it."""
    parts = urlsplit(url)
    fields = dict(headers)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        host = urlsplit(f"//{fields.get('host', parts.netloc)}").hostname
    except ValueError:
        # Not a host: only a route for all hosts takes it.
        host = None
    return Request(path, method, fields, host=host)
