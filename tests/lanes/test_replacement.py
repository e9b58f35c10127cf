"""A process of somebody's own in place of an app's pods: `--replace`."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from mockservice.chain import Chain
from mockservice.lanes.addresses import Place
from mockservice.lanes.errors import LanesError
from mockservice.lanes.local import LocalLanes
from mockservice.lanes.replacement import Replacement
from mockservice.lanes.report import JsonReport, TextReport
from mockservice.mesh.model import Pod
from mockservice.mesh.overrides import Overrides, replacement
from mockservice.probe.load import Load, send
from mockservice.verify.replaced import beside_lanes, until_up, without_calls
from mockservice.verify.run import verify
from tests.lanes.building import set_env, write
from tests.lanes.running import free_port
from tests.verify.shop import IN_BASE, IN_BLUE, shop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mockservice.verify.verification import Verification

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@dataclass
class Cart:
    """A service that knows nothing of chains: it calls price, and answers with JSON of its own."""

    port: int
    carried: tuple[str, ...] = ()
    """The headers that it passes on."""
    upstream: str | None = "http://price:8000/"
    beside: str | None = None
    """What it calls too, without any header."""
    status: int = 200
    delay: float = 0.0
    """Seconds before it calls its upstream."""
    received: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    """What its upstream has answered."""
    at_once: int = 0
    most_at_once: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.port + 10000}"

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.received.append(dict(request.headers))
        self.bodies.append(await request.read())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        headers = {name: request.headers[name] for name in self.carried if name in request.headers}
        text = ""
        await asyncio.sleep(self.delay)
        for url, sent in ((self.upstream, headers), (self.beside, {})):
            if url is not None:
                async with (
                    aiohttp.ClientSession() as client,
                    client.get(url, headers=sent, proxy=self.proxy) as response,
                ):
                    text = await response.text()
                    self.answers.append(text)
        self.at_once -= 1
        return web.json_response({"items": [1, 2], "price": text}, status=self.status)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The service, for the duration of `async with`."""
        runner = web.ServerRunner(web.Server(self.answer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        try:
            yield
        finally:
            await runner.cleanup()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lanes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalLanes]:
    """The shop, with a process in place of all carts that is not there yet."""
    file = write(tmp_path_factory.mktemp("lanes") / "shop.yaml", *shop())
    overrides = Overrides(replaced=(replacement(f"cart=http://127.0.0.1:{free_port()}"),))
    async with LocalLanes([file], overrides=overrides) as running:
        yield running


@pytest.fixture
def cart(lanes: LocalLanes) -> Cart:
    (replaced,) = lanes.replacements
    cart = Cart(int(replaced.url.rpartition(":")[2]))
    assert cart.proxy == replaced.proxy_url
    return cart


async def verified(lanes: LocalLanes) -> Verification:
    return await verify(lanes.gateway_url, lanes.lane_map)


def inbound_of_blue(lanes: LocalLanes) -> str:
    (blue,) = [one for one in lanes.pods if one.pod.name == "cart-blue-0"]
    return f"http://{blue.place.ip}:{blue.place.inbound}"


async def test_a_process_that_is_not_there_is_named(lanes: LocalLanes, cart: Cart) -> None:
    states = {one.pod.name: one.state for one in lanes.pods}
    assert states["cart-base-0"] == states["cart-blue-0"] == "down"
    assert set(states.values()) == {"ready", "down"}
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"{lanes.gateway_url}/shop") as response,
    ):
        assert response.status == 502
        text = await response.text()
    assert text.endswith(f"-> cart(unreachable: nothing listens at {cart.url})")


async def test_its_address_and_that_of_its_proxy_are_told(
    lanes: LocalLanes, cart: Cart, capsys: pytest.CaptureFixture[str]
) -> None:
    TextReport(quiet=True).running("ready", lanes)
    told = f"cart(base), cart(blue) are {cart.url}; start it with http_proxy={cart.proxy}"
    assert told in capsys.readouterr().out.splitlines()
    JsonReport(quiet=True).running("ready", lanes)
    pods = json.loads(capsys.readouterr().out)["pods"]
    assert {
        pod["name"]: (pod["replaced_by"], pod["http_proxy"], pod["state"])
        for pod in pods
        if "replaced_by" in pod
    } == dict.fromkeys(("cart-base-0", "cart-blue-0"), (cart.url, cart.proxy, "down"))


