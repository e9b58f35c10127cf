"""Sound lanes of plain Istio, as people design them: none of them may be called a leak.

All run the same pods, mocka -> mockb -> mockc, each in v1, v2 and v3.
"""

from __future__ import annotations

from typing import Any

from tests.lanes.building import at_gateway, between_pods, chain, gateway, service, subsets, to

Json = dict[str, Any]

A, B, C = "mocka", "mockb", "mockc"
HOSTS = {app: f"{app}.default.svc.cluster.local" for app in (A, B, C)}
LANE = "x-lane"


def pods() -> list[Json]:
    """What all designs share."""
    return [*chain(mocka="v1 v2 v3", mockb="v1 v2 v3", mockc="v1 v2 v3"), gateway()]


def named(app: str, **versions: str) -> Json:
    """A DestinationRule with a subset of each name."""
    rule = subsets(HOSTS[app])
    rule["spec"]["subsets"] = [
        {"name": name, "labels": {"version": version}} for name, version in versions.items()
    ]
    return rule


def enters(*routes: Json) -> Json:
    """A VirtualService at the gateway, for /mock."""
    for route in routes:
        for match in route.setdefault("match", [{}]):
            match.setdefault("uri", {"exact": "/mock"})
    return at_gateway(*routes)


def calls(app: str, *routes: Json) -> Json:
    """A VirtualService of the calls of an app."""
    return between_pods(HOSTS[app], *routes)


def by(app: str, subset: str | None, weight: int | None = None, **match: Any) -> Json:
    """A route to a subset for requests with exactly these headers, `_` in names being `-`."""
    headers = {name.replace("_", "-"): {"exact": value} for name, value in match.items()}
    route: Json = {"route": [to(HOSTS[app], subset, weight)]}
    return {"match": [{"headers": headers}], **route} if headers else route


def of(app: str, version: str) -> Json:
    """A route to the subset of a version for callers of that version."""
    return {"match": [{"sourceLabels": {"version": version}}], "route": [to(HOSTS[app], version)]}


def _stable_and_canary() -> list[Json]:
    both = {"stable": "v1", "canary": "v2"}
    return [
        named(A, stable="v1"),
        named(B, **both),
        named(C, stable="v1"),
        enters(by(A, "stable")),
        calls(B, by(B, "canary", x_lane="canary"), by(B, "stable")),
        calls(C, by(C, "stable")),
    ]


def _values_by_regex_and_prefix() -> list[Json]:
    def beta(app: str, text: Json) -> Json:
        return {"match": [{"headers": {LANE: text}}], "route": [to(HOSTS[app], "v2")]}

    regex, prefix = {"regex": "^(beta|beta-2)$"}, {"prefix": "beta"}
    return [
        *(named(app, v1="v1", v2="v2") for app in (A, B, C)),
        enters(beta(A, regex), by(A, "v1")),
        calls(B, beta(B, regex), by(B, "v1")),
        calls(C, beta(C, prefix), by(C, "v1")),
    ]


def _weights_that_set_the_header() -> list[Json]:
    in_v2 = {"request": {"set": {LANE: "v2"}}}
    return [
        named(A, v1="v1"),
        named(B, v1="v1"),
        named(C, v1="v1", v2="v2"),
        enters(
            {"route": [to(HOSTS[A], "v1", 80), to(HOSTS[A], "v1", 20, headers=in_v2)]},
        ),
        calls(B, by(B, "v1")),
        calls(C, by(C, "v2", x_lane="v2"), by(C, "v1")),
    ]


def _strict_by_header() -> list[Json]:
    return [
        *(named(app, v1="v1", v2="v2") for app in (A, B, C)),
        enters(by(A, "v1", x_lane="v1"), by(A, "v2", x_lane="v2")),
        *(calls(app, by(app, "v1", x_lane="v1"), by(app, "v2", x_lane="v2")) for app in (B, C)),
    ]


