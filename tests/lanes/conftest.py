"""Local lanes that tests share: to move them to other manifests takes less than to start others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from tests.lanes.building import set_env, write
from tests.lanes.running import RunningLanes, lanes

if TYPE_CHECKING:
    from collections.abc import Iterator

MoveTo = Callable[..., RunningLanes]
"""Takes manifests as Kubernetes objects, and returns local lanes that run just these."""


@pytest.fixture(scope="session")
def move_to(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MoveTo]:
    """Lanes for all tests of a worker, stopped at its end; pods that stay the same go on."""
    folder = tmp_path_factory.mktemp("lanes")
    path = folder / "mock.yaml"
    numbers = count()
    with ExitStack() as stack:
        running: list[RunningLanes] = []

        def move(*objects: dict[str, Any]) -> RunningLanes:
            number = str(next(numbers))
            everything = deepcopy(list(objects))
            # A Service that nobody calls: even the manifests of before are something to move to.
            service = next(one for one in objects if one["kind"] == "Service")
            everything.append(service | {"metadata": service["metadata"] | {"name": f"n{number}"}})
            if any(one["spec"].get("isPermissive") for one in everything):
                # On connections that are kept, a sidecar still goes by the trace header of before:
                # each pod has to be a new one.
                for one in everything:
                    app = one["metadata"]["name"].rpartition("-")[0]
                    set_env([one], app, generation=number)
            before = len(running[0].events) if running else 0
            write(path, *everything)
            if running:
                running[0].wait_for("moved", before)
            else:
                started = lanes(path, folder=folder, options=("--watch",))
                running.append(stack.enter_context(started))
            return running[0]

        yield move
        if running:
            assert running[0].stop() == 0
