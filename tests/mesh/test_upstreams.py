"""Whom a workload calls: by `--calls`, by its annotation, or by its variables."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import pytest

from mockservice.manifests.documents import read
from mockservice.mesh.errors import RefusedError
from mockservice.mesh.overrides import Overrides, calls, replacement
from mockservice.mesh.translate import translate
from tests.lanes.building import at_gateway, deployment, gateway, to
from tests.lanes.building import service as service_of_hops
from tests.mesh.test_workloads import config_map, env, mesh_of, notes, service, workload

if TYPE_CHECKING:
    from pathlib import Path

    from mockservice.mesh.model import Mesh

Json = dict[str, Any]


def variables(**values: str) -> list[Json]:
    return [{"name": name, "value": value} for name, value in values.items()]


def called(mesh: Mesh, name: str = "web-0") -> str | None:
    """The URLs that a pod calls."""
    return next(env(pod).get("upstream_url") for pod in mesh.pods if pod.name == name)


OTHERS = [
    service("orders", (8080, 8080)),
    workload("orders"),
    service("db", (5432, 5432)),
    workload("db", "StatefulSet", ports=(5432,)),
    service("both", (9000, 8080), (80, 8080)),
    workload("both"),
    service("queue", (9092, 9092), clusterIP="None"),
    workload("queue", "StatefulSet", ports=(9092,)),
]


@pytest.mark.parametrize(
    ("name", "value", "url"),
    [
        ("A", "http://orders:8080", "http://orders:8080/"),
        ("A", "http://orders:8080/api?all=1", "http://orders:8080/api?all=1"),
        ("A", "http://orders.default.svc.cluster.local:8080/", "http://orders:8080/"),
        ("A", "orders:8080", "http://orders:8080/"),
        ("A", "orders.default:8080", "http://orders:8080/"),
        ("A", "http://both", "http://both/"),
        ("A", "grpc://orders", "http://orders:8080/"),
        ("A", "postgres://me:secret@db:5432/shop?sslmode=off", "http://db:5432/"),
        ("A", "jdbc:postgresql://db/shop", "http://db:5432/"),
        ("A", "orders:8080, db:5432", "http://orders:8080/,http://db:5432/"),
        ("ORDERS_HOST", "orders", "http://orders:8080/"),
        ("A", "queue-0.queue:9092,queue-1.queue.default.svc:9092", "http://queue:9092/"),
        ("A", "http://any.orders:8080", None),
        # A port that the Service does not have, another host, a word, and where telemetry goes.
        ("A", "http://orders", None),
        ("A", "http://example.com:8080", None),
        ("A", "orders", None),
        ("A", "see http://orders:8080", None),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://orders:8080", None),
    ],
)
def test_a_variable_that_is_an_address_is_a_call(
    name: str, value: str, url: str | None, tmp_path: Path
) -> None:
    web = workload("web", env=variables(**{name: value}))
    mesh = mesh_of(tmp_path, service("web"), web, *OTHERS)
    assert called(mesh) == url
    by = f", by variable {name}; port" if url else "; calls nothing; port"
    assert any(by in text for text in notes(mesh))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "A",
            "http://order:8080",
            "is no call: there is no Service 'order'; did you mean 'orders'?",
        ),
        ("ORDERS_HOST", "oders", "is no call: there is no Service 'oders'; did you mean 'orders'?"),
        (
            "A",
            "http://orders.shop.svc:8080",
            "is no call: there is no Service 'orders.shop.svc'; did you mean 'orders.default.svc'?",
        ),
        (
            "A",
            "redis://me:secret@cache.default.svc.cluster.local:6379",
            "is no call: there is no Service 'cache.default.svc.cluster.local' among the manifests",
        ),
        (
            "A",
            "http://orders:9090",
            "is no call: Service orders has no port 9090; there is only 8080",
        ),
        ("A", "http://orders", "is no call: Service orders has no port 80; there is only 8080"),
        ("A", "http://job:80", "is no call: there is no Service 'job', only pods of that app"),
        (
            "A",
            "https://orders:8080",
            "calls orders by https: a sidecar cannot see the headers inside, so that on a cluster"
            " no rule which matches a header is for that call",
        ),
        ("A", "https://secure", None),
        ("A", "http://web:1", None),
        ("A", "http://redis:6379", None),
        ("A", "http://orders.example.com", None),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://order:8080", None),
    ],
)
def test_a_variable_that_is_nearly_a_call_is_noted_with_its_line(
    name: str, value: str, said: str | None, tmp_path: Path
) -> None:
    web = workload("web", env=variables(LEVEL="info", **{name: value}))
    secure = service("secure", (443, 8080))
    secure["spec"]["ports"][0]["name"] = "https"
    others = [*OTHERS, secure, workload("secure"), workload("job")]
    mesh = mesh_of(tmp_path, service("web"), web, *others)
    told = [note for note in mesh.notes if ": variable " in note.text]
    expected = [] if said is None else [f"Deployment web: variable {name} {said}"]
    assert [note.text for note in told] == expected
    lines = (tmp_path / "own.yaml").read_text().splitlines()
    for note in told:
        assert note.source is not None
        assert lines[note.source.line - 1].strip() == f"- name: {name}"
        assert not note.informs


def test_a_variable_may_come_from_a_config_map(tmp_path: Path) -> None:
    web = workload("web", envFrom=[{"configMapRef": {"name": "settings"}}])
    settings = config_map("settings", ORDERS="http://orders:8080/")
    assert called(mesh_of(tmp_path, settings, web, *OTHERS)) == "http://orders:8080/"


def test_an_annotation_goes_before_variables_and_the_command_line_before_both(
    tmp_path: Path,
) -> None:
    web = workload("web", env=variables(A="http://orders:8080"))
    assert called(mesh_of(tmp_path, web, *OTHERS)) == "http://orders:8080/"
    web["metadata"]["annotations"] = {"mockservice.io/calls": "db, both:9000/x"}
    mesh = mesh_of(tmp_path, web, *OTHERS)
    assert called(mesh) == "http://db:5432/,http://both:9000/x"
    assert "calls db, both, by annotation mockservice.io/calls;" in " ".join(notes(mesh))
    template = web["spec"]["template"]["metadata"]
    template["annotations"] = {"mockservice.io/calls": "db"}
    assert called(mesh_of(tmp_path, web, *OTHERS)) == "http://db:5432/"
    template["annotations"] = {"mockservice.io/calls": ""}
    assert called(mesh_of(tmp_path, web, *OTHERS)) is None
    mesh = mesh_of(tmp_path, web, *OTHERS, calls_of=("web=orders/a,both",))
    assert called(mesh) == "http://orders:8080/a,http://both:9000/"


def test_what_is_said_of_a_version_counts_for_it(tmp_path: Path) -> None:
    pods = [workload(f"web-{v}", labels={"app": "web", "version": v}) for v in ("v1", "v2")]
    mesh = mesh_of(tmp_path, *pods, *OTHERS, calls_of=("web=db", "web/v2=orders"))
    assert called(mesh, "web-v1-0") == "http://db:5432/"
    assert called(mesh, "web-v2-0") == "http://orders:8080/"


def test_it_counts_for_hops_too(tmp_path: Path) -> None:
    hop = deployment("web", "v1", env={"upstream_url": "http://db:5432/"})
    mesh = mesh_of(tmp_path, service_of_hops("web"), hop, *OTHERS, calls_of=("web=orders",))
    assert called(mesh, "web-v1-0") == "http://orders:8080/"


def test_addresses_that_lead_back_are_no_calls(tmp_path: Path) -> None:
    """Of what the gateway calls, the calls count; and nobody calls itself."""
    web = workload("web", env=variables(ORDERS="orders:8080", SELF="http://web"))
    orders = workload("orders", env=variables(CALLBACK="http://web"))
    objects = [
        service("orders", (8080, 8080)),
        orders,
        service("web"),
        web,
        gateway(),
        at_gateway({"route": [to("web.default.svc.cluster.local")]}),
    ]
    mesh = mesh_of(tmp_path, *objects)
    assert called(mesh) == "http://orders:8080/"
    assert called(mesh, "orders-0") is None
    assert (
        "Deployment orders: runs as the mock orders(latest), by label app and no version label;"
        " calls nothing; leaves out web, by variable CALLBACK, as calls would run in a circle;"
        " port 8080, by Service orders"
    ) in notes(mesh)


@pytest.mark.parametrize(
    ("web", "orders", "both", "kept"),
    [
        # The gateway calls web: orders are one call from it, both is two.
        ({"A": "orders:8080"}, {"B": "both:9000"}, {"A": "orders:8080"}, {"orders": "both"}),
        # Both are one call from it: names decide, in either order.
        (
            {"A": "orders:8080", "B": "both:9000"},
            {"CALLBACK_URL": "both:9000"},
            {"A": "orders:8080"},
            {"both": "orders"},
        ),
        (
            {"B": "both:9000", "A": "orders:8080"},
            {"B": "both:9000"},
            {"ORDERS_WEBHOOK": "orders:8080"},
            {"orders": "both"},
        ),
    ],
)
def test_of_a_circle_the_call_that_leads_back_is_left_out(
    web: dict[str, str],
    orders: dict[str, str],
    both: dict[str, str],
    kept: dict[str, str],
    tmp_path: Path,
) -> None:
    mocks = {"web": web, "orders": orders, "both": both}
    objects = [one for one in OTHERS if one["kind"] == "Service"]
    # The manifests may have the callee first.
    objects += [workload(name, env=variables(**mocks[name])) for name in reversed(mocks)]
    entrance = at_gateway({"route": [to("web.default.svc.cluster.local")]})
    mesh = mesh_of(tmp_path, *objects, service("web"), gateway(), entrance)
    found = {name: called(mesh, f"{name}-0") for name in ("orders", "both")}
    urls = {"orders": "http://orders:8080/", "both": "http://both:9000/"}
    assert {name: url for name, url in found.items() if url} == {
        name: urls[to] for name, to in kept.items()
    }
    assert set((called(mesh) or "").split(",")) == {
        urls[name] for name in urls if name in " ".join(web.values())
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("wep=db", "--calls: 'wep=db': there is no app 'wep'; did you mean 'web'?"),
        ("web/v2=db", "--calls: 'web/v2=db': web has no version 'v2'; there is only latest"),
        ("web=order", "--calls: 'web=order': there is no Service 'order'; did you mean 'orders'?"),
        ("web=db:1", "--calls: 'web=db:1': Service db has no port 1; there is only 5432"),
    ],
)
def test_what_is_said_of_nobody_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as refused:
        mesh_of(tmp_path, workload("web"), *OTHERS, calls_of=(text,))
    assert refused.value.problems == [problem]


def test_what_is_said_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as refused:
        mesh_of(tmp_path, workload("web"), *OTHERS, calls_of=("web=db", "web=orders"))
    assert refused.value.problems == [
        "--calls: 'web=orders': must be said only once of web",
    ]


def test_an_annotation_of_nobody_is_refused_with_its_line(tmp_path: Path) -> None:
    web = workload("web")
    web["metadata"]["annotations"] = {"mockservice.io/calls": "order"}
    with pytest.raises(RefusedError) as refused:
        mesh_of(tmp_path, web, *OTHERS)
    assert refused.value.problems == [
        f"{tmp_path}/own.yaml:1: Deployment web: annotation mockservice.io/calls: 'order':"
        " there is no Service 'order'; did you mean 'orders'?"
    ]


def test_a_file_has_a_line_for_each_app(tmp_path: Path) -> None:
    file = tmp_path / "calls.txt"
    file.write_text("# Who calls whom.\n\nweb=orders,db  # and more\norders/v1 = db\n")
    assert [(one.app, one.version, one.value) for one in calls(str(file))] == [
        ("web", None, "orders,db"),
        ("orders", "v1", "db"),
    ]
    with pytest.raises(RefusedError) as refused:
        mesh_of(tmp_path, workload("web"), calls_of=(str(file),))
    assert refused.value.problems[0].startswith(f"--calls {file}:4: 'orders/v1 = db': there is no")
    file.write_text("web\n")
    with pytest.raises(argparse.ArgumentTypeError, match=f"--calls {file}:1: 'web': must be APP="):
        calls(str(file))
    with pytest.raises(argparse.ArgumentTypeError, match=r"or a file of such lines \(no such"):
        calls("web")


@pytest.mark.parametrize(
    "text",
    [
        "cart",
        "cart=",
        "=http://127.0.0.1:9000",
        "cart/=http://127.0.0.1:9000",
        "cart=127.0.0.1:9000",
        "cart=https://127.0.0.1:9000",
        "cart=http://127.0.0.1:9000/cart",
        "cart=http://127.0.0.1:x",
    ],
)
def test_what_replaces_an_app_is_a_url(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"must be APP=URL or APP/VERSION=URL"):
        replacement(text)


def test_a_replaced_app_has_one_pod_of_each_workload(tmp_path: Path) -> None:
    web = workload("web")
    web["spec"]["replicas"] = 3
    url = "http://127.0.0.1:9000"
    overrides = Overrides(replaced=(replacement(f"web={url}/"),))
    mesh_of(tmp_path, web, *OTHERS)
    mesh = translate(read([tmp_path / "own.yaml"]), overrides)
    assert [(str(pod), pod.replaced_by) for pod in mesh.pods][-1] == ("queue-0", None)
    assert [str(pod) for pod in mesh.pods if pod.replaced_by == url] == ["web-0"]
    wrong = Overrides(replaced=(replacement(f"web/v1={url}"),))
    with pytest.raises(RefusedError, match=r"web has no version 'v1'; there is only latest"):
        translate(read([tmp_path / "own.yaml"]), wrong)