def _one_app_for_one_user() -> list[Json]:
    return [
        *(named(app, v1="v1", v2="v2") for app in (A, B, C)),
        enters(by(A, "v1")),
        calls(B, by(B, "v2", end_user="jason"), by(B, "v1")),
        calls(C, by(C, "v1")),
    ]


def _a_split_inside_the_mesh() -> list[Json]:
    split = {"route": [to(HOSTS[C], "v1", 80), to(HOSTS[C], "v2", 20)]}
    return [
        *(named(app, v1="v1", v2="v2") for app in (A, B, C)),
        enters(by(A, "v2", x_lane="v2"), by(A, "v1")),
        calls(B, by(B, "v2", x_lane="v2"), by(B, "v1")),
        calls(C, by(C, "v2", x_lane="v2"), split),
    ]


def _a_lane_that_shares_the_pods_of_another() -> list[Json]:
    return [
        named(A, s1="v1", s2="v2"),
        named(B, s1="v1", s2="v2", s3="v3"),
        named(C, s1="v1", s2="v2"),
        enters(by(A, "s2", x_lane="s2"), by(A, "s1")),
        calls(B, by(B, "s2", x_lane="s2"), by(B, "s3", x_lane="s3"), by(B, "s1")),
        calls(C, by(C, "s2", x_lane="s2"), by(C, "s2", x_lane="s3"), by(C, "s1")),
    ]


def _a_baseline_of_several_versions() -> list[Json]:
    return [
        named(A, base="v1"),
        named(B, base="v2", blue="v3"),
        named(C, base="v1", blue="v2"),
        enters(by(A, "base")),
        calls(B, by(B, "blue", x_lane="blue"), by(B, "base")),
        calls(C, by(C, "blue", x_lane="blue"), by(C, "base")),
    ]


def _labels_entered_by_header() -> list[Json]:
    return [
        *(named(app, v1="v1", v2="v2") for app in (A, B, C)),
        enters(by(A, "v2", x_lane="v2"), by(A, "v1")),
        *(calls(app, of(app, "v1"), of(app, "v2")) for app in (B, C)),
    ]


def _labels_entered_by_path() -> list[Json]:
    beta = {"match": [{"uri": {"prefix": "/beta"}}], "route": [to(HOSTS[A], "v2")]}
    return [
        *(named(app, v1="v1", v2="v2") for app in (A, B, C)),
        at_gateway(beta, {"match": [{"uri": {"prefix": "/"}}], "route": [to(HOSTS[A], "v1")]}),
        *(calls(app, of(app, "v1"), of(app, "v2")) for app in (B, C)),
    ]


def _two_headers() -> list[Json]:
    def tester(app: str) -> Json:
        return by(app, "v3", x_lane="v3", x_env="test")

    return [
        *(named(app, v1="v1", v2="v2", v3="v3") for app in (A, B, C)),
        enters(tester(A), by(A, "v2", x_lane="v2"), by(A, "v1")),
        *(calls(app, tester(app), by(app, "v2", x_lane="v2"), by(app, "v1")) for app in (B, C)),
    ]


def _a_service_for_each_version() -> list[Json]:
    services = [
        service(f"{app}-{version}", app=app, version=version)
        for app in (A, B, C)
        for version in ("v1", "v2")
    ]

    def to_version(app: str, version: str, **match: Any) -> Json:
        route = by(app, None, **match)
        route["route"] = [to(f"{app}-{version}.default.svc.cluster.local")]
        return route

    return [
        *services,
        enters(to_version(A, "v2", x_lane="v2"), to_version(A, "v1")),
        *(calls(app, to_version(app, "v2", x_lane="v2"), to_version(app, "v1")) for app in (B, C)),
    ]


def _everything_promoted() -> list[Json]:
    return [
        *(named(app, v1="v1", v2="v2") for app in (A, B, C)),
        enters(by(A, "v2")),
        calls(B, by(B, "v2")),
        calls(C, by(C, "v2")),
    ]


