"""`make truth`: asks Istio's pilot anew, holds local lanes against it, and records its answers.

    python -m tests.truth [WORD...]

With words, only cases whose names hold one of them run. A case is `same`; `refused` or `noted`, as
it says itself and docs/lanes.md tells; or `different`, which must not be.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import TYPE_CHECKING

from mockservice.mesh.errors import RefusedError
from tests.truth.cases import read_cases
from tests.truth.istio import Istio, IstioRefusesError, istio_version
from tests.truth.local import Local
from tests.truth.recorded import read_recorded, record
from tests.truth.shares import are_same

if TYPE_CHECKING:
    from tests.truth.cases import Case
    from tests.truth.hops import Address, Hops
    from tests.truth.recorded import Recorded

_TIMES = 120
"""How often requests of a case are sent, in all."""
_TIMES_MIXED = 240
"""How often one is sent that has several outcomes."""


async def main(words: list[str]) -> int:
    """Run the cases, and print what is the same, refused or different; return the exit code."""
    cases = [case for case in read_cases() if not words or any(one in case.name for one in words)]
    recorded: dict[str, Recorded] = {}
    verdicts: Counter[str] = Counter()
    sent = 0
    async with Istio(cases) as istio, Local() as local:
        for case in cases:
            theirs = await _of_istio(case, istio)
            ours, is_noted = await _of_local_lanes(case, local)
            verdict, lines = _judged(case, theirs, ours, is_noted)
            recorded[case.name] = theirs
            answers = theirs.values() if isinstance(theirs, dict) else ()
            count = sum(sum(outcomes.values()) for outcomes in answers)
            verdicts[verdict] += 1
            sent += count
            print(f"{verdict:9} {count:5}  {case.name}")
            for line in lines:
                print(f"{'':18}{line}")
            sys.stdout.flush()
    told = ", ".join(f"{number} {verdict}" for verdict, number in sorted(verdicts.items()))
    print(f"{len(cases)} cases, {sent} requests by Istio's routes: {told}")
    record(istio_version(), (read_recorded() if words else {}) | recorded)
    return 1 if verdicts["different"] else 0


async def _of_istio(case: Case, istio: Istio) -> Recorded:
    try:
        await istio.move_to(case)
    except IstioRefusesError as error:
        return str(error)
    return await _outcomes(case, istio.hops, istio.gateway)


async def _of_local_lanes(case: Case, local: Local) -> tuple[Recorded, bool]:
    """What local lanes do, and whether they note something."""
    try:
        notes = await local.move_to(case.objects)
    except RefusedError as error:
        return error.problems[0].replace(f"{local.folder}/", ""), False
    return await _outcomes(case, local.hops, local.gateway), bool(notes)


async def _outcomes(case: Case, hops: Hops, gateway: Address) -> dict[str, dict[str, int]]:
    times = -(-_TIMES // max(1, len(case.requests)))
    found = await hops.outcomes(case.requests, {one.text: times for one in case.requests}, gateway)
    mixed = [one for one in case.requests if len(found[one.text]) > 1]
    more = await hops.outcomes(mixed, {one.text: _TIMES_MIXED - times for one in mixed}, gateway)
    return {text: dict(seen + more.get(text, Counter())) for text, seen in found.items()}


def _judged(case: Case, theirs: Recorded, ours: Recorded, is_noted: bool) -> tuple[str, list[str]]:
    """The verdict on a case, and what both sides did."""
    if isinstance(theirs, str) or isinstance(ours, str):
        lines = [*_told("Istio", theirs), *_told("local lanes", ours)]
        if isinstance(theirs, str) and isinstance(ours, str):
            return "same", lines
        is_told = isinstance(ours, str) and case.refused is not None
        return "refused" if is_told else "different", lines
    lines, is_same = [], True
    for text, outcomes in theirs.items():
        their_shares, our_shares = _shares(outcomes), _shares(ours[text])
        if not are_same(outcomes, ours[text]):
            is_same = False
            lines += [f"{text}:", f"  Istio:       {their_shares}", f"  local lanes: {our_shares}"]
        elif their_shares == our_shares:
            lines.append(f"{text}: {their_shares}")
        else:
            lines.append(f"{text}: {their_shares} / {our_shares}")
    if case.refused is not None:
        return "different", [*lines, f"local lanes should refuse {case.refused}"]
    if case.noted is not None and is_noted and not is_same:
        return "noted", lines
    return "same" if is_same and case.noted is None else "different", lines


def _told(side: str, answers: Recorded) -> list[str]:
    if isinstance(answers, str):
        return [f"{side}: refused: {line}" for line in answers.splitlines() if line.strip()]
    return [f"{side}: {text}: {_shares(outcomes)}" for text, outcomes in answers.items()]


def _shares(outcomes: dict[str, int]) -> str:
    total = sum(outcomes.values())
    return " | ".join(
        outcome if count == total else f"{count / total:.0%} {outcome}"
        for outcome, count in sorted(outcomes.items())
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
