"""A loop in the chain is answered with 508."""

import json
from contextlib import ExitStack

import pytest

from tests.running import new_address, request, running

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_hop_detects_a_loop_through_itself(length: int) -> None:
    apps = ["mocka", "mockb", "mockc"][:length]
    addresses = [new_address() for _ in apps]
    with ExitStack() as stack:
        hops = [
            stack.enter_context(
                running(
                    app,
                    host=addresses[place],
                    upstream_url=f"http://{addresses[(place + 1) % length]}:8000/",
                )
            )
            for place, app in enumerate(apps)
        ]
        response = request(hops[0].url)
        chain = "".join(hop.line for hop in hops)
        assert (response.status, response.text) == (
            508,
            f"{chain}-> mocka(loop: already in this chain)",
        )
        document = json.loads(request(hops[0].url, {"Accept": "application/json"}).body)
        assert [hop["status"] for hop in document["hops"]] == [508] * length
        assert document["error"]["kind"] == "loop"


@pytest.mark.parametrize(("passed", "status"), [(31, 200), (32, 508), (2000, 508)])
def test_a_chain_has_at_most_32_hops(passed: int, status: int) -> None:
    with running() as hop:
        response = request(hop.url, {"x-mock-hops": ",".join(["0"] * passed)})
        assert response.status == status
        text = hop.line if status == 200 else "-> mocka(loop: more than 32 hops)"
        assert response.text == text


@pytest.mark.parametrize("value", ["0" * 1025, ",".join(["0" * 600] * 2)])
def test_an_impossible_list_of_hops_is_refused(value: str) -> None:
    with running() as hop:
        response = request(hop.url, {"x-mock-hops": value})
        assert response.status == 400
        assert response.text == "-> mocka(rejected: not the hops of a chain)"
