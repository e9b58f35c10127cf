"""The page's server: whom it answers, what every answer says, and what a stream carries."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from mockservice.chain import Chain
from mockservice.mesh.load import load
from mockservice.mesh.survey import read_lane_map
from mockservice.probe.judge import ByMap, ByVersion
from mockservice.ui.server import MAX_STREAMS, PageServer
from mockservice.ui.view import View
from tests.lanes.running import K8S
from tests.probe.gateway import Answer, chain, gateway
from tests.running import Response, request
from tests.ui.sending import wait_until_nothing_comes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

Socket = aiohttp.ClientWebSocketResponse[bool]

NOWHERE = View("http://127.0.0.1:9/mock")
CONTROLS = {"rate": 50, "paused": False, "headers": []}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def get(page: PageServer, path: str = "", **headers: str) -> Response:
    return await asyncio.to_thread(request, page.url + path, headers)


def stream(session: aiohttp.ClientSession, page: PageServer, **headers: str) -> Any:
    """What connects to the page's stream, as the page does."""
    own = {"Origin": page.url.rstrip("/")}
    return session.ws_connect(f"{page.url}stream", headers=own | headers)


async def messages(socket: Socket, kind: str, count: int) -> list[Any]:
    """The next messages of a type."""
    found: list[Any] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            message = json.loads(await socket.receive_str())
            if message["type"] == kind:
                found.append(message)
    return found


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:{port}", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:{port}", 200),
        ("127.8.8.8", 200),
        ("[::1]:{port}", 200),
        ("evil.example:{port}", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("192.0.2.1:{port}", 403),
        ("2130706433", 403),
        ("[", 403),
    ],
)
async def test_it_answers_to_names_of_loopback_only(host: str, status: int) -> None:
    async with PageServer(NOWHERE, port=0) as page:
        name = host.format(port=urlsplit(page.url).port)
        for path in ("", "main.js", "stream", "nothing"):
            response = await get(page, path, Host=name, Origin=f"http://{name}")
            assert (response.status == 403) == (status == 403), path
            if status == 403:
                assert "must be a name of loopback, or 127.0.0.1" in response.text


async def test_it_answers_to_the_name_that_it_was_told() -> None:
    async with PageServer(NOWHERE, host="localhost", port=0) as page:
        assert page.url.startswith("http://localhost:")
        assert (await get(page)).status == 200
    async with PageServer(NOWHERE, host="0.0.0.0", port=0) as page:
        port = urlsplit(page.url).port
        url = f"http://127.0.0.1:{port}/"
        for host, status in (("192.0.2.1", 200), ("evil.example", 403)):
            answer = await asyncio.to_thread(request, url, {"Host": host})
            assert answer.status == status


async def test_every_answer_keeps_foreign_code_and_frames_out() -> None:
    async with PageServer(NOWHERE, port=0) as page:
        for path, headers in (("", {}), ("page.css", {}), ("x", {}), ("", {"Host": "evil"})):
            answer = await get(page, path, **headers)
            policy = answer.headers["Content-Security-Policy"]
            for rule in (
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "frame-ancestors 'none'",
                "require-trusted-types-for 'script'",
            ):
                assert rule in policy
            assert "unsafe" not in policy
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_page_names_only_files_that_are_there() -> None:
    async with PageServer(NOWHERE, port=0) as page:
        index = await get(page)
        assert index.headers["Content-Type"] == "text/html; charset=utf-8"
        named = re.findall(r'(?:src|href)="([^"]+)"', index.text)
        assert len(named) == 3
        seen = set()
        while named:
            name = named.pop()
            answer = await get(page, name)
            assert answer.status == 200, name
            seen.add(name)
            if name.endswith(".js"):
                imports = re.findall(r'from "\./([^"]+)"', answer.text)
                named += [one for one in imports if one not in seen]
        assert len(seen) > 8


@pytest.mark.parametrize("path", ["../server.py", "%2e%2e/server.py", "//etc/passwd", "page", "."])
async def test_nothing_but_the_page_is_served(path: str) -> None:
    async with PageServer(NOWHERE, port=0) as page:
        assert (await get(page, path)).status == 404


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "https://127.0.0.1"])
async def test_a_stream_is_for_the_page_alone(session: aiohttp.ClientSession, origin: str) -> None:
    async with PageServer(NOWHERE, port=0) as page:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with stream(session, page, Origin=origin):
                pass
        assert refused.value.status == 403
        async with stream(session, page) as socket:
            assert (await messages(socket, "view", 1))[0]["url"] == NOWHERE.url


