"""Pods that answer with errors: what the mesh retries, and whom it leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.chance import is_plausible
from tests.lanes.building import at_gateway, deployment, gateway, service, to

if TYPE_CHECKING:
    from tests.lanes.conftest import MoveTo

pytestmark = pytest.mark.slow

HOST = "mocka.default.svc.cluster.local"


def half_broken(**route: Any) -> list[dict[str, Any]]:
    """A Service of two pods, of which v2 always answers 503."""
    return [
        service("mocka"),
        deployment("mocka", "v1"),
        deployment("mocka", "v2", env={"fault_abort": "503"}),
        gateway(),
        at_gateway({"route": [to(HOST)], **route}),
    ]


def statuses(move_to: MoveTo, *objects: dict[str, Any]) -> list[int]:
    """The statuses of 60 requests, one after the other."""
    running = move_to(*objects)
    seen = [running.get().status for _ in range(60)]
    assert set(seen) <= {200, 503}
    return seen


def failures(move_to: MoveTo, *objects: dict[str, Any]) -> int:
    """How many of 60 requests fail."""
    return statuses(move_to, *objects).count(503)


def test_an_answer_is_not_retried_by_itself(move_to: MoveTo) -> None:
    assert is_plausible(failures(move_to, *half_broken()), 60, 0.5)


def test_retries_go_to_another_pod(move_to: MoveTo) -> None:
    retries = {"attempts": 2, "retryOn": "503"}
    assert failures(move_to, *half_broken(retries=retries)) == 0


def test_outlier_detection_leaves_a_pod_out(move_to: MoveTo) -> None:
    rule = {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "DestinationRule",
        "metadata": {"name": "mocka"},
        "spec": {
            "host": "mocka",
            "trafficPolicy": {
                "outlierDetection": {
                    "consecutive5xxErrors": 2,
                    "baseEjectionTime": "60s",
                    "maxEjectionPercent": 100,
                }
            },
        },
    }
    seen = statuses(move_to, *half_broken(), rule)
    assert seen.count(503) >= 2
    # Envoy counts on one thread and ejects on another: some more requests may get there meanwhile.
    assert 503 not in seen[20:]
