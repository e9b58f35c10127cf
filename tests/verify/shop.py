"""A shop of four services in permissive lanes of plain Istio, and slips that break its lanes.

front -> cart -> price -> stock, all in the baseline `base`; lane `blue` holds cart and price, and
header x-lane keeps requests in it.
"""

from __future__ import annotations

from typing import Any

from tests.lanes.building import at_gateway, between_pods, deployment, gateway, service, subsets, to

Json = dict[str, Any]

APPS = ("front", "cart", "price", "stock")
FRONT = "front.default.svc.cluster.local"
BLUE = ("cart", "price")
IN_BASE = "front(base) -> cart(base) -> price(base) -> stock(base)"
IN_BLUE = "front(base) -> cart(blue) -> price(blue) -> stock(base)"


def shop() -> list[Json]:
    """The sound shop: `/shop` is the baseline's, with `x-lane: blue` it is lane blue's."""
    entrance = {"match": [{"uri": {"prefix": "/shop"}}], "route": [to(FRONT)]}
    return [*_workloads(), gateway(), at_gateway(entrance), *_rules()]


def split_shop(blue: int = 15) -> list[Json]:
    """The shop whose gateway puts a part of the requests, in percent, into lane blue."""
    in_blue = {"request": {"set": {"x-lane": "blue"}}}
    route = [
        to(FRONT, weight=100 - blue),
        to(FRONT, weight=blue, headers=in_blue),
    ]
    entrance = {"match": [{"uri": {"prefix": "/shop"}}], "route": route}
    return [*_workloads(), gateway(), at_gateway(entrance), *_rules()]


def without_rules_of(app: str) -> list[Json]:
    """Somebody forgot the VirtualService of an app: its calls are balanced over all versions."""
    return [one for one in shop() if not _is_route_of(one, app)]


def without_blue_rule_of(app: str) -> list[Json]:
    """Somebody dropped the rule of an app for lane blue: its requests go to the baseline."""
    objects = shop()
    for one in objects:
        if _is_route_of(one, app):
            one["spec"]["http"] = [rule for rule in one["spec"]["http"] if "match" not in rule]
    return objects


def without_lanes() -> list[Json]:
    """Nothing but the gateway's route to a shop of one version."""
    return [one for one in shop() if not _is_rule(one) and "-blue" not in one["metadata"]["name"]]


def _workloads() -> list[Json]:
    objects = []
    for app, upstream in zip(APPS, (*APPS[1:], None), strict=True):
        env = {} if upstream is None else {"upstream_url": f"http://{upstream}:8000/"}
        objects.append(service(app))
        objects += [deployment(app, version, env=env) for version in _versions(app)]
    return objects


def _rules() -> list[Json]:
    objects = []
    for app in APPS[1:]:
        objects.append(subsets(app, *_versions(app)))
        rules: list[Json] = [{"route": [to(app, "base")]}]
        if app in BLUE:
            match = [{"headers": {"x-lane": {"exact": "blue"}}}]
            rules.insert(0, {"match": match, "route": [to(app, "blue")]})
        objects.append(between_pods(app, *rules))
    return objects


def _versions(app: str) -> tuple[str, ...]:
    return ("base", "blue") if app in BLUE else ("base",)


def _is_rule(one: Json) -> bool:
    is_at_gateway = "gateways" in one["spec"]
    return one["kind"] in ("VirtualService", "DestinationRule") and not is_at_gateway


def _is_route_of(one: Json, app: str) -> bool:
    return (one["kind"], one["metadata"]["name"]) == ("VirtualService", app)
