"""A canary with a Service of its own, as Flagger makes it: its lane holds, and a leak is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lanes.building import at_gateway, between_pods, gateway, service, to
from tests.mesh.test_workloads import workload
from tests.verify.answering import answer, verified

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

    from tests.probe.gateway import Answer
    from tests.verify.shop import Json

BLUE = {"match": [{"headers": {"x-lane": {"exact": "blue"}}}]}


def shop() -> list[Json]:
    """`web` calls `reviews`, whose canary has other labels than the primary pods."""
    front = workload("web", labels={"app": "web", "version": "v1"})
    front["metadata"]["annotations"] = {"mockservice.io/calls": "reviews"}
    return [
        front,
        service("web"),
        workload("reviews", labels={"app": "reviews", "version": "blue"}),
        workload("reviews-primary", labels={"app": "reviews-primary", "version": "base"}),
        service("reviews", app="reviews-primary"),
        service("reviews-primary"),
        service("reviews-canary", app="reviews"),
        gateway(),
        at_gateway({"route": [to("web.default.svc.cluster.local")]}),
        between_pods(
            "reviews",
            BLUE | {"route": [to("reviews-primary", weight=0), to("reviews-canary", weight=100)]},
            {"route": [to("reviews-primary", weight=100), to("reviews-canary", weight=0)]},
        ),
    ]


async def test_its_lane_holds(tmp_path: Path) -> None:
    def sound(_: int, headers: Message) -> Answer:
        return answer(f"web(v1) -> reviews({headers.get('x-lane', 'base')})", headers)

    verification = await verified(tmp_path, shop(), sound)
    assert verification.hold
    assert [(lane.name, lane.holds, lane.chain) for lane in verification.lanes()] == [
        ("base", True, "web(v1) -> reviews(base)"),
        ("blue", True, "web(v1) -> reviews(blue)"),
    ]


async def test_a_caller_that_drops_the_lane_is_told(tmp_path: Path) -> None:
    def dropping(_: int, headers: Message) -> Answer:
        del headers["x-lane"]
        return answer("web(v1) -> reviews(base)", headers)

    verification = await verified(tmp_path, shop(), dropping)
    (error,) = [one.text for one in verification.problems() if one.about == "isolation"]
    assert error.startswith(
        "lane blue is owed reviews(blue) but got reviews(base):"
        " the call of web(v1) came without x-lane: blue"
    )