async def test_a_process_that_drops_the_lane_is_named(lanes: LocalLanes, cart: Cart) -> None:
    async with cart.running():
        verification = await verified(lanes)
    chains = {lane.name: (lane.chain, lane.holds) for lane in verification.lanes()}
    assert chains == {
        "base": (IN_BASE, True),
        "blue": (IN_BLUE.replace("price(blue)", "price(base)"), False),
    }
    errors = [one.text for one in verification.problems() if one.level == "error"]
    assert errors[0] == (
        "lane blue is owed price(blue) but got price(base):"
        " cart(blue) did not pass on x-lane: blue (20 requests)"
    )
    assert "cart received x-lane, price did not: cart drops it" in errors[1]
    # It knows nothing of hops, and answers one request at a time.
    assert {name.lower() for one in cart.received for name in one}.isdisjoint(
        {"x-mock-hops", "x-mock-hops-remaining"}
    )
    assert cart.most_at_once == 1


async def test_lanes_hold_where_it_carries_the_header(lanes: LocalLanes, cart: Cart) -> None:
    cart.carried = ("x-lane",)
    async with cart.running():
        verification = await verified(lanes)
    assert {lane.name: lane.chain for lane in verification.lanes()} == {
        "base": IN_BASE,
        "blue": IN_BLUE,
    }
    assert verification.hold
    (told,) = [one for one in verification.verdicts() if one.name == "propagation"]
    dropped = "cart drops traceparent, x-request-id, which ends traces there but loses no lane"
    assert any(reason.endswith(dropped) for reason in told.reasons)
    assert [one.text for one in verification.problems() if one.text == dropped] == [dropped]


async def test_others_get_its_own_answer(lanes: LocalLanes, cart: Cart) -> None:
    inbound = inbound_of_blue(lanes)
    async with cart.running(), aiohttp.ClientSession() as client:
        for status in (200, 404):
            cart.status = status
            async with client.post(f"{inbound}/cart/7?full=1", data=b"more") as response:
                assert response.status == status
                answer = await response.json()
            assert answer["items"] == [1, 2]
            assert '"app": "price"' in answer["price"]
    assert cart.received[0]["Host"] == inbound.removeprefix("http://")


async def test_a_body_goes_on_as_it_is(lanes: LocalLanes, cart: Cart) -> None:
    headers = {"Content-Encoding": "gzip"}
    async with (
        cart.running(),
        aiohttp.ClientSession() as client,
        client.post(inbound_of_blue(lanes), data=gzip.compress(b"more"), headers=headers) as answer,
    ):
        assert answer.status == 200
    # Its own server has decompressed it.
    assert cart.bodies == [b"more"]


async def test_a_probe_gets_a_chain_whichever_user_agent_it_has(
    lanes: LocalLanes, cart: Cart
) -> None:
    load = Load(f"{inbound_of_blue(lanes)}/", requests=1, headers=(("user-agent", "Mobile"),))
    async with cart.running(), aclosing(send(load)) as results:
        (result,) = [one async for one in results]
    assert [hop.app for hop in result.chain.hops] == ["cart", "price", "stock"]
    assert cart.received[0]["User-Agent"] == "Mobile"


async def test_a_client_that_leaves_does_not_take_the_turn_along(
    lanes: LocalLanes, cart: Cart
) -> None:
    cart.delay = 1.0
    async with cart.running(), aiohttp.ClientSession() as client:
        timeout = aiohttp.ClientTimeout(total=0.3)
        with pytest.raises(TimeoutError):
            await client.get(inbound_of_blue(lanes), timeout=timeout)
        async with client.get(inbound_of_blue(lanes)) as response:
            assert response.status == 200
    assert (len(cart.received), cart.most_at_once) == (2, 1)


async def test_what_is_no_request_gets_400_and_no_traceback(
    lanes: LocalLanes, cart: Cart, caplog: pytest.LogCaptureFixture
) -> None:
    (blue,) = [one for one in lanes.pods if one.pod.name == "cart-blue-0"]
    proxy = ("127.0.0.1", cart.port + 10000)
    for address, request in (
        (proxy, b"GET http://price:8000/ HTTP/1.1\r\n\r\n"),
        (proxy, b"GET http://price:99999/ HTTP/1.1\r\nHost: price\r\n\r\n"),
        ((blue.place.ip, blue.place.port), b"OPTIONS * HTTP/1.1\r\nHost: cart\r\n\r\n"),
    ):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request)
        assert (await reader.readline()).split()[1] == b"400"
        writer.close()
    assert not caplog.records


async def test_what_fails_behind_it_or_in_it_is_told(lanes: LocalLanes, cart: Cart) -> None:
    async with cart.running(), aiohttp.ClientSession() as client:

        async def chain() -> tuple[int, str]:
            async with client.get(f"{lanes.gateway_url}/shop") as response:
                return response.status, (await response.text()).partition("cart")[2]

        cart.status = 500
        status, text = await chain()
        assert (status, text.count("-> ")) == (500, 2)
        cart.upstream = "http://price:9999/"
        assert (await chain())[1].endswith("-> price(unreachable: 502 no such Service)")
        cart.upstream, cart.status = None, 200
        status, text = await chain()
        assert (status, text.count("-> ")) == (200, 0)


