"""The verification: what the requests through all entrances come to together."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mockservice.probe.verdicts import (
    HEALTH,
    ISOLATION,
    PROPAGATION,
    REACH,
    SPLIT,
    Verdict,
    requests_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mockservice.manifests.documents import Source
    from mockservice.mesh.lane_map import LaneMap
    from mockservice.verify.entering import Entered


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong, or that should be known."""

    level: Literal["error", "note"]
    about: str
    """The verdict that it belongs to."""
    text: str
    source: Source | None = None
    """What in the manifests did it."""


@dataclass(frozen=True, slots=True)
class LaneSummary:
    """What the requests of one lane came to."""

    name: str
    enters_by: str
    requests: int
    chain: str
    """The most frequent one; empty if no request entered the lane."""
    holds: bool


@dataclass(frozen=True, slots=True)
class Verification:
    """All of it."""

    lane_map: LaneMap
    entered: tuple[Entered, ...]
    seconds: float
    """From the start of the lanes to the last answer."""

    @property
    def hold(self) -> bool:
        """Whether all lanes hold."""
        return not any(problem.level == "error" for problem in self.problems())

    @property
    def requests(self) -> int:
        """The requests sent through all entrances."""
        return sum(one.findings.tally.requests for one in self.entered)

    def told(self) -> str:
        """What so many requests tell of shares, in words."""
        splits = [split for one in self.entered if (split := one.findings.split)]
        told = [split.tells for split in splits if split.tells is not None]
        if not splits:
            return "no shares to tell"
        if len(told) < len(splits):
            return "too few to tell all shares"
        return f"which tell a share that is {max(told) * 100:.0f} points off"

    def verdicts(self) -> list[Verdict]:
        """Each verdict over all entrances: it fails where it fails for one of them."""
        by_name: dict[str, list[tuple[Entered, Verdict]]] = {}
        for one in self.entered:
            for verdict in one.findings.verdicts:
                by_name.setdefault(verdict.name, []).append((one, verdict))
        return [
            _together(name, by_name[name])
            for name in (ISOLATION, PROPAGATION, SPLIT, REACH, HEALTH)
            if name in by_name
        ]

    def lanes(self) -> Iterator[LaneSummary]:
        """What each lane came to, in the order of the map."""
        for lane in self.lane_map.lanes:
            chains: Counter[str] = Counter()
            leaks = failures = 0
            for one in self.entered:
                tally = one.findings.tally
                leaks += sum(n for leak, n in tally.leaks.items() if leak.lane == lane.name)
                for (chain, _), seen in tally.chains.items():
                    if seen.lane == lane.name:
                        chains[chain] += len(seen.seconds)
                        failures += len(seen.seconds) if seen.failed else 0
            yield LaneSummary(
                lane.name,
                self.lane_map.enters_by(lane),
                chains.total(),
                chains.most_common(1)[0][0] if chains else "",
                not leaks and not failures,
            )

    def problems(self) -> list[Problem]:
        """What is wrong, then what should be known; each once."""
        found: dict[Problem, None] = {}
        for one in self.entered:
            found |= dict.fromkeys(_problems(one))
        if not self.entered:
            text = "no request gets through the gateway: none of its routes can be entered"
            found[Problem("error", REACH, text)] = None
        for note in self.lane_map.notes:
            level: Literal["error", "note"] = "error" if note.fails else "note"
            found[Problem(level, REACH, note.text, note.source)] = None
        return sorted(found, key=lambda problem: problem.level != "error")

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
            "entrances": [
                {"entrance": str(one.entrance), **json.loads(one.findings.to_json())}
                for one in self.entered
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


def _placed(one: Entered, name: str, reason: str) -> str:
    """A reason, with the entrance where that is not told by the lane that it names."""
    return reason if name in (ISOLATION, REACH) else f"{one.entrance}: {reason}"


def _problems(one: Entered) -> Iterator[Problem]:
    tally = one.findings.tally
    leaks: Counter[tuple[str, Source | None]] = Counter()
    for leak, count in tally.leaks.items():
        leaks[str(leak), leak.source] += count
    for (text, source), count in leaks.most_common():
        yield Problem("error", ISOLATION, f"{text} ({requests_text(count)})", source)
    inconsistencies = tally.consistency.inconsistencies()
    for inconsistency in inconsistencies:
        yield Problem("error", ISOLATION, str(inconsistency))
    for verdict in one.findings.verdicts:
        must_hold = verdict.name == ISOLATION
        if verdict.holds is True or (verdict.holds is None and not must_hold):
            continue
        if verdict.name == REACH or (verdict.name == ISOLATION and (leaks or inconsistencies)):
            continue
        source = one.entrance.source if verdict.name == SPLIT else None
        text = _placed(one, verdict.name, "; ".join(verdict.reasons))
        yield Problem("error", verdict.name, text, source)
