"""Local lanes: runs a mesh on this machine, with pods as processes behind one Envoy."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

from mockservice.lanes.addresses import Network, Place
from mockservice.lanes.asking import is_ready
from mockservice.lanes.envoy import GATEWAY_IP, configuration, sidecar_name
from mockservice.lanes.errors import LanesError
from mockservice.lanes.processes import Processes
from mockservice.lanes.proxy import Proxy
from mockservice.mesh.hops import matched_headers
from mockservice.mesh.load import load
from mockservice.mesh.model import Mesh, Pod
from mockservice.mesh.survey import read_lane_map

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from types import TracebackType

    from mockservice.chain import Chain
    from mockservice.lanes.envoy import Configuration
    from mockservice.lanes.processes import Child, Log
    from mockservice.lanes.replacement import Joined, Replacement
    from mockservice.mesh.lane_map import Entrance, LaneMap
    from mockservice.mesh.overrides import Overrides

State = Literal["starting", "ready", "down", "restarting", "draining"]
"""`down`: nothing listens where the process is to answer that replaces it."""

_READY_TIMEOUT: Final = 30.0
_DRAIN_TIMEOUT: Final = 10.0
_STOP_TIMEOUT: Final = 12.0
"""Seconds; a little more than a hop needs to drain."""
_POLL: Final = 0.03
_REPLACEMENT_POLL: Final = 1.0
_RESTART_DELAY: Final = 1.0
_MAX_RESTART_DELAY: Final = 30.0


@dataclass(eq=False, slots=True)
class LocalPod:
    """A pod and its process."""

    pod: Pod
    place: Place
    lane: str
    state: State = "starting"
    child: Child | None = field(default=None, repr=False)
    supervisor: asyncio.Task[None] | None = field(default=None, repr=False)
    replacement: Replacement | None = field(default=None, repr=False)
    """The process that answers in its place, if there is one."""
    joined: Joined | None = field(default=None, repr=False)

    @property
    def env(self) -> dict[str, str]:
        """The manifest's environment, plus the local address and the sidecar as proxy."""
        place = self.place
        env = dict(self.pod.env) | {"host": place.ip, "port": str(place.port)}
        # HTTPS calls bypass the sidecar.
        urls = [url.strip() for url in env.get("upstream_url", "").split(",")]
        if not all(url.startswith("https:") for url in urls):
            env["upstream_proxy"] = f"http://{place.ip}:{place.outbound}"
        return env


