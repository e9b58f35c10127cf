"""What a replaced process is to call and does not: an error where rules route that call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mockservice.lanes.addresses import Place
from mockservice.lanes.replacement import Joined, Replacement
from mockservice.mesh.load import load
from mockservice.mesh.overrides import Overrides, replacement
from mockservice.mesh.survey import read_lane_map
from mockservice.verify.replaced import without_calls
from tests.lanes.building import deployment, service, set_env, write
from tests.verify.shop import shop

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://127.0.0.1:9000"


@pytest.mark.parametrize(
    ("replaced", "called", "said"),
    [
        ("cart", "price users.default.svc.cluster.local db", []),
        (
            "cart",
            "price",
            ["note: never called users, db by its proxy in 20 requests; no rule routes that call"],
        ),
        (
            "cart",
            "users db",
            [
                "error: never called price by its proxy in 20 requests, but is to: nothing is"
                " proved of that call; if there is none, say --calls cart=users,db"
            ],
        ),
        (
            "cart/blue",
            "users db",
            [
                "error: never called price by its proxy in 10 requests, but is to: nothing is"
                " proved of that call; if there is none, say --calls cart/blue=users,db"
            ],
        ),
        (
            "cart",
            "",
            [
                "error: called nothing by its proxy in 20 requests, but is to call price, users:"
                " start it with http_proxy=http://127.0.0.1:19000, or say --calls cart=",
                "note: never called db by its proxy in 20 requests; no rule routes that call",
            ],
        ),
        # No rule routes users, but one routes price, which it calls.
        (
            "front",
            "elsewhere.example.com",
            [
                "error: never called cart, users by its proxy in 10 requests, but is to: nothing"
                " is proved of that call; if there is none, say --calls front="
            ],
        ),
    ],
)
def test_what_is_never_called_is_named(
    replaced: str, called: str, said: list[str], tmp_path: Path
) -> None:
    objects = shop()
    set_env(objects, "cart", upstream_url="http://price:8000/,http://users:8000/,http://db:8000/")
    set_env(objects, "front", upstream_url="http://cart:8000/,http://users:8000/")
    calls_price = {"upstream_url": "http://price:8000/"} if replaced == "front" else {}
    objects += [
        service("users"),
        deployment("users", "base", env=calls_price),
        service("db"),
        deployment("db", "base"),
    ]
    (db,) = [one for one in objects if (one["kind"], one["metadata"]["name"]) == ("Service", "db")]
    db["spec"]["ports"][0]["name"] = "tcp"
    file = write(tmp_path / "shop.yaml", *objects)
    overrides = Overrides(replaced=(replacement(f"{replaced}={URL}"),))
    lane_map = read_lane_map(load([file], overrides=overrides))
    running = Replacement(URL, {})
    for pod in lane_map.mesh.pods:
        if pod.replaced_by:
            hosts = set(called.split())
            running.joined.append(
                Joined(
                    pod, Place(0, "127.0.0.1", 1, 2, 3), requests=10, calls=len(hosts), hosts=hosts
                )
            )
    app = replaced.partition("/")[0]
    found = [f"{one.level}: {one.text}" for one in without_calls([running], lane_map)]
    assert found == [one.replace(": ", f": {app} at {URL} ", 1) for one in said]