async def test_what_it_calls_outside_of_the_mesh_is_a_note(lanes: LocalLanes, cart: Cart) -> None:
    (replaced,) = lanes.replacements
    cart.upstream = "http://pay.example.com/charge"
    async with (
        cart.running(),
        aiohttp.ClientSession() as client,
    ):
        async with client.get(f"{lanes.gateway_url}/shop") as response:
            # It has answered well without: that it got no answer fails nothing.
            assert (response.status, "pay" in await response.text()) == (200, False)
        cart.status = 500
        async with client.get(f"{lanes.gateway_url}/shop") as response:
            text = await response.text()
    assert text.endswith("-> pay.example.com(unreachable: 502 no such Service)")
    assert cart.answers == ["no such Service"] * 2
    (problem,) = [one for one in beside_lanes([replaced]) if "example" in one.text]
    assert (problem.level, problem.text) == (
        "note",
        "cart calls pay.example.com, which is no Service of the manifests: it gets 502;"
        " no_proxy=pay.example.com lets it call past the lanes",
    )


@dataclass
class Joined:
    """A process that has joined, behind a sidecar that leads calls without a lane to the base."""

    replacement: Replacement
    cart: Cart
    url: str
    """Of the pod in whose place it answers."""

    async def call(self, url: str) -> None:
        """A call by the process that belongs to no request."""
        async with (
            aiohttp.ClientSession() as client,
            client.get(url, proxy=self.replacement.proxy_url) as response,
        ):
            await response.read()

    async def chain(self) -> str:
        """The hops of a request of lane blue."""
        headers = {"x-mock-hops-remaining": "256", "x-lane": "blue"}
        async with (
            aiohttp.ClientSession(headers=headers) as client,
            client.get(self.url) as response,
        ):
            chain = Chain.from_text(await response.text())
        return " ".join(f"{hop.app}({hop.version})" for hop in chain.tree().hops)


@asynccontextmanager
async def joined(**cart: Any) -> AsyncIterator[Joined]:
    """A process that has answered no request yet, and calls price while it answers one."""

    async def sidecar(request: web.BaseRequest) -> web.Response:
        version = request.headers.get("x-lane", "base")
        return web.Response(text=f"-> price(version: {version}, ip: 127.0.0.1)")

    runner = web.ServerRunner(web.Server(sidecar))
    await runner.setup()
    outbound = free_port()
    inbound = free_port(outbound + 1)
    await web.TCPSite(runner, "127.0.0.1", outbound).start()
    process = Cart(free_port(inbound + 1), **cart)
    pod = Pod("cart-blue-0", "default", (), (("app", "cart"), ("version", "blue")), 8000)
    try:
        async with Replacement(process.url, {}) as replacement, process.running():
            replacement.carry(["x-lane"])
            replacement.know(["price.default.svc.cluster.local"])
            place = Place(0, "127.0.0.1", inbound, outbound, inbound)
            there = await replacement.join(pod, place)
            yield Joined(replacement, process, f"http://127.0.0.1:{inbound}/")
            await replacement.leave(there)
    finally:
        await runner.cleanup()


async def test_what_it_calls_on_its_own_is_in_no_lane() -> None:
    health = "http://price:8000/health"
    async with joined(carried=("x-lane",), beside=health) as one:
        await one.call(health)
        await one.call(f"{health}?full=1")
        assert await one.chain() == "cart(blue) price(blue)"
        await one.call("http://price:8000/later")
        notes = [problem.text for problem in beside_lanes([one.replacement])]
    assert notes == [
        "cart calls http://price:8000/health on its own, without a request: that is in no lane",
        "cart called http://price:8000/later while it answered no request: whether that keeps its"
        " lane is not known",
    ]


@pytest.mark.parametrize("calls", [1, 2])
async def test_a_lane_that_is_dropped_does_not_hide_behind_such_calls(calls: int) -> None:
    # Without another call of the host it may be the call of the request.
    async with joined(upstream=None, beside="http://price:8000/") as one:
        for _ in range(calls):
            await one.call("http://price:8000/")
        assert await one.chain() == "cart(blue) price(base)"
    # A call that is made only once before the first request is no habit.
    async with joined(carried=("x-lane",), beside="http://price:8000/two") as one:
        for _ in range(calls):
            await one.call("http://price:8000/two")
        hops = "cart(blue) price(blue)"
        assert await one.chain() == (f"{hops} price(base)" if calls == 1 else hops)
    # What it calls with the lane too is no habit either.
    async with joined(carried=("x-lane",), beside="http://price:8000/") as one:
        for _ in range(calls):
            await one.call("http://price:8000/")
        assert sorted((await one.chain()).split()) == ["cart(blue)", "price(base)", "price(blue)"]