class LocalLanes:
    """Runs the mesh of some manifests on this machine for the duration of `async with`.

        async with LocalLanes(["k8s/workloads", "k8s/asm/strict"]) as lanes:
            ...  # GET lanes.gateway_url

    Args:
        paths: manifest files and folders of manifests.
        port: of the gateway; None for 8080 or, if that is in use, a free one.
        log: called with each line that a process writes, after the name of its pod or `envoy`.
        changed: called after a pod has changed its state and after the routes have changed.
        strict: whether every note on what the manifests ask for is a refusal.
        recursive: whether folders in folders are read too.
        overrides: what else there is to know of the workloads.

    Raises, from `async with`:
        RefusedError: the manifests are invalid or not supported.
        LanesError: a pod or Envoy does not start.
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        port: int | None = None,
        log: Log = lambda _name, _line: None,
        changed: Callable[[], None] = lambda: None,
        *,
        strict: bool = False,
        recursive: bool = False,
        overrides: Overrides | None = None,
    ) -> None:
        self.paths = [Path(path) for path in paths]
        self.pods: list[LocalPod] = []
        self._port = port
        self._log = log
        self._changed = changed
        self._load = partial(load, strict=strict, recursive=recursive, overrides=overrides)
        self._replacements: dict[str, Replacement] = {}
        self._chains: dict[str, Chain] = {}
        self._mesh = Mesh()
        self._lane_map = read_lane_map(self._mesh)
        self._moving = asyncio.Lock()
        self._exits = AsyncExitStack()
        self._joins = AsyncExitStack()
        self._joining = asyncio.Lock()

    async def __aenter__(self) -> Self:
        mesh = self._load(self.paths)
        async with AsyncExitStack() as exits:
            folder = Path(tempfile.mkdtemp(prefix="lanes-"))
            self._processes = Processes(folder, self._log)
            exits.callback(self._processes.close)
            self._network = Network()
            exits.callback(self._network.close)
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
        """The ingress gateway's URL, without a path and without a trailing slash."""
        return f"http://{GATEWAY_IP}:{self._port}"

    @property
    def lane_map(self) -> LaneMap:
        """The lanes, and what each is owed."""
        return self._lane_map

    @property
    def replacements(self) -> list[Replacement]:
        """The processes that answer in place of pods."""
        return [one for one in self._replacements.values() if one.joined]

    def url(self, entrance: Entrance | None) -> str:
        """Where an entrance is at this gateway; the gateway's root where there is none."""
        return f"{self.gateway_url}{'/' if entrance is None else entrance.path}"

    async def reload(self) -> bool:
        """Read the manifests again and move to them without losing a request.

        If this raises, everything keeps running as before.

        Returns:
            Whether anything has changed.

        Raises:
            RefusedError: the manifests are invalid or not supported.
            LanesError: a new pod does not start, or Envoy rejects the routes.
        """
        mesh = self._load(self.paths)
        if mesh == self._mesh:
            # Only line numbers differ.
            self._mesh = mesh
            self._lane_map = read_lane_map(mesh)
            return False
        await self._move_to(mesh)
        return True

    async def failed(self) -> str:
        """Wait until Envoy ends, without which lanes cannot run; return the reason."""
        return await self._proxy.ended()

    async def _move_to(self, mesh: Mesh) -> None:
        async with self._moving:
            before = self.pods
            kept = [running for running in before if running.pod in mesh.pods]
            removed = [running for running in before if running.pod not in mesh.pods]
            known = {running.pod for running in kept}
            new = [
                LocalPod(pod, self._network.place(pod.port), mesh.lane_of(pod))
                for pod in mesh.pods
                if pod not in known
            ]
            try:
                await self._proxy.validate(self._configuration(mesh, kept + new))
                self.pods = kept + new + removed
                await _gather(self._start(running) for running in new)
                await self._proxy.move_to(self._configuration(mesh, kept + new))
            except BaseException:
                self.pods = before
                await self._proxy.restore()
                await _gather(self._end(running) for running in new)
                raise
            self._mesh = mesh
            self._lane_map = read_lane_map(mesh)
            for running in kept:
                running.lane = mesh.lane_of(running.pod)
            self._tell_headers()
            await self._drain(removed)
            self.pods = kept + new
            await self._proxy.trim()
            self._changed()

    async def _drain(self, removed: list[LocalPod]) -> None:
        """Stop pods that get no new requests, once they have answered those in flight."""
        if removed:
            for running in removed:
                running.state = "draining"
            self._changed()
            idle = [sidecar_name(running.pod, running.place) for running in removed]
            await self._proxy.until_idle(idle, _DRAIN_TIMEOUT)
            await _gather(self._end(running) for running in removed)

    def _configuration(self, mesh: Mesh, running: list[LocalPod]) -> Configuration:
        places = {one.pod: one.place for one in running}
        # In place of what is down, its replacement says so.
        ready = [one.pod for one in running if one.state in ("ready", "starting", "down")]
        return configuration(mesh, places, ready, self._port or 0)

    async def _start(self, running: LocalPod) -> None:
        if running.pod.replaced_by is not None:
            running.replacement = await self._replacement(running.pod.replaced_by)
            running.joined = await running.replacement.join(running.pod, running.place)
            running.state = "ready" if await running.replacement.is_up() else "down"
            running.supervisor = asyncio.create_task(self._follow(running, running.replacement))
            self._changed()
            return
        await self._launch(running)
        running.supervisor = asyncio.create_task(self._supervise(running))

    async def _replacement(self, url: str) -> Replacement:
        """The process at a URL, which may replace several pods.

        Raises:
            LanesError: its proxy cannot listen.
        """
        # Its client and server take long to import.
        from mockservice.lanes.replacement import Replacement

        async with self._joining:
            if url not in self._replacements:
                replacement = Replacement(url, self._chains)
                await self._joins.enter_async_context(replacement)
                self._replacements[url] = replacement
        return self._replacements[url]

    async def _follow(self, running: LocalPod, replacement: Replacement) -> None:
        """Tell whether the process is there that replaces a pod."""
        while True:
            await asyncio.sleep(_REPLACEMENT_POLL)
            state: State = "ready" if await replacement.is_up() else "down"
            if state != running.state:
                running.state = state
                self._changed()

    def _tell_headers(self) -> None:
        """Let the replacements of pods know all headers that rules match, and all Services."""
        names = matched_headers(self._mesh.calls, self._mesh.carriers)
        for replacement in self._replacements.values():
            replacement.carry(names)
            replacement.know(service.host for service in self._mesh.services)

    async def _launch(self, running: LocalPod) -> None:
        """Start a pod's process and wait until it is ready.

        Raises:
            LanesError: the process ends or takes too long.
        """
        child = await self._processes.start_pod(str(running.pod), running.env)
        running.child = child
        self._changed()
        with suppress(TimeoutError):
            async with asyncio.timeout(_READY_TIMEOUT):
                while child.is_running:
                    if await is_ready(running.place.ip, running.place.port):
                        running.state = "ready"
                        self._changed()
                        return
                    await asyncio.sleep(_POLL)
        reason = (
            f"is not ready within {_READY_TIMEOUT:g} s" if child.is_running else "does not start"
        )
        await child.stop(_STOP_TIMEOUT)
        raise LanesError(f"{running.pod} {reason}: {' '.join(child.last_lines)}")

    async def _supervise(self, running: LocalPod) -> None:
        """Restart a pod's process whenever it ends; send it no requests until it is ready."""
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
        """Let Envoy route to the pods that are ready now."""
        async with self._moving:
            current = [one for one in self.pods if one.pod in self._mesh.pods]
            await self._proxy.move_to(self._configuration(self._mesh, current))
            await self._proxy.trim()

    async def _end(self, running: LocalPod) -> None:
        """Drain and stop a pod's process."""
        if running.supervisor is not None:
            running.supervisor.cancel()
            with suppress(asyncio.CancelledError):
                await running.supervisor
        if running.child is not None:
            await running.child.stop(_STOP_TIMEOUT)
        if running.replacement is not None and running.joined is not None:
            await running.replacement.leave(running.joined)

    async def _stop(self) -> None:
        await self._proxy.close_gateway(_DRAIN_TIMEOUT)
        for running in self.pods:
            running.state = "draining"
        self._changed()
        await _gather(self._end(running) for running in self.pods)
        self.pods = []
        await self._joins.aclose()
        await self._proxy.stop()


async def _gather(tasks: Iterable[Coroutine[None, None, None]]) -> None:
    """Wait until all tasks have ended, then raise the first error."""
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
