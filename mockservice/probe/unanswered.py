"""The calls that no hop answered: which of a hop's calls a branch that failed stands for."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mockservice.chain import Hop, Tree
    from mockservice.mesh.topology import Call, Topology


def unanswered(
    topology: Topology, tree: Tree, failed: Iterable[int]
) -> Iterator[tuple[int, int, Call]]:
    """The calls of the hops behind which branches failed.

    A branch stands for the call that its failure names, else for the next one without an answer:
    branches come in the order of the calls.

    Args:
        topology: who calls whom.
        tree: what was answered.
        failed: the branches, by place in `Tree.ends`.

    Yields:
        The branch, the place of the hop that called, and its call.
    """
    branches: defaultdict[int, list[int]] = defaultdict(list)
    for branch in failed:
        if (last := tree.ends[branch].last) is not None:
            branches[last].append(branch)
    answered: dict[int, Counter[str]] = {caller: Counter() for caller in branches}
    for hop, caller in zip(tree.hops, tree.callers, strict=True):
        if caller in answered:
            answered[caller][hop.app] += 1
    for caller, behind in branches.items():
        calls = list(_without_answer(topology, tree.hops[caller], answered[caller]))
        others = []
        for branch in behind:
            error = tree.ends[branch].error
            named = [call for call in calls if error and topology.is_named(call, error.hop)]
            if named:
                calls.remove(named[0])
                yield branch, caller, named[0]
            else:
                others.append(branch)
        for branch, call in zip(others, calls, strict=False):
            yield branch, caller, call


def _without_answer(topology: Topology, hop: Hop, answered: Counter[str]) -> Iterator[Call]:
    """The calls that a hop makes, without those that these apps answered."""
    for call in topology.calls_of(hop.app, hop.version):
        by = next((app for app in topology.apps_of(call.service) if answered[app]), None)
        if by is None:
            yield call
        else:
            answered[by] -= 1
