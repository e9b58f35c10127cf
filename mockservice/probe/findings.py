"""The findings: all that a probe found out, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from mockservice.probe.split import LEVEL, Split, split_of
from mockservice.probe.tally import quantile
from mockservice.probe.verdicts import ISOLATION, Verdict, headers_received, judge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mockservice.probe.judge import Leak
    from mockservice.probe.load import Load
    from mockservice.probe.result import Fault
    from mockservice.probe.tally import Tally


@dataclass(frozen=True, slots=True)
class Findings:
    """What a load came to."""

    load: Load
    tally: Tally
    seconds: float
    """From the first request to the last answer."""
    split: Split | None
    verdicts: tuple[Verdict, ...]

    @classmethod
    def of(
        cls,
        load: Load,
        tally: Tally,
        seconds: float,
        weights: Mapping[str, float] | None,
        remarks: tuple[str, ...] = (),
    ) -> Findings:
        """Judge a tally.

        Args:
            load: what was sent.
            tally: what came back.
            seconds: from the first request to the last answer.
            weights: what the split is held against; None: it is not judged.
            remarks: what the requests could not show; told with the verdict on isolation.
        """
        split = None if weights is None else split_of(tally.lanes, weights)
        isolation, *others = judge(tally, load.sent, split)
        isolation = replace(isolation, reasons=(*isolation.reasons, *remarks))
        return cls(load, tally, seconds, split, (isolation, *others))

    @property
    def hold(self) -> bool:
        """Whether lanes hold: isolation does, and nothing else fails."""
        return all(
            verdict.holds is True if verdict.name == ISOLATION else verdict.holds is not False
            for verdict in self.verdicts
        )

    def to_json(self) -> str:
        """One JSON document, without a line end."""
        tally = self.tally
        document = {
            "url": self.load.url,
            "hold": self.hold,
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "requests": {
                "asked": self.load.requests,
                "done": tally.requests,
                "failed": tally.failed,
                "seconds": round(self.seconds, 3),
            },
            "baseline": tally.judge.baseline,
            "lanes": dict(tally.lanes.most_common()),
            "chains": [
                {
                    "chain": outline,
                    "status": status,
                    "lane": seen.lane,
                    "failed": seen.failed,
                    "requests": len(seen.seconds),
                    "share": len(seen.seconds) / tally.requests,
                    **_milliseconds([second * 1000 for second in seen.seconds]),
                }
                for (outline, status), seen in self.chains()
            ],
            "leaks": [
                {**_fields(leak), "requests": count} for leak, count in tally.leaks.most_common()
            ],
            "inconsistencies": [asdict(one) for one in tally.consistency.inconsistencies()],
            "hops": [
                {"app": app, "requests": len(own), **_milliseconds(own)}
                for app, own in tally.own_ms.items()
            ],
            "headers": {
                "sent": sorted(self.load.sent),
                "received": {
                    name: {app: tally.received[app, name] for app in tally.told}
                    for name in headers_received(tally)
                },
                "lost": [
                    {**asdict(loss), "requests": count}
                    for loss, count in tally.losses.most_common()
                ],
                "told": dict(tally.told),
                "not_told": dict(tally.silent),
            },
            "split": None if self.split is None else {"level": LEVEL, **_split(self.split)},
            "failures": [
                {**_fields(fault), "requests": count} for fault, count in tally.faults.most_common()
            ],
        }
        return json.dumps(document)

    def chains(self) -> list[Any]:
        """The chains seen, the most frequent first."""
        return sorted(self.tally.chains.items(), key=lambda item: -len(item[1].seconds))


def _fields(one: Leak | Fault) -> dict[str, Any]:
    """The fields; without the branch in a chain that has none."""
    return {name: value for name, value in asdict(one).items() if name != "after" or value}


def _milliseconds(values: Sequence[float]) -> dict[str, float]:
    return {
        "p50_ms": round(quantile(values, 0.5), 3),
        "p99_ms": round(quantile(values, 0.99), 3),
    }


def _split(split: Split) -> dict[str, Any]:
    return {**asdict(split), "fits": split.fits}
