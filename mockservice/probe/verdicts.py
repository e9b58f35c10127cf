"""The verdicts: what was asked of the lanes, whether it holds, and why not."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mockservice.probe.split import LEVEL, POINT
from mockservice.propagation import CARRIED, FAULT_HEADER, NEVER_CARRIED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mockservice.mesh.model import Note
    from mockservice.probe.result import Fault
    from mockservice.probe.split import Share, Split
    from mockservice.probe.tally import Tally

_CARRIED: Final = frozenset(name.decode() for name in CARRIED)
ISOLATION: Final = "isolation"
PROPAGATION: Final = "propagation"
SPLIT: Final = "split"
REACH: Final = "reach"
HEALTH: Final = "health"
_NEVER_CARRIED: Final = frozenset(name.decode() for name in NEVER_CARRIED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one thing that was asked holds."""

    name: str
    holds: bool | None
    """None: cannot be told."""
    reasons: tuple[str, ...]
    """One line each, what counts most first."""


def judge(tally: Tally, sent: Iterable[str], split: Split | None) -> tuple[Verdict, ...]:
    """All verdicts: on the split only where weights were expected, on reach where there is a map.

    Args:
        tally: of all results.
        sent: the lower-case names of the headers that each request carried.
        split: the lanes of `tally`, held against the weights expected.
    """
    verdicts = [isolation(tally), propagation(tally, sent)]
    if split is not None:
        verdicts.append(judge_split(split))
    if tally.judge.notes is not None:
        verdicts.append(reach(tally.judge.notes))
    return (*verdicts, health(tally))


def isolation(tally: Tally) -> Verdict:
    """Every request got, at every hop, what its lane is owed, as far as that can be told."""
    if not tally.answered:
        return Verdict(ISOLATION, None, ("no chain came back",))
    leaks: Counter[str] = Counter()
    for leak, count in tally.leaks.items():
        leaks[str(leak)] += count
    reasons = [f"{leak} ({requests_text(count)})" for leak, count in leaks.most_common()]
    reasons += map(str, tally.consistency.inconsistencies())
    if reasons:
        return Verdict(ISOLATION, False, tuple(reasons))
    if tally.mixed:
        reasons = [
            f"{chain}: {tally.judge.untold} ({requests_text(count)})"
            for chain, count in tally.mixed.most_common()
        ]
        return Verdict(ISOLATION, None, tuple(reasons))
    kept = tally.judge.kept(tally.answered, tally.without_lane)
    ends = (
        f"behind {app} answers a service that is no hop: what it is cannot be seen"
        f" ({requests_text(count)})"
        for app, count in tally.open_ends.most_common()
    )
    return Verdict(ISOLATION, True, (*kept, *tally.consistency.unseen(), *ends))


def reach(notes: Iterable[Note]) -> Verdict:
    """Every lane can be entered, and the pods that no lane gets to are told."""
    notes = [note for note in notes if not note.informs]
    ordered = sorted(notes, key=lambda note: not note.fails)
    if not ordered:
        return Verdict(REACH, True, ("every lane can be entered, every pod is some lane's",))
    holds = not ordered[0].fails
    told = tuple(str(note) if note.fails else f"note: {note}" for note in ordered)
    return Verdict(REACH, holds, told)


def propagation(tally: Tally, sent: Iterable[str]) -> Verdict:
    """Every lane and trace header that a hop received reached the hops it calls, as it was."""
    if not tally.answered:
        return Verdict(PROPAGATION, None, ("no chain came back",))
    unheard = []
    if tally.silent:
        silent = ", ".join(tally.silent)
        unheard.append(f"{silent} answered in text, which does not tell the headers received")
    if not tally.told:
        return Verdict(PROPAGATION, None, tuple(unheard))
    lost, unknown = _lost_at_gateway(tally, sent)
    lost += _lost_between_hops(tally)
    if lost:
        return Verdict(PROPAGATION, False, (*lost, *unheard))
    everywhere = [name for name in headers_received(tally) if _reached_all(tally, name)]
    reached = f"{', '.join(everywhere)} reached {', '.join(tally.told)}"
    holds = None if unheard or unknown else True
    return Verdict(PROPAGATION, holds, (reached, *unheard, *unknown, *dropped_text(tally.dropped)))


