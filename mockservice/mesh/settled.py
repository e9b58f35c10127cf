"""What lanes that were read out of rules are owed, also where the rules contradict each other."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from mockservice.mesh.lane_map import Lane, Owed
from mockservice.mesh.matching import first_route
from mockservice.mesh.model import Note

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mockservice.manifests.documents import Source
    from mockservice.mesh.draft import Draft, Versions
    from mockservice.mesh.model import Mesh
    from mockservice.mesh.topology import Topology


class Settlement:
    """Settles what the lanes of a mesh are owed.

    Args:
        mesh: where the subsets are.
        topology: its apps and calls.
        drafts: the lanes, but for the baseline.
        baseline: None: lanes are strict.
    """

    def __init__(
        self, mesh: Mesh, topology: Topology, drafts: list[Draft], baseline: Draft | None
    ) -> None:
        self._mesh = mesh
        self._topology = topology
        self._drafts = drafts
        self._baseline = baseline
        self.notes: list[Note] = []
        """What of the rules is to be told."""

    def lanes(self) -> list[Lane]:
        """The lanes, the baseline first."""
        baseline = self._baseline
        for draft in (*([] if baseline is None else [baseline]), *self._drafts):
            self._tell_splits(draft)
        base = {} if baseline is None else self._owed_to_baseline(baseline)
        lanes = [] if baseline is None else [_lane(baseline, base)]
        return lanes + [_lane(draft, self._owed(draft, base)) for draft in self._drafts]

    def _tell_splits(self, draft: Draft) -> None:
        """Weights belong to the gateway: those between pods are told as what they are."""
        for app in sorted(draft.split - set(self._topology.entries)):
            text = (
                f"lane {draft.name}: a rule between pods splits its calls to {app} by weight,"
                f" over {_either(draft.ruled[app])}"
            )
            self.notes.append(Note(text, self._source_of_split(draft, app)))

    def _source_of_split(self, draft: Draft, app: str) -> Source | None:
        """Where the rule stands that splits a lane's calls to an app."""
        for call in self._topology.calls_to(app):
            table = self._topology.table(call.service)
            routes = () if table is None else table.routes
            route = first_route(routes, call.request(dict(draft.values)))
            if route is not None and len(route.destinations) > 1:
                return route.source
        return draft.source

    def _owed_to_baseline(self, draft: Draft) -> dict[str, Owed]:
        owed: dict[str, Owed] = {}
        for app in self._topology.apps:
            everything = self._topology.versions(app)
            explicit, usual = draft.explicit(app), self._usual(draft, app, {})
            if explicit is not None:
                owed[app] = Owed(self._settled(draft, app, usual, self._drafts, None), is_own=True)
            elif usual is not None:
                owed[app] = Owed(usual, is_own=True)
            elif len(everything) == 1:
                owed[app] = Owed(everything, is_own=True)
        return owed

    def _owed(self, draft: Draft, base: Mapping[str, Owed]) -> dict[str, Owed]:
        owed: dict[str, Owed] = {}
        others = [one for one in self._drafts if one is not draft]
        for app in self._topology.apps:
            usual, baselines = self._usual(draft, app, base), base.get(app)
            everything = self._topology.versions(app)
            if draft.explicit(app) is not None:
                found = self._settled(draft, app, usual, others, baselines)
                by_baseline = baselines is not None and found == baselines.versions
                is_own = not by_baseline or app in draft.named or app in draft.split
                owed[app] = Owed(found, is_own=is_own)
            elif self._baseline is not None:
                if baselines is not None:
                    owed[app] = replace(baselines, is_own=False)
            elif usual is not None:
                owed[app] = Owed(usual, is_own=True)
            elif app in self._topology.entries and (shared := self._shared(app)):
                owed[app] = Owed(shared, is_own=False)
            elif self._has_routes(app):
                owed[app] = Owed(frozenset(), is_own=False)
            elif len(everything) == 1:
                owed[app] = Owed(everything, is_own=False)
        return owed

    def _shared(self, app: str) -> Versions:
        """The versions of an app that are no lane's own: everybody enters by them."""
        everything = self._topology.versions(app)
        owned = [found for one in self._drafts if (found := one.explicit(app))]
        return everything if len(everything) == 1 else everything.difference(*owned)

    def _settled(
        self,
        draft: Draft,
        app: str,
        usual: Versions | None,
        others: Iterable[Draft],
        baselines: Owed | None,
    ) -> Versions:
        """The pods that rules and subsets give to a lane, or what it is to have in their place."""
        explicit = draft.explicit(app) or frozenset()
        if app in draft.split or explicit == usual:
            return explicit
        # A rule may lead a lane to others' pods on purpose, unless it has several of its own.
        is_meant = app not in draft.named and self._apps_with(draft, usual) < 2
        theirs = [found for one in others if (found := one.explicit(app))]
        if baselines is not None:
            theirs.append(baselines.versions)
        wanted = explicit
        if len(explicit) > 1:
            # Pods of several versions are one lane's, unless some of them are another's.
            taken = explicit.intersection(*[frozenset().union(*theirs)])
            if taken and usual is not None and usual <= explicit:
                wanted = usual
            elif taken:
                wanted = explicit - taken or explicit
        elif usual is not None and explicit in theirs and not is_meant:
            wanted = usual
        if wanted != explicit:
            self._disagree(draft.name, app, explicit, wanted)
        elif usual is not None:
            self._differ(draft.name, app, explicit, usual)
        return wanted

    def _usual(self, draft: Draft, app: str, base: Mapping[str, Owed]) -> Versions | None:
        """The version that a lane has at most of the other apps, where this app has it too."""
        counts: Counter[str] = Counter()
        for other in self._topology.apps:
            found = draft.explicit(other)
            if other == app or found is None or len(found) != 1:
                continue
            if other in base and base[other].versions == found:
                continue
            counts.update(found)
        ranked = counts.most_common(2)
        if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
            return None
        usual = frozenset({ranked[0][0]})
        return usual if usual <= self._topology.versions(app) else None

    def _apps_with(self, draft: Draft, found: Versions | None) -> int:
        """At how many apps a lane has these versions."""
        return sum(draft.explicit(app) == found for app in self._topology.apps)

    def _has_routes(self, app: str) -> bool:
        calls = self._topology.calls_to(app)
        return app in self._topology.entries or any(
            self._topology.table(call.service) is not None for call in calls
        )

    def _disagree(self, lane: str, app: str, explicit: Versions, wanted: Versions) -> None:
        text = (
            f"lane {lane}: rules and subsets lead to {app}({_either(explicit)}), which other lanes"
            f" have; it is taken to be owed {app}({_either(wanted)})"
        )
        self.notes.append(Note(text, self._source_of(app, lane), fails=True))

    def _differ(self, lane: str, app: str, explicit: Versions, usual: Versions) -> None:
        text = (
            f"lane {lane}: rules and subsets lead to {app}({_either(explicit)}); at other apps the"
            f" lane is {_either(usual)}, which {app} has too"
        )
        self.notes.append(Note(text, self._source_of(app, lane)))

    def _source_of(self, app: str, lane: str) -> Source | None:
        """Where a lane's subset of an app stands."""
        hosts = {service.host for service in self._topology.services_of(app)}
        subsets = (one for one in self._mesh.subsets if one.name == lane and one.host in hosts)
        return next((one.source for one in subsets), None)


def _either(found: Versions) -> str:
    return " or ".join(sorted(found))


def _lane(draft: Draft, owed: Mapping[str, Owed]) -> Lane:
    return Lane(
        draft.name,
        owed,
        headers=draft.headers,
        values=draft.values,
        labels=draft.labels,
        source=draft.source,
    )
