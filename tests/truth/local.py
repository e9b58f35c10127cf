"""The side of local lanes: mockservice's own translation, carried out by its own Envoy."""

from __future__ import annotations

import json
import socket
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from mockservice.lanes.addresses import Network
from mockservice.lanes.envoy import GATEWAY_IP, configuration
from mockservice.lanes.errors import LanesError
from mockservice.lanes.processes import Processes
from mockservice.lanes.proxy import Proxy
from mockservice.manifests.checks import check
from mockservice.manifests.documents import read
from mockservice.mesh.errors import RefusedError
from mockservice.mesh.translate import translate
from tests.truth.hops import Hops, Pod, Way

_TIMEOUT: Final = 30.0

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from mockservice.lanes.addresses import Place
    from mockservice.lanes.envoy import Configuration
    from mockservice.manifests.documents import Document
    from mockservice.mesh.model import Mesh, Note
    from mockservice.mesh.model import Pod as MeshPod
    from tests.truth.cases import Json
    from tests.truth.hops import Address


class _Proxy(Proxy):
    """An Envoy that moves at once, as nobody sends requests meanwhile."""

    async def jump_to(self, configuration: Configuration) -> None:
        """Move to a configuration.

        Raises:
            RefusedError: Envoy rejects the first one.
            LanesError: it rejects another one.
        """
        if self._child is None:
            # One that starts does not tell which routes it rejects.
            await self.validate(configuration)
            await self.move_to(configuration)
            return
        await self._apply(configuration)
        if configuration.listeners != self._last.listeners:
            await self._until_listening(configuration, _TIMEOUT)
        await self._until_worker_is_current(configuration)
        self._last = configuration


class Local:
    """Local lanes that move from case to case; the tests' hops take the place of processes."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as exits:
            self.folder = Path(tempfile.mkdtemp(prefix="truth-"))
            processes = Processes(self.folder, lambda _name, _line: None)
            exits.callback(processes.close)
            self._network = Network()
            exits.callback(self._network.close)
            self.gateway = (GATEWAY_IP, self._network.gateway_port(_free_port()))
            self._proxy = _Proxy(self.folder, processes)
            exits.push_async_callback(self._proxy.stop)
            self.hops = Hops(self._reach)
            exits.callback(self.hops.close)
            self._documents: dict[str, Document] = {}
            self._places: dict[MeshPod, Place] = {}
            self._outbound: dict[tuple[str, str], Address] = {}
            self._exits = exits.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._exits.aclose()

    async def move_to(self, objects: Iterable[Json]) -> tuple[Note, ...]:
        """Move to other manifests.

        Returns:
            What local lanes note on them.

        Raises:
            RefusedError: local lanes refuse them.
        """
        mesh = self._mesh(objects)
        for pod in mesh.pods:
            if pod not in self._places:
                self._places[pod] = self._network.place(pod.port)
        places = {pod: self._places[pod] for pod in mesh.pods}
        await self.hops.serve(
            {
                (place.ip, place.port): Pod(
                    pod.namespace,
                    pod.name,
                    pod.app,
                    pod.version,
                    tuple(url for url in dict(pod.env).get("upstream_url", "").split(",") if url),
                )
                for pod, place in places.items()
            }
        )
        self._outbound = {
            (pod.namespace, pod.name): (place.ip, place.outbound) for pod, place in places.items()
        }
        wanted = configuration(mesh, places, mesh.pods, self.gateway[1])
        try:
            await self._proxy.jump_to(wanted)
        except LanesError as error:
            await self._proxy.restore()
            # Local lanes let another Envoy validate it first, which takes longer.
            raise RefusedError([str(error)]) from error
        return mesh.notes

    def _mesh(self, objects: Iterable[Json]) -> Mesh:
        """What `load` makes of files with these objects; most are those of the case before."""
        documents = []
        for item in objects:
            text = json.dumps(item)
            if text not in self._documents:
                path = self.folder / f"{item['kind']}.yaml"
                path.write_text(text)
                (self._documents[text],) = read([path])
            documents.append(self._documents[text])
        if problems := check(documents):
            raise RefusedError([str(problem) for problem in problems])
        return translate(documents)

    def _reach(self, caller: tuple[str, str], host: str, port: int) -> Way:
        """A pod calls through its sidecar, which knows the host."""
        del host, port
        return Way(self._outbound[caller])


def _free_port() -> int:
    with socket.socket() as candidate:
        candidate.bind((GATEWAY_IP, 0))
        return int(candidate.getsockname()[1])
