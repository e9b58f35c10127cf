"""`make test-fast` leaves out what is marked `slow`: what starts an Envoy, a browser or hops."""

from __future__ import annotations

import gc
import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

# On a busy machine an example may take any time: speed is never asserted.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

_started: list[list[str]] = []
"""The commands of the processes that the current test has started."""


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    # https://docs.python.org/3/library/subprocess.html: executable, args, cwd, env.
    if event == "subprocess.Popen":
        command = arguments[1]
        words = [command] if isinstance(command, (str, bytes)) else command
        _started.append([os.fsdecode(word) for word in words])


sys.addaudithook(_note)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let the garbage collector leave alone what stays to the end: modules, and the tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that at the end no worker goes on with it alone."""

    def seconds(item: pytest.Item) -> float:
        timeout = item.get_closest_marker("timeout")
        return timeout.args[0] if timeout else 0.0

    items.sort(key=lambda item: (-seconds(item), item.get_closest_marker("slow") is None))


def is_heavy(command: Sequence[str]) -> bool:
    """Whether a command starts an Envoy or a browser."""
    name = Path(command[0]).name
    return (
        name in ("envoy", "chromium", "chromium-headless-shell")
        or "playwright" in command[0]
        or ("mockservice", "lanes") in pairwise(command)
    )


@pytest.fixture(autouse=True)
def _only_slow_tests_start_an_envoy_or_a_browser(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    # What the fixtures of its module have started counts as started by the test.
    commands = _started.copy()
    _started.clear()
    if request.node.get_closest_marker("slow") is None:
        heavy = [command for command in commands if is_heavy(command)]
        assert heavy == [], "a test that starts an Envoy or a browser must be marked slow"
