"""The verification: what the requests through all entrances come to together."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from mockservice.probe.verdicts import (
    HEALTH,
    ISOLATION,
    PROPAGATION,
    REACH,
    SPLIT,
    Verdict,
    dropped_text,
    requests_text,
)
from mockservice.verify.cases import answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mockservice.manifests.documents import Source
    from mockservice.mesh.lane_map import LaneMap
    from mockservice.probe.consistency import Inconsistency
    from mockservice.probe.judge import Leak
    from mockservice.verify.case_results import CaseResult
    from mockservice.verify.entering import Entered

CASES: Final = "cases"
"""What the problems of cases are about, beside the names of the verdicts."""
_MAX_LANES: Final = 3
"""Lanes, or entrances, that one line names."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong, or that should be known."""

    level: Literal["error", "note"]
    about: str
    """The verdict that it belongs to, or `CASES`."""
    text: str
    source: Source | None = None
    """What in the manifests did it."""
    informs: bool = False
    """Whether nothing is amiss."""
    changes_no_lanes: bool = False
    """Whether lanes are the same without what it tells of."""

    @property
    def rank(self) -> int:
        """How much it counts: 0 is wrong, 1 may change lanes, and 2 changes none."""
        if self.level == "error":
            return 0
        return 2 if self.informs or self.changes_no_lanes else 1

    @property
    def located(self) -> str:
        """The text, with file and line of the source."""
        if self.source is None or self.informs:
            return self.text
        place = f"{self.source.path}:{self.source.line}"
        return self.text if place in self.text else f"{self.text}; see {place}"


@dataclass(frozen=True, slots=True)
class LaneSummary:
    """What the requests of one lane came to."""

    name: str
    enters_by: str
    requests: int
    chain: str
    """The most frequent one, with its status if that is not 200; empty if there is none."""
    holds: bool | None
    """None: no request entered it."""
    source: Source | None


@dataclass(frozen=True, slots=True)
class Verification:
    """All of it."""

    lane_map: LaneMap
    entered: tuple[Entered, ...]
    """The entrances of the map."""
    seconds: float
    """From the first request to the last answer."""
    cases: tuple[CaseResult, ...] = ()
    entered_for_cases: tuple[Entered, ...] = ()
    """What cases ask for beside the entrances of the map; judged by the cases, and for leaks."""
    remarks: tuple[Problem, ...] = ()
    """What else is wrong, seen beside the requests."""

    @property
    def hold(self) -> bool:
        """Whether all lanes hold, and all cases."""
        return not any(problem.level == "error" for problem in self.problems())

    @property
    def requests(self) -> int:
        """The requests sent through all entrances."""
        return sum(one.findings.tally.requests for one in self._all)

    @property
    def _all(self) -> tuple[Entered, ...]:
        return (*self.entered, *self.entered_for_cases)

    def told(self) -> str:
        """What so many requests tell of shares, in words; empty where there are none."""
        splits = [split for one in self.entered if (split := one.findings.split)]
        told = [split.tells for split in splits if split.tells is not None]
        if not splits:
            return ""
        if len(told) < len(splits):
            return ", too few to tell all shares"
        return f", which tell a share that is {max(told) * 100:.0f} points off"

    def verdicts(self) -> list[Verdict]:
        """Each verdict over all entrances: it fails where it fails for one of them.

        Every error but those of cases makes a verdict fail.
        """
        by_name: dict[str, list[tuple[Entered, Verdict]]] = {}
        for one in self.entered:
            for verdict in one.findings.verdicts:
                by_name.setdefault(verdict.name, []).append((one, verdict))
        verdicts = {name: _together(name, parts) for name, parts in by_name.items()}
        if leaks := tuple(problem.text for problem in _leak_problems(self._all)):
            verdicts[ISOLATION] = Verdict(ISOLATION, False, leaks)
        for problem in self.problems():
            if problem.level == "error" and problem.about != CASES:
                known = verdicts.get(problem.about)
                verdicts[problem.about] = _failed(problem, known, problem in self.remarks)
        order = (ISOLATION, PROPAGATION, SPLIT, REACH, HEALTH)
        return [verdicts[name] for name in dict.fromkeys((*order, *verdicts)) if name in verdicts]

    def lanes(self) -> Iterator[LaneSummary]:
        """What each lane came to, in the order of the map."""
        leaking = {leak.lane for one in self._all for leak in one.findings.tally.leaks}
        for lane in self.lane_map.lanes:
            chains: Counter[str] = Counter()
            # What no request gets to may lead anywhere.
            fails = lane.name in leaking or bool(self.lane_map.unproved)
            for one in self.entered:
                tally, split = one.findings.tally, one.findings.split
                for (chain, status), seen in tally.chains.items():
                    if seen.lane == lane.name:
                        chains[answer(chain, status)] += len(seen.seconds)
                        # A request that is to fail is no fault.
                        fails |= seen.failed and bool(tally.faults)
                fails |= split is not None and lane.name in {share.lane for share in split.off}
            yield LaneSummary(
                lane.name,
                self.lane_map.enters_by(lane),
                chains.total(),
                chains.most_common(1)[0][0] if chains else "",
                False if fails else True if chains else None,
                lane.source,
            )

    def problems(self) -> list[Problem]:
        """What is wrong, then what may change lanes, then what changes none; each once."""
        found = [*_leak_problems(self._all), *_verdict_problems(self.entered), *self.remarks]
        found += _dropped_headers(self._all)
        if not self.entered:
            text = "no request gets through the gateway: none of its routes can be entered"
            found.append(Problem("error", REACH, text))
        for note in self.lane_map.notes:
            level: Literal["error", "note"] = "error" if note.fails else "note"
            kept = (note.informs, note.changes_no_lanes)
            found.append(Problem(level, REACH, note.text, note.source, *kept))
        for result in self.cases:
            if not result.holds:
                case = result.case
                text = f"case {case.name}: {'; '.join(result.reasons)}"
                found.append(Problem("error", CASES, text, case.source))
        return sorted(dict.fromkeys(found), key=lambda problem: problem.rank)

    def to_json(self) -> dict[str, Any]:
        """All of it, as plain data."""
        return {
            "hold": self.hold,
            "requests": self.requests,
            "seconds": round(self.seconds, 3),
            "lanes": [
                {
                    "name": lane.name,
                    "enters_by": lane.enters_by,
                    "requests": lane.requests,
                    "chain": lane.chain,
                    "holds": lane.holds,
                }
                for lane in self.lanes()
            ],
            "verdicts": [
                {"name": one.name, "holds": one.holds, "reasons": list(one.reasons)}
                for one in self.verdicts()
            ],
            "problems": [
                {
                    "level": one.level,
                    "verdict": one.about,
                    "text": one.text,
                    "file": one.source and one.source.path,
                    "line": one.source and one.source.line,
                }
                for one in self.problems()
            ],
            "cases": [
                {
                    "name": one.case.name,
                    "holds": one.holds,
                    "requests": one.requests,
                    "reasons": list(one.reasons),
                    "file": one.case.source.path,
                    "line": one.case.source.line,
                }
                for one in self.cases
            ],
            "entrances": [
                {"entrance": str(one.entrance), **json.loads(one.findings.to_json())}
                for one in self._all
            ],
        }


