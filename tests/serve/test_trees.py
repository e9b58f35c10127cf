"""Trees: a hop with several upstreams, over real processes and sockets."""

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import pytest

from mockservice.chain import MAX_TREE, Chain, Failure
from tests.misbehaving import hang
from tests.running import (
    Peer,
    RunningHop,
    answering,
    new_address,
    ok,
    peer,
    request,
    running,
    running_shop,
    wait_until,
)

pytestmark = pytest.mark.slow

_USERS = b"-> users(version: v1, ip: 10.0.0.1)"
_ORDERS = b"-> orders(version: v2, ip: 10.0.0.2)-> stock(version: v2, ip: 10.0.0.3)"
_JSON = {"Accept": "application/json"}


@pytest.fixture(scope="module")
def shop() -> Iterator[dict[str, RunningHop]]:
    with running_shop() as hops:
        yield hops


def test_the_text_of_a_tree(shop: dict[str, RunningHop]) -> None:
    web, orders, stock, price, users = (
        shop[app].line for app in ("web", "orders", "stock", "price", "users")
    )
    response = request(shop["web"].url)
    assert response.status == 200
    assert response.text == f"{web}[{orders}[{stock}; {price}{users}]; {users}]"


def test_the_json_of_a_tree(shop: dict[str, RunningHop]) -> None:
    document = json.loads(request(shop["web"].url, {**_JSON, "x-lane": "s2"}).body)
    [web] = document["hops"]
    first, second = web["upstreams"]
    [orders] = first["hops"]
    stock, price = orders["upstreams"]
    assert [hop["app"] for hop in price["hops"]] == ["price", "users"]
    assert [hop["app"] for hop in (*stock["hops"], *second["hops"])] == ["stock", "users"]
    assert document.keys() == first.keys() == {"hops"}
    tree = Chain.from_json(json.dumps(document).encode()).tree()
    assert [hop.app for hop in tree.hops] == ["web", "orders", "stock", "price", "users", "users"]
    assert {hop.status for hop in tree.hops} == {200}
    assert [hop.lane_headers for hop in tree.hops] == [{"x-lane": "s2"}] * 6
    durations = [hop.duration_ms or 0 for hop in tree.hops]
    assert durations[0] > max(durations[1:]) > 0


@dataclass
class _Fork:
    """A hop, and its upstreams, which each test tells what to do."""

    hop: RunningHop
    upstreams: list[Peer]
    serves: list[Callable[[socket.socket], None]]

    def answers(self, *serves: Callable[[socket.socket], None] | bytes) -> None:
        """What the upstreams do with each connection from now on."""
        self.serves[:] = [answering(ok(s)) if isinstance(s, bytes) else s for s in serves]
        for upstream in self.upstreams:
            upstream.requests.clear()

    @property
    def names(self) -> list[str]:
        return [f"{upstream.address}:8000" for upstream in self.upstreams]


@contextmanager
def _running_fork(count: int, **env: str) -> Iterator[_Fork]:
    with ExitStack() as stack:
        serves: list[Callable[[socket.socket], None]] = [hang] * count

        def serve(place: int) -> Callable[[socket.socket], None]:
            return lambda connection: serves[place](connection)

        upstreams = [stack.enter_context(peer(serve(place))) for place in range(count)]
        urls = ",".join(upstream.url for upstream in upstreams)
        hop = stack.enter_context(running("web", upstream_url=urls, **env))
        yield _Fork(hop, upstreams, serves)


@pytest.fixture(scope="module")
def fork() -> Iterator[_Fork]:
    """Three upstreams. One that is to be unreachable closes the connection."""
    with _running_fork(3, upstream_timeout="1") as fork:
        yield fork


def test_all_upstreams_are_called_at_the_same_time(fork: _Fork) -> None:
    all_called = threading.Barrier(3)

    def serve(connection: socket.socket) -> None:
        all_called.wait(5)
        connection.sendall(ok(_USERS))

    fork.answers(serve, serve, serve)
    expected = b"; ".join([_USERS] * 3).decode()
    assert request(fork.hop.url).text == f"{fork.hop.line}[{expected}]"