async def test_a_stream_carries_the_view_and_the_results(session: aiohttp.ClientSession) -> None:
    with gateway(lambda *_: chain("v1 v1")) as asked:
        view = View(
            asked.url, judge=ByVersion("v1"), expected={"v1": 1}, headers=(("x-lane", "a"),)
        )
        async with PageServer(view, port=0) as page, stream(session, page) as socket:
            [said] = await messages(socket, "view", 1)
            assert said["weights"] == {"v1": 1}
            assert said["headers"] == ["x-lane: a"]
            await socket.send_json(CONTROLS | {"headers": ["x-lane: a"]})
            results = await messages(socket, "result", 3)
            assert {result["lane"] for result in results} == {"v1"}
            assert all(["x-lane", "a"] in result["sent"] for result in results)


HEADER_RULE = """  http:
    - match:
        - uri:
            exact: /mock
          headers:
            x-lane:
              exact: v2
      route:
        - destination:
            host: mocka.default.svc.cluster.local
            subset: v2
"""


async def test_the_weights_are_those_of_the_headers_that_a_page_sets(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    for folder in (K8S / "workloads", K8S / "asm" / "strict"):
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    route = tmp_path / "mock-route.yaml"
    route.write_text(route.read_text().replace("  http:\n", HEADER_RULE))
    view = View("http://127.0.0.1:9/mock", judge=ByMap(read_lane_map(load([tmp_path]))))
    weights = {"v1": 50, "v2": 50}
    async with PageServer(view, port=0) as page, stream(session, page) as socket:
        [said] = await messages(socket, "view", 1)
        assert said["weights"] == weights
        for headers, expected in ((["x-lane: v2"], None), ([], weights)):
            await socket.send_json(CONTROLS | {"headers": headers})
            [said] = await messages(socket, "accepted", 1)
            assert said["weights"] == expected


async def test_headers_are_those_of_the_page_and_the_host_that_of_the_command_line(
    session: aiohttp.ClientSession,
) -> None:
    with gateway(lambda *_: chain("v1")) as asked:
        view = View(asked.url, headers=(("x-lane", "a"), ("host", "mock.example")))
        async with PageServer(view, port=0) as page, stream(session, page) as socket:
            assert (await messages(socket, "view", 1))[0]["headers"] == ["x-lane: a"]
            await socket.send_json(CONTROLS | {"headers": ["X-Lane: c", "x-lane: d"]})
            await messages(socket, "result", 3)
        assert {tuple(sent.get_all("x-lane", [])) for sent in asked.requests} == {("c", "d")}
        assert {sent["host"] for sent in asked.requests} == {"mock.example"}


@pytest.mark.parametrize(
    ("controls", "problem"),
    [
        ("{", "controls: must be an object"),
        ("[]", "controls: must be an object"),
        ("[" * 10_000, "controls: must be an object"),
        (json.dumps({"rate": 5}), "controls: must be an object with rate, paused and headers"),
        (json.dumps(CONTROLS | {"rate": "5"}), "rate: '5': must be requests per second"),
        (json.dumps(CONTROLS | {"rate": 1e9}), "rate: 1000000000.0: must be"),
        (json.dumps(CONTROLS | {"rate": True}), "rate: True: must be"),
        (json.dumps(CONTROLS | {"headers": "x"}), "headers: must be a list of at most 16"),
        (json.dumps(CONTROLS | {"headers": ["a: b"] * 17}), "headers: must be a list"),
        (json.dumps(CONTROLS | {"headers": [5]}), "header: '5': must be a header name"),
        (json.dumps(CONTROLS | {"headers": ["a: b\r\nc: d"]}), "without control characters"),
        (json.dumps(CONTROLS | {"headers": ["Host: evil"]}), "must be given on the command line"),
    ],
)
async def test_controls_that_are_not_allowed_are_refused(
    session: aiohttp.ClientSession, controls: str, problem: str
) -> None:
    async with PageServer(NOWHERE, port=0) as page, stream(session, page) as socket:
        await socket.send_str(controls)
        [refused] = await messages(socket, "refused", 1)
        assert problem in refused["problem"]


async def test_nothing_is_sent_until_controls_are_right(session: aiohttp.ClientSession) -> None:
    with gateway(lambda *_: chain("v1")) as asked:
        async with PageServer(View(asked.url), port=0) as page, stream(session, page) as socket:
            await socket.send_json(CONTROLS)
            await messages(socket, "result", 1)
            await socket.send_json(CONTROLS | {"headers": ["nonsense"]})
            await messages(socket, "refused", 1)
            await asyncio.to_thread(wait_until_nothing_comes, asked.requests)
            await socket.send_json(CONTROLS | {"headers": ["x-lane: a"]})
            async with asyncio.timeout(20):
                while asked.requests[-1]["x-lane"] != "a":
                    await asyncio.sleep(0.01)


async def test_a_page_may_ask_for_no_url(session: aiohttp.ClientSession) -> None:
    with (
        gateway(lambda *_: chain("v1")) as asked,
        gateway(lambda *_: chain("v2")) as other,
    ):
        async with PageServer(View(asked.url), port=0) as page, stream(session, page) as socket:
            await socket.send_json(CONTROLS | {"url": other.url})
            results = await messages(socket, "result", 3)
        assert {result["lane"] for result in results} == {"v1"}
        assert other.requests == []


async def test_no_more_pages_are_open_than_allowed(session: aiohttp.ClientSession) -> None:
    async with PageServer(NOWHERE, port=0) as page:
        sockets = [await stream(session, page) for _ in range(MAX_STREAMS)]
        one_more = await stream(session, page)
        [refused] = await messages(one_more, "refused", 1)
        assert refused["problem"] == f"{MAX_STREAMS} pages are open already"
        assert (await one_more.receive()).type is aiohttp.WSMsgType.CLOSE
        await sockets[0].close()
        async with asyncio.timeout(10):
            while json.loads(await (await stream(session, page)).receive_str())["type"] != "view":
                await asyncio.sleep(0.05)


async def test_a_page_that_does_not_read_holds_nothing_up() -> None:
    body = Answer(Chain(upstream_body="x" * 5000).to_json())
    with gateway(lambda *_: body) as asked:
        async with PageServer(View(asked.url), port=0) as page:
            url = urlsplit(page.url)
            reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=1024)
            head = (
                f"GET /stream HTTP/1.1\r\nHost: {url.netloc}\r\nOrigin: http://{url.netloc}\r\n"
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: {'a' * 22}==\r\n\r\n"
            )
            controls = json.dumps(CONTROLS | {"rate": 100}).encode()
            # A text frame (RFC 6455 section 5.2), masked with zeros.
            frame = bytes([0x81, 0x80 | len(controls), 0, 0, 0, 0]) + controls
            writer.write(head.encode() + frame)
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(3)
            assert asked.requests
            end = asyncio.get_running_loop().time() + 10
        assert asyncio.get_running_loop().time() < end
        writer.transport.abort()


