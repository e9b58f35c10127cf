"""A shop whose calls are a tree, in lanes of plain Istio, and what its hops answer.

web calls orders and users, orders calls stock and price, price calls users. Each of them is there
in v1 and v2, and header x-lane names the lane.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mockservice.chain import Chain, Hop
from tests.lanes.building import (
    at_gateway,
    between_pods,
    deployment,
    gateway,
    service,
    set_env,
    subsets,
    to,
)
from tests.probe.gateway import TRACE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Json = dict[str, Any]

UPSTREAMS = {
    "web": ("orders", "users"),
    "orders": ("stock", "price"),
    "stock": (),
    "price": ("users",),
    "users": (),
}
AFTER = ("", "web", "web -> orders", "web -> orders", "web -> orders -> price", "web")
"""The branch of each hop, in call order."""
WEB, ORDERS, STOCK, PRICE, PRICES_USERS, USERS = range(6)
"""The places of the hops in call order."""
LANE = "x-lane"


def pods() -> list[Json]:
    """The workloads, and the gateway."""
    objects = []
    for app, upstreams in UPSTREAMS.items():
        objects += [service(app), deployment(app, "v1"), deployment(app, "v2")]
        if upstreams:
            urls = ", ".join(f"http://{upstream}:8000/" for upstream in upstreams)
            set_env(objects, app, upstream_url=urls)
    return [*objects, gateway()]


def permissive() -> list[Json]:
    """Lane v2 holds all apps, and all else is the baseline's, v1."""
    return _rules("v2", None)


def strict() -> list[Json]:
    """Lanes v1 and v2, and nothing for a request of neither."""
    return _rules("v1", "v2")


def strict_by_labels() -> list[Json]:
    """The same lanes, which only the gateway tells by header: then the caller's version counts."""
    rules = strict()
    for one in rules:
        if one["kind"] == "VirtualService" and one["metadata"]["name"] in UPSTREAMS:
            for rule, version in zip(one["spec"]["http"], ("v1", "v2"), strict=True):
                rule["match"] = [{"sourceLabels": {"version": version}}]
    return rules


def without_rule(objects: list[Json], app: str, lane: str) -> list[Json]:
    """Somebody dropped the rule for the calls of a lane to an app."""
    for one in objects:
        if (one["kind"], one["metadata"]["name"]) == ("VirtualService", app):
            rules = one["spec"]["http"]
            rules.remove(_rule(f"{app}.default.svc.cluster.local", lane))
    return objects


def without_app(objects: list[Json], app: str) -> list[Json]:
    """Lane v2 does not hold an app: there is no rule, no subset and no pod of it."""
    for one in without_rule(objects, app, "v2"):
        if (one["kind"], one["metadata"]["name"]) == ("DestinationRule", app):
            one["spec"]["subsets"].pop()
    return [one for one in objects if one["metadata"]["name"] != f"{app}-v2"]


def answered(
    versions: str, lane: str | None = None, instead: Mapping[int, Chain] | None = None
) -> Chain:
    """What the tree answers whose hops have these versions, in call order, and got the header.

    Args:
        versions: of the six hops.
        lane: in x-lane; None: the hops received no such header.
        instead: what stands in the place of a hop, and of what it calls.
    """
    received = {"traceparent": TRACE} | ({} if lane is None else {LANE: lane})
    return _answered("web", iter(enumerate(versions.split())), received, instead or {})


def _answered(
    app: str,
    versions: Iterator[tuple[int, str]],
    received: dict[str, str],
    instead: Mapping[int, Chain],
) -> Chain:
    place, version = next(versions)
    chains = tuple(_answered(one, versions, received, instead) for one in UPSTREAMS[app])
    if place in instead:
        return instead[place]
    failed = [_status(chain) for chain in chains if _status(chain) >= 300]
    status = failed[0] if failed else 200
    hop = Hop(app, version, f"10.0.0.{place}", status, 9.0 - place, dict(received))
    if len(chains) == 1:
        (following,) = chains
        return Chain((hop, *following.hops), following.error, following.upstream_body)
    return Chain((replace(hop, upstreams=chains),))


def _status(chain: Chain) -> int:
    """What a hop, or whatever stands in its place, answers with."""
    if chain.hops:
        return chain.hops[0].status or 200
    return 200 if chain.error is None and chain.upstream_body == "hello" else 502


def _rules(first: str, second: str | None) -> list[Json]:
    """Rules for lane `first`, and for lane `second` or, without one, for all other requests."""

    def routes(app: str) -> list[Json]:
        host = f"{app}.default.svc.cluster.local"
        others = {"route": [to(host, "v1")]} if second is None else _rule(host, second)
        return [_rule(host, first), others]

    return [
        at_gateway(*routes("web")),
        *(subsets(app, "v1", "v2") for app in UPSTREAMS),
        *(between_pods(app, *routes(app)) for app in UPSTREAMS if app != "web"),
    ]


def _rule(host: str, lane: str) -> Json:
    """The rule that leads the calls of a lane to its pods."""
    return {"match": [{"headers": {LANE: {"exact": lane}}}], "route": [to(host, lane)]}
