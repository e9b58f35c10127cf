"""`LocalLanes` in a program of one's own, and the sidecars from within."""

from __future__ import annotations

import asyncio
import os
import signal
from copy import deepcopy
from typing import TYPE_CHECKING

import aiohttp
import pytest

from mockservice.lanes import addresses, envoy, proxy
from mockservice.lanes.errors import LanesError
from mockservice.lanes.local import LocalLanes
from mockservice.mesh.errors import RefusedError
from tests.lanes.building import (
    CHAIN,
    MOCKA,
    UNFIT,
    at_gateway,
    chain,
    gateway,
    service,
    set_env,
    to,
    write,
)
from tests.lanes.running import (
    TIMEOUT,
    descendants,
    is_running,
    name_of,
    parent_of,
    versions_in,
)
from tests.lanes.test_lanes import TRACE_ID, permissive

if TYPE_CHECKING:
    from pathlib import Path

    from mockservice.lanes.local import LocalPod

pytestmark = pytest.mark.slow

PLAIN = [
    *chain(mocka="v1", mockb="v1", mockc="v1"),
    gateway(),
    at_gateway({"match": [{"uri": {"exact": "/mock"}}], "route": [to(MOCKA)]}),
]


async def get(url: str, proxy: str | None = None, **headers: str) -> str:
    """The versions of the hops that answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, proxy=proxy, headers=named) as response,
    ):
        assert response.status == 200, await response.text()
        return versions_in(await response.text())


def pod_of(lanes: LocalLanes, name: str) -> LocalPod:
    """A pod by its name."""
    return next(one for one in lanes.pods if one.pod.name == name)


async def call_from(pod: LocalPod, url: str, **headers: str) -> str:
    """Call as the service in a pod does: by its sidecar."""
    return await get(url, f"http://{pod.place.ip}:{pod.place.outbound}", **headers)


async def test_lanes_run_as_long_as_their_block(tmp_path: Path) -> None:
    states: list[list[str]] = []

    def changed() -> None:
        states.append([one.state for one in lanes.pods])

    lanes = LocalLanes([write(tmp_path / "mock.yaml", *PLAIN)], changed=changed)
    async with lanes:
        assert lanes.url(lanes.lane_map.example) == f"{lanes.gateway_url}/mock"
        assert await get(f"{lanes.gateway_url}/mock") == "v1 v1 v1"
        assert not await lanes.reload()
    assert states[0] == ["starting"] * 3
    assert ["ready"] * 3 in states
    assert states[-1] == ["draining"] * 3
    with pytest.raises(aiohttp.ClientConnectorError):
        await get(f"{lanes.gateway_url}/mock")


async def test_pods_have_ports_of_one_address_where_that_is_all_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "_MANY_ADDRESSES", False)
    objects = permissive({**TRACE_ID, "traceHeader": "my-trace-id"})
    async with LocalLanes([write(tmp_path / "mock.yaml", *objects)]) as lanes:
        assert {one.place.ip for one in lanes.pods} == {"127.0.0.1"}
        assert len({one.place.port for one in lanes.pods}) == 6
        url = f"{lanes.gateway_url}/mock"
        assert await get(url, my_trace_id="1", x_journey_lane="s2") == "v2 v1 v2"
        assert await get(url, my_trace_id="2", x_journey_lane="s3") == "v1 v3 v1"


async def test_sidecars_remember_what_their_own_pod_was_called_with_and_not_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = envoy._sidecar_script
    monkeypatch.setattr(
        envoy, "_sidecar_script", lambda *of: script(*of).replace("LIMIT = 10000", "LIMIT = 2")
    )
    objects = permissive(TRACE_ID)
    async with LocalLanes([write(tmp_path / "mock.yaml", *objects)]) as lanes:
        caller, other = pod_of(lanes, "mocka-v2-0"), pod_of(lanes, "mocka-v1-0")
        mockc = "http://mockc:8000/"
        url = f"{lanes.gateway_url}/mock"
        await get(url, x_journey="1", x_journey_lane="s2")
        assert await call_from(caller, mockc, x_journey="1") == "v2"
        assert await call_from(caller, mockc, x_journey="2") == "v1"
        assert await call_from(caller, mockc) == "v1"
        assert await call_from(other, mockc, x_journey="1") == "v1"
        # A call that comes in without a lane ends what an earlier one of its trace said.
        inbound = f"http://{caller.place.ip}:{caller.place.inbound}/"
        await get(inbound, x_journey="1")
        assert await call_from(caller, mockc, x_journey="1") == "v1"
        await get(url, x_journey="1", x_journey_lane="s2")
        for number in range(10, 15):
            assert await call_from(caller, mockc, x_journey="1") == ("v2" if number < 14 else "v1")
            await get(url, x_journey=str(number), x_journey_lane="s2")


async def test_a_pod_may_listen_where_sidecars_do(tmp_path: Path) -> None:
    objects = deepcopy(PLAIN)
    for app, port in (("mocka", 15001), ("mockb", 15006)):
        set_env(objects, app, port=str(port))
        found = next(item for item in objects if item["metadata"]["name"] == app)
        found["spec"]["ports"][0]["targetPort"] = port
    async with LocalLanes([write(tmp_path / "mock.yaml", *objects)]) as lanes:
        assert await get(f"{lanes.gateway_url}/mock") == "v1 v1 v1"


async def test_a_call_to_no_service_of_the_manifests_is_told_so(tmp_path: Path) -> None:
    async with LocalLanes([write(tmp_path / "mock.yaml", *PLAIN)]) as lanes:
        with pytest.raises(AssertionError, match="no such Service"):
            await call_from(lanes.pods[0], "http://elsewhere:8000/")


async def test_what_cannot_run_is_refused_before_anything_starts(tmp_path: Path) -> None:
    logged: list[str] = []
    lanes = LocalLanes(
        [write(tmp_path / "mock.yaml", *PLAIN, {**service("x"), "kind": "Endpoint"})],
        log=lambda name, line: logged.append(f"{name} {line}"),
    )
    with pytest.raises(RefusedError, match="Endpoint x: kind: not supported by local lanes"):
        await lanes.__aenter__()
    assert lanes.pods == []


async def test_a_pod_that_cannot_start_ends_the_start(tmp_path: Path) -> None:
    broken = deepcopy(PLAIN)
    set_env(broken, "mockb", **UNFIT)
    lanes = LocalLanes([write(tmp_path / "mock.yaml", *broken)])
    reason = "OTEL_EXPORTER_OTLP_PROTOCOL='grpc': must be http/protobuf"
    with pytest.raises(LanesError, match=f"^mockb-v1-0 does not start: .*{reason}"):
        await lanes.__aenter__()
    assert lanes.pods == []


async def test_pods_are_started_again_even_if_what_they_are_forked_off_is_killed(
    tmp_path: Path,
) -> None:
    others = descendants(os.getpid())
    async with LocalLanes([write(tmp_path / "mock.yaml", *PLAIN)]) as lanes:
        own = set(descendants(os.getpid())).difference(others)
        [pod] = (pid for pid in own if name_of(pid) == "mocka-v1-0")
        os.kill(parent_of(pod), signal.SIGKILL)
        async with asyncio.timeout(TIMEOUT):
            while [one.state for one in lanes.pods] != ["restarting"] * 3:
                await asyncio.sleep(0.02)
            assert not is_running(pod)
            async with aiohttp.ClientSession(lanes.gateway_url) as session:
                while (await session.get("/mock")).status != 200:
                    await asyncio.sleep(0.02)
        assert await get(f"{lanes.gateway_url}/mock") == "v1 v1 v1"


async def test_another_trace_header_counts_on_connections_that_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy, "_DRAIN_TIME", 2)
    path = tmp_path / "mock.yaml"
    before, after = permissive(TRACE_ID), permissive(TRACE_ID | {"traceHeader": "x-other"})
    for objects in (before, after):
        for app in CHAIN:
            set_env(objects, app, lane_headers="x-journey, x-other")
    async with LocalLanes([write(path, *before)]) as lanes:
        url = f"{lanes.gateway_url}/mock"
        # The pods keep these connections. No hop carries the route header: only sidecars know it.
        for number in range(4):
            tags = {"x_journey_lane": "s2", "x_journey": f"old-{number}"}
            assert await get(url, **tags) == "v2 v1 v2"
        write(path, *after)
        assert await lanes.reload()
        for number in range(4):
            tags = {"x_journey_lane": "s2", "x_other": f"new-{number}"}
            assert await get(url, **tags) == "v2 v1 v2"
