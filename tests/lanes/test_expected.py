"""What a page expects of lanes, out of the manifests themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mockservice.lanes.local import load
from mockservice.mesh.expected import baseline, example_headers, expected_weights
from tests.lanes.building import MOCKA, at_gateway, chain, gateway, subsets, to, write
from tests.lanes.running import K8S

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lanes.building import Json

PODS = [
    *chain(mocka="v1 v2", mockb="v1", mockc="v1"),
    gateway(),
    subsets(MOCKA, "v1", "v2"),
]
PATH = {"uri": {"exact": "/mock"}}
WITH_HEADER = PATH | {"headers": {"x-lane": {"exact": "v2"}}}


@pytest.mark.parametrize(
    ("folders", "weights", "stand_in", "headers"),
    [
        ("workloads asm/strict", {"v1": 50, "v2": 50}, None, {}),
        ("workloads istio/strict", {"v1": 50, "v2": 50}, None, {}),
        ("workloads gateway-api", {"v1": 50, "v2": 50}, None, {}),
        (
            "workloads release-v3/workloads release-v3/asm",
            {"v1": 60, "v2": 30, "v3": 10},
            None,
            {},
        ),
        ("workloads asm/permissive-trace-id", None, "v1", {"x-asm-prefer-tag": "s2"}),
        ("workloads asm/permissive-header", None, "v1", {"my-trace-id": "s2"}),
        ("workloads asm/permissive-baggage", None, "v1", {"version": "s2"}),
    ],
)
def test_of_the_walkthrough(
    folders: str,
    weights: dict[str, float] | None,
    stand_in: str | None,
    headers: dict[str, str],
) -> None:
    mesh = load(K8S / folder for folder in folders.split())
    assert expected_weights(mesh) == weights
    assert baseline(mesh) == stand_in
    assert dict(example_headers(mesh)) == headers


@pytest.mark.parametrize(
    ("route", "weights"),
    [
        ({"match": [PATH], "route": [to(MOCKA, "v1")]}, {"v1": 1}),
        # Both versions are behind it, in no known shares.
        ({"match": [PATH], "route": [to(MOCKA)]}, None),
        # Not every request is asked for.
        (
            {
                "match": [PATH | {"headers": {"x-lane": {"exact": "v2"}}}],
                "route": [to(MOCKA, "v2")],
            },
            None,
        ),
        ({"route": [to(MOCKA, "v1")]}, None),
    ],
)
def test_weights_are_expected_only_where_the_routes_tell_them(
    tmp_path: Path, route: Json, weights: dict[str, float] | None
) -> None:
    mesh = load([write(tmp_path / "mock.yaml", *PODS, at_gateway(route))])
    assert expected_weights(mesh) == weights


def test_headers_are_needed_only_where_no_route_does_without(tmp_path: Path) -> None:
    canary = {"match": [WITH_HEADER], "route": [to(MOCKA, "v2")]}
    rest = {"match": [PATH], "route": [to(MOCKA, "v1", 80), to(MOCKA, "v2", 20)]}
    both = load([write(tmp_path / "both.yaml", *PODS, at_gateway(canary, rest))])
    assert example_headers(both) == ()
    assert expected_weights(both) == {"v1": 80, "v2": 20}
    alone = load([write(tmp_path / "alone.yaml", *PODS, at_gateway(canary))])
    assert dict(example_headers(alone)) == {"x-lane": "v2"}