def dropped_text(dropped: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The headers that apps may drop, and did, in words.

    Args:
        dropped: apps and headers.
    """
    names: defaultdict[str, list[str]] = defaultdict(list)
    for app, name in sorted(set(dropped)):
        names[app].append(name)
    for app, headers in names.items():
        yield f"{app} drops {', '.join(headers)}, which ends traces there but loses no lane"


def headers_received(tally: Tally) -> list[str]:
    """The names of all headers that hops received."""
    return sorted({name for _, name in tally.received})


def judge_split(split: Split) -> Verdict:
    """The lanes came up in the shares expected, as far as chance lets them."""
    if not split.requests:
        return Verdict(SPLIT, False, ("no request whose lane is known",))
    test = f"p = {split.p:.2g}, exact binomial test, level {LEVEL:g}"
    if not split.fits:
        reasons = (_off(share, split.requests) for share in split.off)
        return Verdict(SPLIT, False, (*reasons, test))
    seen = ":".join(str(share.seen) for share in split.shares)
    lanes = ":".join(share.lane for share in split.shares)
    return Verdict(
        SPLIT, True, (f"{lanes} came up {seen}, as expected ({test})", *_precision(split))
    )


def health(tally: Tally) -> Verdict:
    """Every request was answered by a whole chain."""
    if not tally.requests:
        return Verdict(HEALTH, False, ("no request was answered",))
    owed = tuple(
        f"{_fault(fault)} ({count}): its lane has no pods there, so it is to fail"
        for fault, count in tally.owed_faults.most_common()
    )
    if not tally.faults:
        return Verdict(HEALTH, True, (f"{requests_text(tally.requests)}, none failed", *owed))
    failed = f"{tally.failed} of {requests_text(tally.requests)} failed"
    reasons = (f"{_fault(fault)} ({count})" for fault, count in tally.faults.most_common())
    return Verdict(HEALTH, False, (failed, *reasons))


def _lost_at_gateway(tally: Tally, sent: Iterable[str]) -> tuple[list[str], list[str]]:
    """What was sent and did not reach the first hop; what nobody can tell of."""
    lost, unknown = [], []
    first, asked = ", ".join(tally.first), tally.first.total()
    known = _CARRIED.union(headers_received(tally))
    for name in sorted(set(sent)):
        missing = asked - tally.received_first[name]
        if not missing or name in _NEVER_CARRIED:
            continue
        if name in known:
            blame = _or_not_carried("the gateway drops it", first, name)
            lost.append(f"{name} was sent, {first} did not receive it: {blame} ({missing})")
        else:
            unknown.append(f"{name} was sent, but no hop carries it (see {_setting(name)})")
    return lost, unknown


def _lost_between_hops(tally: Tally) -> Iterator[str]:
    counts: defaultdict[tuple[str, str, str, bool], int] = defaultdict(int)
    versions: defaultdict[tuple[str, str, str, bool], set[str]] = defaultdict(set)
    for loss, count in tally.losses.items():
        key = (loss.header, loss.giver, loss.taker, loss.changed)
        counts[key] += count
        versions[key].add(loss.giver_version)
    for key, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        name, giver, taker, changed = key
        where = f"{', '.join(sorted(versions[key]))}; {requests_text(count)}"
        if changed:
            drops = f"{taker} received another value: {giver} does not pass it on"
        else:
            drops = f"{taker} did not: " + _or_not_carried(f"{giver} drops it", taker, name)
        yield f"{giver} received {name}, {drops} ({where})"


def _or_not_carried(blame: str, taker: str, name: str) -> str:
    """A hop tells the headers that it carries: of others it may have received one in silence."""
    if name in _CARRIED:
        return blame
    return f"{blame}, or {taker} does not carry it (see {_setting(name)})"


def _setting(name: str) -> str:
    """What makes a hop carry a header that not every hop carries."""
    return "fault_header" if name == FAULT_HEADER.decode() else "lane_headers"


def _reached_all(tally: Tally, name: str) -> bool:
    return all(tally.received[app, name] == count for app, count in tally.told.items())


def _off(share: Share, requests: int) -> str:
    seen = f"{share.lane}: {share.seen} of {requests_text(requests)}"
    if not share.expected:
        return f"{seen}, expected none"
    return f"{seen}, expected about {share.expected * requests:.4g}"


def _precision(split: Split) -> Iterator[str]:
    """What this many requests tell, and how many would tell more."""
    if split.to_tell is None:
        return
    tells = "no difference"
    if split.tells is not None:
        tells = f"a lane that is {split.tells * 100:.0f} points off"
    line = f"{requests_text(split.requests)} tell {tells}"
    if split.requests < split.to_tell:
        line += f"; {POINT * 100:.0f} points take about {split.to_tell}"
    yield line
    if split.to_tell_seen is not None:
        seen = _ratio(share.seen / split.requests for share in split.shares)
        expected = _ratio(share.expected for share in split.shares)
        yield f"telling {seen} from {expected} takes about {requests_text(split.to_tell_seen)}"


def _ratio(shares: Iterable[float]) -> str:
    return ":".join(f"{share * 100:.3g}" for share in shares)


def _fault(fault: Fault) -> str:
    status = "" if fault.status is None else f"{fault.status} "
    where = f" after {fault.after}" if fault.after else ""
    return f"{status}at {fault.hop}{where}: {fault.reason}"


def requests_text(count: int) -> str:
    """A number of requests, in words."""
    return "1 request" if count == 1 else f"{count} requests"