def _together(name: str, parts: list[tuple[Entered, Verdict]]) -> Verdict:
    states = {verdict.holds for _, verdict in parts}
    holds = False if False in states else None if None in states else True
    reasons = {
        _placed(one, name, reason): None
        for one, verdict in parts
        if verdict.holds is holds
        for reason in verdict.reasons
    }
    return Verdict(name, holds, tuple(reasons))


def _failed(problem: Problem, verdict: Verdict | None, is_remark: bool) -> Verdict:
    """A verdict that an error is about: it fails, and a remark is among its reasons."""
    if verdict is None or (verdict.holds is not False and (is_remark or verdict.holds)):
        return Verdict(problem.about, False, (problem.text,))
    if is_remark and problem.text not in verdict.reasons:
        return Verdict(problem.about, False, (*verdict.reasons, problem.text))
    return verdict


def _placed(one: Entered, name: str, reason: str) -> str:
    """A reason, with the entrance where that is not told by the lane that it names."""
    return reason if name in (ISOLATION, REACH) else f"{one.entrance}: {reason}"


def _leak_problems(entered: Iterable[Entered]) -> Iterator[Problem]:
    """The leaks, those of one cause in one line; then the calls that went several ways."""
    counts: defaultdict[tuple[str, str, Source | None], Counter[Leak]] = defaultdict(Counter)
    requests: Counter[tuple[str, str, Source | None]] = Counter()
    several_ways: defaultdict[Inconsistency, Counter[str]] = defaultdict(Counter)
    for one in entered:
        tally = one.findings.tally
        for leak, count in tally.leaks.items():
            told = replace(leak, chain="", reason="")
            counts[leak.cause][told] += count
        requests += tally.causes
        for inconsistency in tally.consistency.inconsistencies():
            several_ways[replace(inconsistency, versions=())].update(dict(inconsistency.versions))
    for cause, leaks in sorted(counts.items(), key=lambda one: -one[1].total()):
        _, reason, source = cause
        said = _listed([str(leak) for leak, _ in leaks.most_common()])
        because = f": {reason}" if reason else ""
        text = f"{said}{because} ({requests_text(requests[cause])})"
        yield Problem("error", ISOLATION, text, source)
    for calls, seen in several_ways.items():
        told_of_all = replace(calls, versions=tuple(seen.most_common()))
        yield Problem("error", ISOLATION, str(told_of_all))


def _verdict_problems(entered: Iterable[Entered]) -> Iterator[Problem]:
    """The verdicts that fail, beside leaks and what the map tells; the same ones in one line."""
    found: defaultdict[tuple[str, tuple[str, ...], Source | None], list[str]] = defaultdict(list)
    for one in entered:
        tally = one.findings.tally
        for verdict in one.findings.verdicts:
            is_isolation = verdict.name == ISOLATION
            holds = verdict.holds is True or (verdict.holds is None and not is_isolation)
            told = is_isolation and bool(tally.leaks or tally.consistency.inconsistencies())
            if verdict.name == HEALTH:
                # That a hop is missing is told as a leak.
                told = not tally.failed_untold
            if not holds and not told and verdict.name != REACH:
                source = one.entrance.source if verdict.name == SPLIT else None
                found[verdict.name, verdict.reasons, source].append(str(one.entrance))
    for (name, reasons, source), entrances in found.items():
        yield Problem("error", name, f"{_listed(entrances)}: {'; '.join(reasons)}", source)


def _dropped_headers(entered: Iterable[Entered]) -> Iterator[Problem]:
    """The trace headers that processes of somebody's own drop, and that no rule needs."""
    tallies = [one.findings.tally for one in entered]
    for text in dropped_text(pair for tally in tallies for pair in tally.dropped):
        yield Problem("note", PROPAGATION, text, changes_no_lanes=True)


def _listed(names: list[str]) -> str:
    """The first few of the names, and how many more there are."""
    shown = ", ".join(names[:_MAX_LANES])
    more = len(names) - _MAX_LANES
    return f"{shown} and {more} more" if more > 0 else shown