async def test_a_process_that_calls_nothing_proves_nothing(lanes: LocalLanes, cart: Cart) -> None:
    (replaced,) = lanes.replacements
    for one in replaced.joined:
        one.requests = one.calls = 0
        one.hosts.clear()
    cart.upstream = None
    async with cart.running():
        assert (await verified(lanes)).hold
    (problem,) = without_calls(lanes.replacements, lanes.lane_map)
    assert (problem.level, problem.text) == (
        "error",
        f"cart at {cart.url} called nothing by its proxy in 60 requests, but is to call price:"
        f" start it with http_proxy={cart.proxy}, or say --calls cart=",
    )


async def test_verify_does_not_wait_for_ever(
    lanes: LocalLanes, cart: Cart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mockservice.verify.replaced._UP_TIMEOUT", 0.1)
    with pytest.raises(LanesError) as refused:
        await until_up(lanes.replacements)
    assert str(refused.value) == (
        f"--replace: cart: nothing listens at {cart.url} within 0.1 s;"
        f" start it with http_proxy={cart.proxy}"
    )
    monkeypatch.undo()
    async with cart.running():
        await until_up(lanes.replacements)


async def test_verify_asks_a_process_for_an_answer_before_all_others(
    lanes: LocalLanes, cart: Cart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mockservice.verify.replaced._UP_TIMEOUT", 1.0)
    with socket.create_server(("127.0.0.1", cart.port)), pytest.raises(LanesError) as refused:
        await until_up(lanes.replacements)
    assert str(refused.value) == f"--replace: cart: {cart.url} answers no request within 1 s"


async def test_a_process_that_resets_connections_is_told_from_one_that_is_not_there(
    lanes: LocalLanes, cart: Cart
) -> None:
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    async with (
        await asyncio.start_server(reset, "127.0.0.1", cart.port),
        aiohttp.ClientSession() as client,
        client.get(f"{lanes.gateway_url}/shop") as response,
    ):
        text = await response.text()
    assert f"cart(unreachable: {cart.url} does not answer: " in text


async def test_an_edit_moves_it_to_the_new_pods(lanes: LocalLanes, cart: Cart) -> None:
    objects = shop()
    set_env(objects, "cart", generation="2")
    write(lanes.paths[0], *objects)
    assert await lanes.reload()
    (replaced,) = lanes.replacements
    assert [one.pod.name for one in replaced.joined] == ["cart-base-0", "cart-blue-0"]
    async with (
        cart.running(),
        aiohttp.ClientSession() as client,
        client.get(f"{lanes.gateway_url}/shop") as response,
    ):
        chain = Chain.from_text(await response.text())
    assert " -> ".join(f"{hop.app}({hop.version})" for hop in chain.hops) == IN_BASE


async def test_processes_that_call_each_other_get_real_answers(tmp_path: Path) -> None:
    file = write(tmp_path / "shop.yaml", *shop())
    cart = Cart(free_port(), carried=("x-lane",))
    price = Cart(free_port(cart.port + 1), carried=("x-lane",), upstream="http://stock:8000/")
    replaced = (replacement(f"cart={cart.url}"), replacement(f"price={price.url}"))
    async with (
        LocalLanes([file], overrides=Overrides(replaced=replaced)) as lanes,
        cart.running(),
        price.running(),
        aiohttp.ClientSession() as client,
        client.get(f"{lanes.gateway_url}/shop", headers={"x-lane": "blue"}) as response,
    ):
        chain = Chain.from_text(await response.text())
    assert " -> ".join(f"{hop.app}({hop.version})" for hop in chain.hops) == IN_BLUE
    assert json.loads(cart.answers[0])["items"] == [1, 2]
    assert '"app": "stock"' in price.answers[0]


async def test_the_port_of_its_proxy_must_be_free(tmp_path: Path) -> None:
    file = write(tmp_path / "shop.yaml", *shop())
    port = free_port()
    overrides = Overrides(replaced=(replacement(f"cart=http://127.0.0.1:{port}"),))
    with socket.create_server(("127.0.0.1", port + 10000)), pytest.raises(LanesError) as refused:
        await LocalLanes([file], overrides=overrides).__aenter__()
    assert f"the sidecar of http://127.0.0.1:{port} cannot listen at" in str(refused.value)
