"""A server in the place of the shop's gateway: what comes of `verify` without Envoy and pods."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mockservice.chain import Chain, Hop
from mockservice.mesh.load import load
from mockservice.mesh.survey import read_lane_map
from mockservice.verify.run import verify
from tests.lanes.building import write
from tests.probe.gateway import Answer, gateway

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from email.message import Message
    from pathlib import Path

    from mockservice.verify.cases import Case
    from mockservice.verify.verification import Verification
    from tests.verify.shop import Json

_HOP = re.compile(r"(\w+)\((\w+)\)")


def answer(outline: str, headers: Message, status: int = 200) -> Answer:
    """The chain of that outline, each hop of which received the lane header that was sent."""
    received = {name: value for name in ("traceparent", "x-lane") if (value := headers.get(name))}
    hops = tuple(
        Hop(app, version, "10.0.0.1", status, 1.0, received)
        for app, version in _HOP.findall(outline)
    )
    return Answer(Chain(hops, upstream_body="gone" if status != 200 else None).to_json(), status)


async def verified(
    folder: Path,
    objects: list[Json],
    answers: Callable[[int, Message], Answer],
    cases: Sequence[Case] = (),
) -> Verification:
    """What `verify` says of manifests whose gateway answers so."""
    lane_map = read_lane_map(load([write(folder / "shop.yaml", *objects)]))
    with gateway(answers) as running:
        return await verify(running.url.removesuffix("/mock"), lane_map, cases)
