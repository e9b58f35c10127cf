"""Local lanes: pods as processes behind one Envoy, kept in step with a folder of manifests."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

import aiohttp

import mockservice
from mockservice.lanes.addresses import Network, Place
from mockservice.lanes.envoy import GATEWAY_IP, configuration, sidecar_name
from mockservice.lanes.errors import LanesError
from mockservice.lanes.processes import Processes
from mockservice.lanes.proxy import Proxy
from mockservice.manifests.checks import check
from mockservice.manifests.documents import ManifestError, read
from mockservice.mesh.errors import RefusedError
from mockservice.mesh.expected import (
    baseline,
    example_headers,
    expected_weights,
    routes_by_path,
)
from mockservice.mesh.model import Mesh, Pod
from mockservice.mesh.translate import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from types import TracebackType

    from mockservice.lanes.envoy import Configuration
    from mockservice.lanes.processes import Child, Log
    from mockservice.mesh.model import Pairs

State = Literal["starting", "ready", "restarting", "draining"]

_READY_TIMEOUT: Final = 30.0
_DRAIN_TIMEOUT: Final = 10.0
_STOP_TIMEOUT: Final = 12.0
"""Seconds: somewhat more than a hop takes to drain."""
_POLL: Final = 0.03
_RESTART_DELAY: Final = 1.0
_MAX_RESTART_DELAY: Final = 30.0

# The hops' own package, for the case that it is not installed.
_PYTHONPATH: Final = str(Path(mockservice.__file__).parents[1])


@dataclass(eq=False, slots=True)
class LocalPod:
    """A pod and the process that it is."""

    pod: Pod
    place: Place
    lane: str
    state: State = "starting"
    child: Child | None = field(default=None, repr=False)
    keeper: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def env(self) -> dict[str, str]:
        """The manifest's environment, and where on this machine the service listens and calls."""
        place = self.place
        env = dict(self.pod.env) | {"host": place.ip, "port": str(place.port)}
        # What is encrypted passes a sidecar by.
        if not env.get("upstream_url", "").startswith("https:"):
            env["upstream_proxy"] = f"http://{place.ip}:{place.outbound}"
        return env | {"PYTHONPATH": _PYTHONPATH}


def load(paths: Iterable[Path]) -> Mesh:
    """Read, check and translate manifests.

    Raises:
        RefusedError: something in them is wrong or not supported.
    """
    try:
        documents = read(paths)
    except ManifestError as error:
        raise RefusedError(str(error).splitlines()) from None
    if problems := check(documents):
        raise RefusedError([str(problem) for problem in problems])
    mesh = translate(documents)
    for needed, found in (("a Deployment", mesh.pods), ("a route at a Gateway", mesh.gateway)):
        if not found:
            raise RefusedError([f"{', '.join(map(str, paths))}: must hold {needed}"])
    return mesh