async def test_another_url_is_called_from_then_on(session: aiohttp.ClientSession) -> None:
    with gateway(lambda *_: chain("v1")) as asked, gateway(lambda *_: chain("v2")) as other:
        async with PageServer(View(asked.url), port=0) as page, stream(session, page) as socket:
            await socket.send_json(CONTROLS)
            await messages(socket, "result", 2)
            await page.show(View(other.url))
            async with asyncio.timeout(10):
                while (await messages(socket, "result", 1))[0]["lane"] != "v2":
                    pass


async def test_who_comes_from_another_site_waits() -> None:
    async with PageServer(NOWHERE, port=0) as page:
        for site, waits in (("cross-site", True), ("same-site", True), ("none", False)):
            answer = await get(page, "", **{"Sec-Fetch-Site": site})
            assert ("<body data-waits>" in answer.text) == waits
        assert "<body>" in (await get(page)).text


async def test_another_view_is_seen_by_pages_that_are_open(session: aiohttp.ClientSession) -> None:
    async with PageServer(NOWHERE, port=0) as page, stream(session, page) as socket:
        await messages(socket, "view", 1)
        await page.show(View(NOWHERE.url, expected={"v1": 10, "v2": 90}))
        [said] = await messages(socket, "view", 1)
        assert said["weights"] == {"v1": 10, "v2": 90}


async def test_nothing_is_sent_for_a_page_that_is_closed(
    session: aiohttp.ClientSession,
) -> None:
    with gateway(lambda *_: chain("v1", None)) as asked:
        async with PageServer(View(asked.url), port=0) as page:
            socket = await stream(session, page)
            await socket.send_json(CONTROLS | {"rate": 100})
            await messages(socket, "result", 1)
            await socket.close()
            await asyncio.to_thread(wait_until_nothing_comes, asked.requests)


async def test_pages_are_closed_when_it_ends(session: aiohttp.ClientSession) -> None:
    async with PageServer(NOWHERE, port=0) as page:
        socket = await stream(session, page)
        await messages(socket, "view", 1)
    assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