def test_the_order_is_that_of_the_setting(fork: _Fork) -> None:
    second_answered = threading.Event()

    def last(connection: socket.socket) -> None:
        second_answered.wait(5)
        time.sleep(0.05)
        connection.sendall(ok(_ORDERS))

    def first(connection: socket.socket) -> None:
        connection.sendall(ok(_USERS))
        second_answered.set()

    fork.answers(last, first, b"x")
    expected = f"{fork.hop.line}[{_ORDERS.decode()}; {_USERS.decode()}; x]"
    assert request(fork.hop.url).text == expected


def _close(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def _failing(status: int, body: bytes) -> Callable[[socket.socket], None]:
    head = f"HTTP/1.1 {status} x\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
    return answering(f"{head}\r\n".encode() + body)


_FAILED = b"-> orders(version: v1, ip: ::1)-> stock(timeout: no answer within 4.85 s)"
# What an upstream does, the status it comes to, and what stands in its branch.
_OUTCOMES: dict[str, tuple[Callable[[socket.socket], None] | bytes, int, str]] = {
    "fine": (_USERS, 200, _USERS.decode()),
    "closes": (_close, 502, "-> {name}(unreachable: closed without an answer)"),
    "hangs": (hang, 504, "-> {name}(timeout: no answer within 1 s)"),
    "failed": (_failing(504, _FAILED), 504, _FAILED.decode()),
    "busy": (_failing(503, b"no healthy upstream"), 503, "no healthy upstream"),
}


@pytest.mark.parametrize(
    "does",
    [
        ("closes", "fine", "fine"),
        ("fine", "hangs", "fine"),
        ("fine", "fine", "failed"),
        ("busy", "closes", "fine"),
        ("closes", "busy", "fine"),
        ("hangs", "fine", "busy"),
        ("fine", "failed", "hangs"),
        ("closes", "hangs", "failed"),
        ("hangs", "failed", "closes"),
        ("busy", "closes", "hangs"),
    ],
)
def test_the_first_failure_in_order_decides_and_all_branches_are_shown(
    fork: _Fork, does: Sequence[str]
) -> None:
    outcomes = [_OUTCOMES[name] for name in does]
    fork.answers(*(serve for serve, _, _ in outcomes))
    response = request(fork.hop.url)
    shown = [
        text.replace("{name}", name)
        for (_, _, text), name in zip(outcomes, fork.names, strict=True)
    ]
    assert response.text == f"{fork.hop.line}[{'; '.join(shown)}]"
    assert response.status == next(status for _, status, _ in outcomes if status != 200)
    # The JSON form tells the same.
    as_json = Chain.from_json(request(fork.hop.url, _JSON).body)
    assert [str(chain) for chain in as_json.hops[0].upstreams] == shown
    assert as_json.hops[0].status == response.status


def test_answers_that_are_no_chain_are_escaped_inside_brackets(fork: _Fork) -> None:
    fork.answers(b"a; b]\xff\\", b"", b"[1, 2]\n")
    response = request(fork.hop.url)
    line = fork.hop.line.encode()
    assert response.body == line + b"[a\\; b\\]\xff\\\\; ; \\[1, 2\\]\n]"
    bodies = [
        chain.upstream_body
        for chain in Chain.from_json(request(fork.hop.url, _JSON).body).hops[0].upstreams
    ]
    assert bodies == ["a; b]�\\", "", "[1, 2]\n"]


def test_a_tree_of_an_upstream_stands_inside_the_brackets(fork: _Fork) -> None:
    tree = b"-> orders(version: v1, ip: ::1)[" + _USERS + b"; -> b(timeout: x\\;)]"
    fork.answers(tree, _USERS, _USERS)
    expected = b"; ".join([tree, _USERS, _USERS]).decode()
    assert request(fork.hop.url).text == f"{fork.hop.line}[{expected}]"
    read = Chain.from_text(request(fork.hop.url).text).tree()
    assert [hop.app for hop in read.hops] == ["web", "orders", "users", "users", "users"]


@pytest.mark.parametrize(
    "body", [b"[" * 10_000, b"-> a(version: v1, ip: ::1)[" * 10_000, b"]; -> "]
)
def test_a_hostile_answer_stays_in_its_branch(fork: _Fork, body: bytes) -> None:
    fork.answers(body, _USERS, body)
    chain = Chain.from_text(request(fork.hop.url).text)
    assert len(chain.hops[0].upstreams) == 3
    assert chain.hops[0].upstreams[1] == Chain.from_text(_USERS.decode())
    assert str(chain.hops[0].upstreams[0]) == body.decode()


def test_the_answers_together_are_at_most_1_mib(fork: _Fork) -> None:
    half = b"x" * (512 * 1024)
    fork.answers(half, half, b"y")
    response = request(fork.hop.url)
    reason = "invalid: answers of more than 1048576 bytes together"
    assert response.status == 502
    assert response.text.endswith(f"x; -> {fork.names[2]}({reason})]")
    fork.answers(half, half + b"x", b"y")
    response = request(fork.hop.url)
    assert response.text.endswith(f"x; -> {fork.names[1]}({reason}); y]")


def _remaining(upstream: Peer) -> str | None:
    [head] = upstream.requests
    values = [line for line in head.decode().split("\r\n") if "x-mock-hops-remaining" in line]
    return values[0].partition(": ")[2] if values else None


@pytest.mark.parametrize(
    ("told", "shares"),
    [
        (None, ["85", "85", "85"]),
        ("256", ["85", "85", "85"]),
        ("999999999", ["85", "85", "85"]),
        ("12", ["4", "4", "3"]),
        ("4", ["1", "1", "1"]),
        ("3", ["1", "1", None]),
        ("1", [None, None, None]),
    ],
)
def test_each_upstream_gets_its_share_of_the_hops_that_remain(
    fork: _Fork, told: str | None, shares: list[str | None]
) -> None:
    fork.answers(_USERS, _USERS, _USERS)
    response = request(fork.hop.url, {} if told is None else {"x-mock-hops-remaining": told})
    too_many = Failure("{}", "loop", "more than 256 hops in the tree")
    for upstream, share in zip(fork.upstreams, shares, strict=True):
        assert len(upstream.requests) == (share is not None)
        if share is not None:
            assert _remaining(upstream) == share
    expected = [
        _USERS.decode() if share else str(too_many).format(name)
        for name, share in zip(fork.names, shares, strict=True)
    ]
    assert response.text == f"{fork.hop.line}[{'; '.join(expected)}]"
    assert response.status == (508 if None in shares else 200)


def test_a_chain_tells_what_remains_only_inside_a_tree() -> None:
    with peer(answering(ok(_USERS))) as last, running("web", upstream_url=last.url) as hop:
        assert request(hop.url).status == 200
        assert _remaining(last) is None
        last.requests.clear()
        assert request(hop.url, {"x-mock-hops-remaining": "5"}).status == 200
        assert _remaining(last) == "4"
        refused = request(hop.url, {"x-mock-hops-remaining": "0"})
        assert (refused.status, refused.text) == (
            508,
            f"-> web(loop: more than {MAX_TREE} hops in the tree)",
        )
        for value in ("", "-1", "x", "1, 2", "9" * 10):
            bad = request(hop.url, {"x-mock-hops-remaining": value})
            assert bad.status == 400
            assert bad.text == "-> web(rejected: not the number of hops that remain)"


def test_a_circle_is_cut_in_its_branch() -> None:
    address = new_address()
    url = f"http://{address}:8000/"
    with (
        running("users") as users,
        running("orders", upstream_url=f"{url},{users.url}") as orders,
        running("web", host=address, upstream_url=f"{users.url},{orders.url}") as web,
    ):
        response = request(web.url)
        cut = "-> web(loop: already in this chain)"
        assert response.text == f"{web.line}[{users.line}; {orders.line}[{cut}; {users.line}]]"
        assert response.status == 508


def test_a_tree_has_at_most_256_hops() -> None:
    with ExitStack() as stack:
        addresses = [new_address() for _ in range(9)]
        urls = [f"http://{address}:8000/" for address in addresses]
        for place, address in enumerate(addresses):
            # Each hop calls the next one twice: 511 hops without a bound.
            upstreams = ",".join(urls[place + 1 : place + 2] * 2)
            stack.enter_context(running(f"m{place}", host=address, upstream_url=upstreams))
        response = request(urls[0])
        assert response.status == 508
        tree = Chain.from_text(response.text).tree()
        assert len(tree.hops) == 256
        assert {end.error.reason for end in tree.ends if end.error} == {
            f"more than {MAX_TREE} hops in the tree"
        }


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("leave", [socket.socket.close, _reset])
@pytest.mark.parametrize("count", [1, 2])
def test_a_client_that_leaves_ends_its_calls(
    count: int, leave: Callable[[socket.socket], None]
) -> None:
    closed: list[bool] = []

    def serve(connection: socket.socket) -> None:
        with suppress(OSError):
            closed.append(connection.recv(1) == b"")

    with _running_fork(count, upstream_timeout="60", access_log="on") as fork:
        fork.answers(*[serve] * count)
        client = socket.create_connection((fork.hop.address, 8000))
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: all(upstream.requests for upstream in fork.upstreams))
        leave(client)
        wait_until(lambda: closed == [True] * count)
        metrics = request(f"{fork.hop.url}metrics").text
        fork.hop.process.terminate()
        [line] = [json.loads(line) for line in fork.hop.errors().splitlines()]
    counted = [line for line in metrics.splitlines() if "_seconds_count{" in line]
    [own, *calls] = [line for line in counted if 'error_type="canceled"' in line]
    assert 'http_response_status_code="499"' in own
    assert len(calls) == count
    assert (line["http_response_status_code"], line["error_type"]) == (499, "canceled")
    assert line["level"] == "info"