class LocalLanes:
    """A mesh of manifests that runs on this machine, from `async with` to its end.

        async with LocalLanes(["k8s/workloads", "k8s/asm/strict"]) as lanes:
            ...  # GET lanes.gateway_url

    Args:
        paths: manifests: files, and folders of them.
        port: of the gateway; by default 8080 or, where that is taken, a free one.
        log: takes each line that a process writes, with the name of its pod or `envoy`.
        changed: is called when a pod has changed its state, and when routes have moved.

    Raises, from `async with`:
        RefusedError: something in the manifests is wrong or not supported.
        LanesError: a pod or Envoy does not start.
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        port: int | None = None,
        log: Log = lambda _name, _line: None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.paths = [Path(path) for path in paths]
        self.pods: list[LocalPod] = []
        self._port = port
        self._log = log
        self._changed = changed
        self._mesh = Mesh()
        self._moving = asyncio.Lock()
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        mesh = load(self.paths)
        async with AsyncExitStack() as exits:
            folder = Path(tempfile.mkdtemp(prefix="lanes-"))
            self._processes = Processes(folder, self._log)
            exits.callback(self._processes.close)
            self._network = Network()
            exits.callback(self._network.close)
            self._http = aiohttp.ClientSession()
            exits.push_async_callback(self._http.close)
            self._port = self._network.gateway_port(self._port)
            self._proxy = Proxy(folder, self._processes)
            exits.push_async_callback(self._stop)
            await self._move_to(mesh)
            self._exits = exits.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._exits.aclose()

    @property
    def gateway_url(self) -> str:
        """Where the ingress gateway is, without a path and without a slash at the end."""
        return f"http://{GATEWAY_IP}:{self._port}"

    @property
    def example_url(self) -> str:
        """A URL to begin with: the gateway's first route that names a path, at the gateway."""
        _, _, path = next(routes_by_path(self._mesh), (None, None, "/"))
        return self.gateway_url + path

    @property
    def expected_weights(self) -> dict[str, float] | None:
        """The weights of the versions behind `example_url`, where the routes tell them."""
        return expected_weights(self._mesh)

    @property
    def example_headers(self) -> Pairs:
        """Headers for `example_url`, where the routes ask for some to enter a lane."""
        return example_headers(self._mesh)

    @property
    def baseline(self) -> str | None:
        """The version that stands in for lanes that do not hold a service, if one does."""
        return baseline(self._mesh)

    async def reload(self) -> bool:
        """Read the manifests again and move to what they say, without losing a request.

        What runs goes on as it is where this raises.

        Returns:
            Whether there was anything to move to.

        Raises:
            RefusedError: something in the manifests is wrong or not supported.
            LanesError: a new pod does not start, or Envoy does not take the routes.
        """
        mesh = load(self.paths)
        if mesh == self._mesh:
            # The same but for the lines that things stand on.
            self._mesh = mesh
            return False
        await self._move_to(mesh)
        return True

    async def failed(self) -> str:
        """Wait until local lanes cannot go on, which is when Envoy ends; why."""
        return await self._proxy.ended()

    async def _move_to(self, mesh: Mesh) -> None:
        async with self._moving:
            before = self.pods
            kept = [running for running in before if running.pod in mesh.pods]
            gone = [running for running in before if running.pod not in mesh.pods]
            known = {running.pod for running in kept}
            new = [
                LocalPod(pod, self._network.place(pod.port), mesh.lane_of(pod))
                for pod in mesh.pods
                if pod not in known
            ]
            try:
                await self._proxy.validate(self._configuration(mesh, kept + new))
                self.pods = kept + new + gone
                await _all(self._start(running) for running in new)
                await self._proxy.move_to(self._configuration(mesh, kept + new))
            except BaseException:
                self.pods = before
                await self._proxy.restore()
                await _all(self._end(running) for running in new)
                raise
            self._mesh = mesh
            for running in kept:
                running.lane = mesh.lane_of(running.pod)
            await self._drain(gone)
            self.pods = kept + new
            await self._proxy.trim()
            self._changed()

    async def _drain(self, gone: list[LocalPod]) -> None:
        """End pods that get no new requests any more, once they have answered the old ones."""
        if gone:
            for running in gone:
                running.state = "draining"
            self._changed()
            idle = [sidecar_name(running.pod, running.place) for running in gone]
            await self._proxy.until_idle(idle, _DRAIN_TIMEOUT)
            await _all(self._end(running) for running in gone)

    def _configuration(self, mesh: Mesh, running: list[LocalPod]) -> Configuration:
        places = {one.pod: one.place for one in running}
        ready = [one.pod for one in running if one.state in ("ready", "starting")]
        return configuration(mesh, places, ready, self._port or 0)

    async def _start(self, running: LocalPod) -> None:
        await self._launch(running)
        running.keeper = asyncio.create_task(self._keep(running))

    async def _launch(self, running: LocalPod) -> None:
        """Start a pod's process and wait until it is ready.

        Raises:
            LanesError: it ends instead, or takes too long.
        """
        command = [sys.executable, "-P", "-m", "mockservice", "serve"]
        child = await self._processes.start(str(running.pod), command, running.env)
        running.child = child
        self._changed()
        url = f"http://{running.place.ip}:{running.place.port}/readyz"
        with suppress(TimeoutError):
            async with asyncio.timeout(_READY_TIMEOUT):
                while child.is_running:
                    with suppress(aiohttp.ClientError):
                        async with self._http.get(url) as response:
                            if response.status == HTTPStatus.OK:
                                running.state = "ready"
                                self._changed()
                                return
                    await asyncio.sleep(_POLL)
        reason = "is not ready in time" if child.is_running else "does not start"
        await child.stop(_STOP_TIMEOUT)
        raise LanesError(f"{running.pod} {reason}: {' '.join(child.last_lines)}")

    async def _keep(self, running: LocalPod) -> None:
        """Start a pod's process again whenever it ends, and route around it meanwhile."""
        delay = _RESTART_DELAY
        while running.child is not None:
            await running.child.wait()
            running.state = "restarting"
            self._changed()
            try:
                await self._route()
                await asyncio.sleep(delay)
                await self._launch(running)
                await self._route()
                delay = _RESTART_DELAY
            except LanesError as error:
                self._log(str(running.pod), str(error))
                delay = min(2 * delay, _MAX_RESTART_DELAY)

    async def _route(self) -> None:
        """Move Envoy to the pods that are ready now."""
        async with self._moving:
            current = [one for one in self.pods if one.pod in self._mesh.pods]
            await self._proxy.move_to(self._configuration(self._mesh, current))
            await self._proxy.trim()

    async def _end(self, running: LocalPod) -> None:
        """Drain a pod and end its process."""
        if running.keeper is not None:
            running.keeper.cancel()
            with suppress(asyncio.CancelledError):
                await running.keeper
        if running.child is not None:
            await running.child.stop(_STOP_TIMEOUT)

    async def _stop(self) -> None:
        await self._proxy.close_gateway(_DRAIN_TIMEOUT)
        for running in self.pods:
            running.state = "draining"
        self._changed()
        await _all(self._end(running) for running in self.pods)
        self.pods = []
        await self._proxy.stop()


async def _all(tasks: Iterable[Coroutine[None, None, None]]) -> None:
    """Wait for all of them to end; the first error among them is raised then."""
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
