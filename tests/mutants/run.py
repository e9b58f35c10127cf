"""Runs mutants: each is refused, told by `verify` with the right hop, or changes no answer.

The lanes of a folder run once and move from mutant to mutant. What changes no answer is found by
comparing answers: requests through the sound folder's entrances get the same chains as before.
"""

from __future__ import annotations

import random
import re
import sys
from collections import Counter
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal
from unittest.mock import patch

import yaml

from mockservice.lanes.errors import LanesError
from mockservice.lanes.local import LocalLanes
from mockservice.lanes.processes import Child, Processes
from mockservice.manifests.documents import read
from mockservice.mesh.errors import RefusedError
from mockservice.probe.load import Load, send
from mockservice.probe.result import GATEWAY, outline
from mockservice.verify.cases import read_cases
from mockservice.verify.entering import requests_through
from mockservice.verify.run import verify
from mockservice.verify.saving import saved
from mockservice.verify.verification import CASES
from tests.mutants.mutations import Mutant, mutants

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
    from pathlib import Path

    from mockservice.mesh.lane_map import Entrance

_FORGETFUL = """\
import sys
from mockservice import propagation
propagation.CARRIED -= {sys.argv.pop().encode()}
from mockservice.cli import main
sys.exit(main(["serve"]))
"""
# Requests through one entrance: a lane of 10 % is missed once in seven million times.
_ANSWERS = 150

Outcome = Literal["refused", "told", "noted", "equivalent", "missed"]
Answers = dict[str, Counter[str]]


@dataclass(frozen=True)
class Tried:
    """What became of a mutant."""

    mutant: str
    outcome: Outcome
    told: tuple[str, ...]
    """What `verify` says of it that it does not say of the sound folder."""
    changed: str
    """The first hop at which answers differ from the sound folder's."""


class Sound:
    """A sound folder that runs, and is moved to its mutants."""

    def __init__(self, lanes: LocalLanes, file: Path, documents: list[dict[str, Any]]) -> None:
        self.lanes = lanes
        self.documents = documents
        self._file = file

    async def prepare(self) -> None:
        """See what the sound folder answers."""
        self._entrances = self.lanes.lane_map.entrances
        self.verification = await verify(self.lanes.gateway_url, self.lanes.lane_map)
        self._answers = await self._ask()
        self._told = {problem.text for problem in self.verification.problems()}
        cases = self._file.with_name("cases.yaml")
        cases.write_text(saved(self.verification))
        self._cases = read_cases(cases)

    def mutants(self) -> list[Mutant]:
        """All mutants."""
        return list(mutants(self.documents))

    async def times_it_holds(self, times: int) -> int:
        """How often the sound folder holds, of so many times."""
        verifications = [
            await verify(self.lanes.gateway_url, self.lanes.lane_map) for _ in range(times)
        ]
        return sum(one.hold for one in verifications)

    def hops(self) -> list[tuple[str, str]]:
        """Each app that calls another one, with each lane header that it could drop."""
        mesh = self.lanes.lane_map.mesh
        headers = {name for lane in self.lanes.lane_map.lanes for name, _ in lane.headers}
        headers.update(carrier.trace_header for carrier in mesh.carriers)
        topology = self.lanes.lane_map.topology
        callers = [app for app in topology.apps if topology.callees(app)]
        return [(app, header) for app in callers for header in sorted(headers)]

    async def try_mutant(self, mutant: Mutant) -> Tried:
        """Run a mutant."""
        write(self._file, mutant.documents)
        try:
            await self.lanes.reload()
        except (RefusedError, LanesError) as error:
            return Tried(mutant.name, "refused", (str(error),), "")
        if mutant.is_weight:
            return await self._tell_weight(mutant)
        return await self._tell(mutant.name, mutant.hops)

    async def _tell_weight(self, mutant: Mutant) -> Tried:
        """What the cases saved from the sound folder tell of a weight."""
        lanes = self.lanes
        verification = await verify(lanes.gateway_url, lanes.lane_map, self._cases)
        failed = [one for one in verification.problems() if one.about == CASES]
        told = tuple(f"{one.level}: {one.text}" for one in failed)
        return Tried(mutant.name, "told" if failed else "missed", told, GATEWAY)

    async def try_hop(self, app: str, header: str) -> Tried:
        """Run the sound folder with an app whose pods do not carry a header."""
        write(self._file, self.documents)
        with dropping(app, header):
            async with LocalLanes([self._file]) as lanes:
                sound, self.lanes = self.lanes, lanes
                try:
                    return await self._tell(f"{app} drops {header}", frozenset({app}))
                finally:
                    self.lanes = sound

    async def _tell(self, name: str, hops: frozenset[str]) -> Tried:
        """What `verify` says of the lanes as they are, held against what they answer."""
        verification = await verify(self.lanes.gateway_url, self.lanes.lane_map)
        problems = [one for one in verification.problems() if one.text not in self._told]
        told = tuple(f"{one.level}: {one.text}" for one in problems)
        answers = await self._ask()
        changed = _first_difference(self._answers, answers)
        if changed is None:
            return Tried(name, "equivalent", told, "")
        right = {*hops, *changed.split(" or ")}
        errors = [one for one in problems if one.level == "error"]
        if any(hop in one.text for hop in right for one in errors):
            return Tried(name, "told", told, changed)
        if any(hop in one.text for hop in right for one in problems):
            return Tried(name, "noted", told, changed)
        return Tried(name, "missed", told, changed)

    async def _ask(self) -> Answers:
        """The chains that requests through the sound folder's entrances get."""
        answers: Answers = {}
        for entrance in self._entrances:
            seen: Counter[str] = Counter()
            async with aclosing(send(_load(self.lanes.gateway_url, entrance))) as results:
                async for result in results:
                    seen[f"{outline(result)} {result.status}"] += 1
            answers[str(entrance)] = seen
        return answers


