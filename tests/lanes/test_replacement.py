"""A process of somebody's own in place of an app's pods: `--replace`."""

from __future__ import annotations

import json
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from mockservice.chain import Chain
from mockservice.lanes.errors import LanesError
from mockservice.lanes.local import LocalLanes
from mockservice.lanes.report import JsonReport, TextReport
from mockservice.mesh.overrides import Overrides, replacement
from mockservice.verify import run
from mockservice.verify.run import until_up, verify, without_calls
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
    status: int = 200
    received: list[dict[str, str]] = field(default_factory=list)
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
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        headers = {name: request.headers[name] for name in self.carried if name in request.headers}
        text = ""
        if self.upstream is not None:
            async with (
                aiohttp.ClientSession() as client,
                client.get(self.upstream, headers=headers, proxy=self.proxy) as response,
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
    told = f"cart(base), cart(blue) is {cart.url}; start it with http_proxy={cart.proxy}"
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
    assert any("cart drops traceparent, x-request-id, which ends traces" in r for r in told.reasons)


async def test_others_get_its_own_answer(lanes: LocalLanes, cart: Cart) -> None:
    (blue,) = [one for one in lanes.pods if one.pod.name == "cart-blue-0"]
    inbound = f"http://{blue.place.ip}:{blue.place.inbound}"
    async with cart.running(), aiohttp.ClientSession() as client:
        for status in (200, 404):
            cart.status = status
            async with client.post(f"{inbound}/cart/7?full=1", data=b"more") as response:
                assert response.status == status
                answer = await response.json()
            assert answer["items"] == [1, 2]
            assert '"app": "price"' in answer["price"]
    assert cart.received[0]["Host"] == inbound.removeprefix("http://")


async def test_what_fails_behind_it_or_in_it_is_told(lanes: LocalLanes, cart: Cart) -> None:
    async with cart.running(), aiohttp.ClientSession() as client:

        async def chain() -> tuple[int, str]:
            async with client.get(f"{lanes.gateway_url}/shop") as response:
                return response.status, (await response.text()).partition("cart")[2]

        cart.status = 500
        status, text = await chain()
        assert (status, text.count("-> ")) == (500, 2)
        cart.upstream, cart.status = "http://nobody:8000/", 200
        assert (await chain())[1].endswith("-> nobody(unreachable: 502 no such Service)")
        cart.upstream = None
        status, text = await chain()
        assert (status, text.count("-> ")) == (200, 0)


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
    monkeypatch.setattr(run, "_UP_TIMEOUT", 0.1)
    with pytest.raises(LanesError) as refused:
        await until_up(lanes.replacements)
    assert str(refused.value) == (
        f"--replace: cart: nothing listens at {cart.url} within 0.1 s;"
        f" start it with http_proxy={cart.proxy}"
    )
    async with cart.running():
        await until_up(lanes.replacements)


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