def _a_lane_that_nobody_enters_yet() -> list[Json]:
    return [
        *(named(app, v1="v1", v2="v2") for app in (A, B, C)),
        enters({"route": [to(HOSTS[A], "v1", 100), to(HOSTS[A], "v2", 0)]}),
        *(calls(app, of(app, "v1"), of(app, "v2")) for app in (B, C)),
    ]


def _the_gateway_assigns_lanes() -> list[Json]:
    tagged = by(A, "v2", end_user="jason") | {"headers": {"request": {"set": {LANE: "v2"}}}}
    others = by(A, "v1") | {"headers": {"request": {"remove": [LANE]}}}
    return [
        *(named(app, v1="v1", v2="v2") for app in (A, B, C)),
        enters(tagged, others),
        *(calls(app, by(app, "v2", x_lane="v2"), by(app, "v1")) for app in (B, C)),
    ]


def _a_header_or_labels() -> list[Json]:
    def either(app: str) -> Json:
        matches = [{"headers": {LANE: {"exact": "v2"}}}, {"sourceLabels": {"version": "v2"}}]
        return {"match": matches, "route": [to(HOSTS[app], "v2")]}

    return [
        *(named(app, v1="v1", v2="v2") for app in (A, B, C)),
        enters(by(A, "v2", x_lane="v2"), by(A, "v1")),
        *(calls(app, either(app), by(app, "v1")) for app in (B, C)),
    ]


def _a_value_that_begins_like_another() -> list[Json]:
    def beta(app: str) -> Json:
        match = [{"headers": {LANE: {"prefix": "beta"}}}]
        return {"match": match, "route": [to(HOSTS[app], "v2")]}

    return [
        *(named(app, v1="v1", v2="v2", v3="v3") for app in (A, B, C)),
        enters(by(A, "v3", x_lane="beta-2"), beta(A), by(A, "v1")),
        *(calls(app, by(app, "v3", x_lane="beta-2"), beta(app), by(app, "v1")) for app in (B, C)),
    ]


def _testers_of_a_lane() -> list[Json]:
    def tester(app: str) -> Json:
        return by(app, "v3", x_lane="v2", x_env="test")

    return [
        *(named(app, v1="v1", v2="v2", v3="v3") for app in (A, B, C)),
        enters(tester(A), by(A, "v2", x_lane="v2"), by(A, "v1")),
        *(calls(app, tester(app), by(app, "v2", x_lane="v2"), by(app, "v1")) for app in (B, C)),
    ]


def _subsets_that_are_not_named_like_values() -> list[Json]:
    return [
        named(A, old="v1", new="v2"),
        named(B, old="v2", new="v3"),
        named(C, old="v3", new="v1"),
        enters(by(A, "new", x_lane="blue"), by(A, "old")),
        *(calls(app, by(app, "new", x_lane="blue"), by(app, "old")) for app in (B, C)),
    ]


DESIGNS = {
    "stable and canary": _stable_and_canary,
    "values by regex and by prefix": _values_by_regex_and_prefix,
    "weights that set the header": _weights_that_set_the_header,
    "strict by header": _strict_by_header,
    "one app for one user": _one_app_for_one_user,
    "a split inside the mesh": _a_split_inside_the_mesh,
    "a lane that shares the pods of another": _a_lane_that_shares_the_pods_of_another,
    "a baseline of several versions": _a_baseline_of_several_versions,
    "labels, entered by header": _labels_entered_by_header,
    "labels, entered by path": _labels_entered_by_path,
    "two headers": _two_headers,
    "a Service for each version": _a_service_for_each_version,
    "everything promoted": _everything_promoted,
    "a lane that nobody enters yet": _a_lane_that_nobody_enters_yet,
    "the gateway assigns lanes": _the_gateway_assigns_lanes,
    "a header or labels": _a_header_or_labels,
    "a value that begins like another": _a_value_that_begins_like_another,
    "testers of a lane": _testers_of_a_lane,
    "subsets that are not named like values": _subsets_that_are_not_named_like_values,
}