@contextmanager
def dropping(app: str, header: str) -> Iterator[None]:
    """Let the pods of an app not carry a header, in lanes that start meanwhile."""
    ordinary = Processes.start_pod

    async def start_pod(processes: Processes, name: str, env: Mapping[str, str]) -> Child:
        if env["app"] != app:
            return await ordinary(processes, name, env)
        return await processes.start(name, [sys.executable, "-P", "-c", _FORGETFUL, header], env)

    with patch.object(Processes, "start_pod", start_pod):
        yield


@asynccontextmanager
async def running(folders: Iterable[Path], place: Path) -> AsyncIterator[Sound]:
    """Run the manifests of some folders, as one file in `place`."""
    documents = [document.body for document in read(folders)]
    file = place / "manifests.yaml"
    write(file, documents)
    async with LocalLanes([file]) as lanes:
        sound = Sound(lanes, file, documents)
        await sound.prepare()
        yield sound


def write(file: Path, documents: list[dict[str, Any]]) -> None:
    """Write manifests."""
    file.write_text(yaml.dump_all(documents, Dumper=yaml.CSafeDumper))


def sample(mutants: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """Some of the mutants, the same for the same seed."""
    return random.Random(seed).sample(mutants, min(count, len(mutants)))


def _load(url: str, entrance: Entrance) -> Load:
    count = min(_ANSWERS, requests_through(entrance))
    load = Load(f"{url}{entrance.path}", entrance.method, count, 8)
    return replace(load, headers=entrance.fields)


def _first_difference(before: Answers, after: Answers) -> str | None:
    """The app of the first hop at which the chains of some entrance differ; None: they do not."""
    for entrance, chains in before.items():
        now = after[entrance]
        if chains.keys() == now.keys():
            continue
        for chain in now.keys() - chains.keys():
            return _app_after(chain, chains.keys())
        for chain in chains.keys() - now.keys():
            return _app_after(chain, now.keys())
    return None


def _app_after(chain: str, others: Iterable[str]) -> str:
    """The app at which a chain parts from the one of the others that is most like it."""
    hops = _hops(chain)
    best: tuple[int, str] = (-1, "")
    for other in others:
        those = _hops(other)
        same = 0
        while same < min(len(hops), len(those)) and hops[same] == those[same]:
            same += 1
        place = those[same] if same < len(those) else hops[min(same, len(hops) - 1)]
        best = max(best, (same, place))
    app = best[1].partition("(")[0]
    if best[0]:
        return app
    # The gateway chooses the first hop. Where it has no route any more, all hops are gone.
    gone = {hop.partition("(")[0] for other in others for hop in _hops(other)}
    return " or ".join([GATEWAY, *sorted(gone if hops == ["(no hop)"] else {app})])


def _hops(answer: str) -> list[str]:
    """The hops of an outline with its status, in call order."""
    return [hop for hop in re.split(r" -> |; |[\[\]]", answer.rpartition(" ")[0]) if hop]