def test_a_client_that_leaves_ends_a_delay() -> None:
    with running(fault_delay="60") as hop:
        with socket.create_connection((hop.address, 8000)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_until(lambda: 'fault="delay",version="v1"} 1.0' in _metrics(hop))
        wait_until(lambda: 'error_type="canceled"' in _metrics(hop))


def _metrics(hop: RunningHop) -> str:
    return request(f"{hop.url}metrics").text


def test_a_draining_hop_waits_for_all_its_calls() -> None:
    release = threading.Event()

    def slow(connection: socket.socket) -> None:
        release.wait(10)
        connection.sendall(ok(_ORDERS))

    with _running_fork(2, upstream_timeout="20") as fork:
        fork.answers(_USERS, slow)
        answers: list[str] = []
        client = threading.Thread(target=lambda: answers.append(request(fork.hop.url).text))
        client.start()
        wait_until(lambda: all(upstream.requests for upstream in fork.upstreams))
        fork.hop.process.terminate()
        wait_until(fork.hop.is_draining)
        release.set()
        client.join(20)
        assert answers == [f"{fork.hop.line}[{_USERS.decode()}; {_ORDERS.decode()}]"]
        assert fork.hop.process.wait(20) == 0


def test_metrics_and_logs_name_each_upstream() -> None:
    with _running_fork(3) as fork:
        fork.answers(_USERS, _close, _failing(503, b"busy"))
        assert request(fork.hop.url).status == 502
        metrics = request(f"{fork.hop.url}metrics").text
        fork.hop.process.terminate()
        [line] = [json.loads(line) for line in fork.hop.errors().splitlines()]
    count = 'http_client_request_duration_seconds_count{app="web",'
    outcomes = re.findall(
        count + r'error_type="(.*?)",http_response_status_code="(.*?)",server_address="(.*?)"',
        metrics,
    )
    first, second, third = (upstream.address for upstream in fork.upstreams)
    assert sorted(outcomes) == sorted(
        [("", "200", first), ("unreachable", "", second), ("503", "503", third)]
    )
    _, closed, busy = fork.names
    assert line["message"] == f"{closed} unreachable: closed without an answer; {busy} answered 503"
    assert line["upstream"] == f"{closed},{busy}"
    assert (line["http_response_status_code"], line["error_type"]) == (502, "unreachable")


def test_a_proxy_is_not_asked_for_https() -> None:
    received = []

    def refuse(connection: socket.socket) -> None:
        received.append(connection.recv(2))

    with (
        peer(answering(ok(b"x"))) as proxy,
        peer(refuse, read=False) as secure,
        running(
            upstream_url=f"http://orders:8000/,{secure.url.replace('http', 'https')}",
            upstream_proxy=proxy.url,
        ) as hop,
    ):
        assert request(hop.url).text.startswith(f"{hop.line}[x; -> {secure.address}:8000(")
    assert [head.split(b" ")[1] for head in proxy.requests] == [b"http://orders:8000/"]
    # A TLS handshake.
    assert received == [b"\x16\x03"]
