"""Rolling restarts of every hop behind the local Envoy, under load: none of its requests fails."""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mockservice.lanes.local import LocalLanes
from tests.lanes.building import CHAIN, MOCKA, at_gateway, chain, gateway, set_env, to, write
from tests.proof.finding import Extent, Finding
from tests.proof.load import Load

if TYPE_CHECKING:
    from collections.abc import Iterator

_REPLICAS = 2
_CONNECTIONS = 8
_WHOLE = re.compile(rb"-> mocka\(.*\)-> mockb\(.*\)-> mockc\(version: v1, ip: [\d.]+\)")


def _pods(restarts: dict[str, int]) -> list[dict[str, object]]:
    """A chain whose pods are others after each restart."""
    objects = chain(**dict.fromkeys(CHAIN, "v1"))
    for item in objects:
        if item["kind"] == "Deployment":
            item["spec"]["replicas"] = _REPLICAS
    for app, number in restarts.items():
        set_env(objects, app, restarted=str(number))
    return [*objects, gateway(), at_gateway({"route": [to(MOCKA)]})]


async def _roll(folder: Path, times: int, pause: float) -> tuple[Load, int]:
    manifests = folder / "mock.yaml"
    restarts = dict.fromkeys(CHAIN, 0)
    write(manifests, *_pods(restarts))
    seen: set[str] = set()
    async with LocalLanes([manifests]) as lanes:
        gateway_url = urlsplit(lanes.gateway_url)
        load = Load(
            gateway_url.hostname or "",
            lambda status, body: status == 200 and _WHOLE.fullmatch(body) is not None,
            port=gateway_url.port or 80,
            connections=_CONNECTIONS,
            pause=pause,
        )
        running = asyncio.create_task(load.run())
        for _ in range(times):
            for app in CHAIN:
                restarts[app] += 1
                write(manifests, *_pods(restarts))
                assert await lanes.reload()
                seen |= {one.place.ip for one in lanes.pods}
        await asyncio.sleep(0.5)
        load.stop()
        await running
    return load, len(seen)


def prove(extent: Extent) -> Iterator[Finding]:
    """Restart each hop, one after the other."""
    times = 1 if extent.short else 20
    with tempfile.TemporaryDirectory() as folder:
        load, pods = asyncio.run(_roll(Path(folder), times, 0.005 if extent.short else 0.002))
    first = f": {load.failed[0]}" if load.failed else ""
    yield Finding(
        "rolling: restarts of every hop behind Envoy",
        f"{times} of each of 3 hops, {_REPLICAS} pods each",
        f"{load.answered:,} right, {len(load.failed)} failed{first}",
        "0 failed",
        not load.failed and load.answered > 100 * times and pods >= 2 * times,
    )
