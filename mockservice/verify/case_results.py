"""What the requests of a case came to, held against what they must get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mockservice.manifests.problems import one_of
from mockservice.probe.split import split_of
from mockservice.probe.verdicts import judge_split, requests_text
from mockservice.verify.cases import answer
from mockservice.verify.entering import NO_LANE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mockservice.mesh.lane_map import LaneMap
    from mockservice.verify.cases import Case
    from mockservice.verify.entering import Entered


@dataclass(frozen=True, slots=True)
class CaseResult:
    """A case, and whether it holds."""

    case: Case
    requests: int
    reasons: tuple[str, ...]
    """Why it does not hold; empty if it does."""

    @property
    def holds(self) -> bool:
        """Whether all requests got what the case says."""
        return not self.reasons


def judge_case(case: Case, entered: Entered, lane_map: LaneMap) -> CaseResult:
    """Hold a case against the requests through its entrance."""
    reasons = list(_chain_reasons(case, entered) if case.chain else _share_reasons(case, entered))
    names = [lane.name for lane in lane_map.lanes]
    known = {*names, NO_LANE}
    unknown = [lane for lane in case.shares if names and lane not in known and case.shares[lane]]
    reasons[:0] = [f"there is no lane {lane!r}; {one_of(lane, names)}" for lane in unknown]
    if reasons and case.shares and (source := entered.entrance.source):
        reasons.append(f"{source} routes it")
    if reasons and not entered.entrance.shares:
        reasons.append("no route at the gateway takes it")
    return CaseResult(case, entered.findings.tally.requests, tuple(reasons))


def _chain_reasons(case: Case, entered: Entered) -> Iterator[str]:
    expected = (case.chain, case.status)
    total = entered.findings.tally.requests
    for chain, seen in entered.findings.chains():
        if chain != expected:
            came = f"{answer(*chain)} in {len(seen.seconds)} of {requests_text(total)}"
            yield f"must get {answer(*expected)}, but got {came}"


def _share_reasons(case: Case, entered: Entered) -> Iterator[str]:
    verdict = judge_split(split_of(entered.shares, case.shares))
    if not verdict.holds:
        yield from verdict.reasons
