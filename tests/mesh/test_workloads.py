"""Workloads of somebody's own: what runs in place of each, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mockservice.manifests.documents import read
from mockservice.mesh import kubernetes
from mockservice.mesh.errors import RefusedError
from mockservice.mesh.load import load
from mockservice.mesh.overrides import Overrides, calls
from mockservice.mesh.translate import translate
from tests.lanes.building import (
    at_gateway,
    between_pods,
    gateway,
    lane,
    lane_group,
    subsets,
    to,
    write,
)

if TYPE_CHECKING:
    from pathlib import Path

    from mockservice.mesh.model import Mesh, Pod

Json = dict[str, Any]


def workload(
    name: str,
    kind: str = "Deployment",
    labels: dict[str, str] | None = None,
    ports: Any = (8080,),
    **container: Any,
) -> Json:
    """A workload with an image of its own; each port is a number, or a name and a number."""
    own = {"app": name} if labels is None else labels
    listed = [
        {"containerPort": one} if isinstance(one, int) else dict(zip(_PORT, one, strict=True))
        for one in ports
    ]
    containers = [{"name": name, "image": "example.com/image:1", "ports": listed, **container}]
    groups = {"Rollout": "argoproj.io/v1alpha1", "Pod": "v1"}
    body = {
        "apiVersion": groups.get(kind, "apps/v1"),
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"containers": containers},
    }
    if kind == "Pod":
        body["metadata"] = {"name": name, "labels": own}
        return body
    template = {"metadata": {"labels": own}, "spec": {"containers": containers}}
    return {**body, "spec": {"selector": {"matchLabels": own}, "template": template}}


_PORT = ("name", "containerPort")


def service(name: str, *ports: Any, selector: dict[str, str] | None = None, **spec: Any) -> Json:
    """A Service; each port is a number, or a number and the target."""
    listed = [
        {"name": f"p{number}", **dict(zip(("port", "targetPort"), one, strict=True))}
        if isinstance(one, tuple)
        else {"name": f"p{number}", "port": one}
        for number, one in enumerate(ports or (80,))
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": selector or {"app": name}, "ports": listed, **spec},
    }


def config_map(name: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def mesh_of(folder: Path, *objects: Json, calls_of: tuple[str, ...] = ()) -> Mesh:
    overrides = Overrides(tuple(one for text in calls_of for one in calls(text)))
    return translate(read([write(folder / "own.yaml", *objects)]), overrides)


def env(pod: Pod) -> dict[str, str]:
    return dict(pod.env)


def notes(mesh: Mesh) -> list[str]:
    return [note.text for note in mesh.notes]


def shown(mesh: Mesh) -> list[str]:
    """The apps and versions of all pods."""
    return [f"{pod.app}({pod.version})" for pod in mesh.pods]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"app": "web", "version": "v1"}, "web(v1)"),
        ({"app.kubernetes.io/name": "web", "app": "other", "version": "v1"}, "web(v1)"),
        ({"app": "web", "app.kubernetes.io/version": "1.4"}, "web(1.4)"),
        ({"app": "web", "app.kubernetes.io/version": "1.4", "version": "v1"}, "web(v1)"),
        ({"app": "web"}, "web(latest)"),
        ({"tier": "front"}, "shop-web(latest)"),
    ],
)
def test_labels_say_what_a_mock_shows(
    labels: dict[str, str], expected: str, tmp_path: Path
) -> None:
    mesh = mesh_of(tmp_path, workload("shop-web", labels=labels))
    assert shown(mesh) == [expected]


@pytest.mark.parametrize(
    "kind", ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Rollout", "Pod"]
)
def test_whatever_makes_pods_runs(kind: str, tmp_path: Path) -> None:
    one = workload("web", kind)
    if kind not in ("Pod", "DaemonSet"):
        one["spec"]["replicas"] = 2
    mesh = mesh_of(tmp_path, service("web", (80, 8080)), one)
    names = {"Pod": ["web"], "DaemonSet": ["web-0"]}.get(kind, ["web-0", "web-1"])
    assert [(str(pod), pod.port) for pod in mesh.pods] == [(name, 8080) for name in names]
    assert list(mesh.pods_of(mesh.services[0])) == list(mesh.pods)
    assert notes(mesh) == [
        f"{kind} web: runs as the mock web(latest), by label app and no version label;"
        " calls nothing; port 8080, by Service web"
    ]


def test_a_daemon_set_has_no_replicas(tmp_path: Path) -> None:
    one = workload("web", "DaemonSet")
    one["spec"]["replicas"] = 2
    with pytest.raises(RefusedError, match=r"spec.replicas: unknown field"):
        mesh_of(tmp_path, one)


def test_a_rollout_takes_its_pods_from_a_deployment(tmp_path: Path) -> None:
    rollout = workload("web", "Rollout")
    rollout["spec"] = {
        "replicas": 2,
        "strategy": {"canary": {"steps": [{"setWeight": 10}]}},
        "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web-pods"},
    }
    deployment = workload("web-pods", labels={"app": "web", "version": "v1"})
    assert shown(mesh_of(tmp_path, rollout, deployment)) == ["web(v1)", "web(v1)"]
    with pytest.raises(RefusedError, match=r"workloadRef: there is no Deployment 'web-pods'"):
        mesh_of(tmp_path, rollout)


def test_a_rollout_without_pods_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "own.yaml", workload("web", "Rollout") | {"spec": {}})
    with pytest.raises(RefusedError, match=r"Rollout web: spec: must have template or workloadRef"):
        load([file])


def test_workloads_without_replicas_are_told_as_such(tmp_path: Path) -> None:
    one = workload("web")
    one["spec"]["replicas"] = 0
    with pytest.raises(RefusedError, match=r"must hold a workload with a replica: replicas is 0$"):
        load([write(tmp_path / "own.yaml", one)])
    with pytest.raises(RefusedError, match=r"must hold a workload$"):
        load([write(tmp_path / "own.yaml", service("web", selector={"app": "web"}))])


def test_where_labels_do_not_tell_apps_apart_their_services_do(tmp_path: Path) -> None:
    name = {"app.kubernetes.io/name": "shop"}
    objects = []
    for part in ("web", "api"):
        labels = {**name, "part": part}
        objects.append(service(part, selector=labels))
        objects += [
            workload(f"shop-{part}-{version}", labels={**labels, "version": version})
            for version in ("v1", "v2")
        ]
    mesh = mesh_of(tmp_path, *objects, workload("shop-job", labels=name))
    assert shown(mesh) == ["web(v1)", "web(v2)", "api(v1)", "api(v2)", "shop-job(latest)"]


def test_one_service_makes_one_app(tmp_path: Path) -> None:
    pods = [
        workload(f"web-{version}", labels={"app": f"web-{version}", "tier": "web"})
        for version in ("blue", "green")
    ]
    mesh = mesh_of(tmp_path, service("web", selector={"tier": "web"}), *pods)
    assert {pod.app for pod in mesh.pods} == {"web"}


def test_what_rules_tell_apart_shows_different_versions(tmp_path: Path) -> None:
    labels = {"app": "web", "app.kubernetes.io/version": "1.4"}
    pods = [
        workload(f"web-{track}", labels={**labels, "track": track})
        for track in ("stable", "canary")
    ]
    rule = subsets("web")
    rule["spec"]["subsets"] = [
        {"name": track, "labels": {"track": track}} for track in ("stable", "canary")
    ]
    assert shown(mesh_of(tmp_path, service("web"), *pods)) == ["web(1.4)", "web(1.4)"]
    assert shown(mesh_of(tmp_path, service("web"), *pods, rule)) == ["web(stable)", "web(canary)"]
    one = service("web-canary", selector={"app": "web", "track": "canary"})
    assert shown(mesh_of(tmp_path, service("web"), one, *pods)) == ["web(stable)", "web(canary)"]


def test_in_asm_a_lane_says_the_version(tmp_path: Path) -> None:
    objects = [gateway()]
    for app in ("mocka", "mockb", "mockc"):
        objects.append(service(app))
        objects += [
            workload(f"{app}-{env}", labels={"app": app, "env": env, "version": "1.4"})
            for env in ("base", "gray")
        ]
    lanes = [lane(name, "") for name in ("base", "gray")]
    for one in lanes:
        one["spec"]["labelSelector"] = {"env": one["metadata"]["name"]}
    mesh = mesh_of(tmp_path, *objects, lane_group(), *lanes)
    assert shown(mesh)[:2] == ["mocka(base)", "mocka(gray)"]
    assert "by label app and lane base" in notes(mesh)[0]


@pytest.mark.parametrize(
    ("ports", "target", "expected"),
    [
        ((8080,), 8080, 8080),
        ((8080, ("web", 9090)), "web", 9090),
        ((8080,), 7000, 7000),
        ((), 7000, 7000),
    ],
)
def test_a_mock_listens_where_its_service_leads(
    ports: Any, target: Any, expected: int, tmp_path: Path
) -> None:
    mesh = mesh_of(tmp_path, service("web", (80, target)), workload("web", ports=ports))
    assert mesh.pods[0].port == expected
    assert env(mesh.pods[0])["port"] == str(expected)


def test_without_a_service_it_listens_at_the_first_port(tmp_path: Path) -> None:
    mesh = mesh_of(tmp_path, workload("web", ports=(9000, 9001)), workload("job", ports=()))
    assert [pod.port for pod in mesh.pods] == [9000, 8000]


def test_a_port_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"targetPort: 70000: must be from 1 to 65535"):
        mesh_of(tmp_path, service("web", (80, 70000)), workload("web"))


def test_all_ports_of_its_services_lead_to_a_mock(tmp_path: Path) -> None:
    mesh = mesh_of(
        tmp_path, service("web", (80, 8080), (9797, 9797), (50051, 9999)), workload("web")
    )
    assert mesh.services[0].unserved_ports == ()


def test_other_containers_and_replicas_are_left_out(tmp_path: Path) -> None:
    one = workload("web", ports=(("http", 8080),), envFrom=[{"secretRef": {"name": "db"}}])
    one["spec"]["replicas"] = 30
    pod = one["spec"]["template"]["spec"]
    pod["initContainers"] = [{"name": "wait", "image": "busybox"}]
    pod["containers"].insert(0, {"name": "proxy", "ports": [{"containerPort": 9901}]})
    mesh = mesh_of(tmp_path, service("web", (80, "http")), one)
    assert len(mesh.pods) == 20
    assert mesh.pods[0].port == 8080
    assert notes(mesh)[1:] == [
        "Deployment web: left out: init container wait, 10 of 30 replicas, container proxy,"
        " the variables of Secret db"
    ]


def test_what_runs_without_a_sidecar_on_a_cluster_is_told(tmp_path: Path) -> None:
    one, other = workload("web"), workload("job")
    one["spec"]["template"]["spec"]["hostNetwork"] = True
    other["spec"]["template"]["metadata"]["annotations"] = {"sidecar.istio.io/inject": "false"}
    told = [text for text in notes(mesh_of(tmp_path, one, other)) if "sidecar here" in text]
    assert [text.partition(": it has")[0] for text in told] == [
        "Deployment web: hostNetwork",
        "Deployment job: sidecar.istio.io/inject: false",
    ]


def test_variables_are_as_a_kubelet_sets_them(tmp_path: Path) -> None:
    """Of a hop, as the environment of a mock says nothing but what it shows."""
    reference = {"name": "settings", "key": "headers"}
    variables: list[Json] = [
        {"name": "app", "value": "web"},
        {"name": "version", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['track']"}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "SPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "pod_ip", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "lane_headers", "valueFrom": {"configMapKeyRef": reference}},
        {"name": "WHOLE", "value": "$(SPACE)/$(NAME) $(NONE) $$(NAME)"},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "db", "key": "token"}}},
    ]
    one = workload("web", labels={"track": "v7"}, env=variables)
    one["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [
        {"prefix": "MY_", "configMapRef": {"name": "settings"}}
    ]
    one["spec"]["replicas"] = 2
    mesh = mesh_of(tmp_path, config_map("settings", headers="x-mine"), one)
    assert [env(pod)["NAME"] for pod in mesh.pods] == ["web-0", "web-1"]
    assert env(mesh.pods[0]) == {
        "app": "web",
        "version": "v7",
        "NAME": "web-0",
        "SPACE": "default",
        "lane_headers": "x-mine",
        "MY_headers": "x-mine",
        "WHOLE": "default/web-0 $(NONE) $(NAME)",
    }
    assert notes(mesh) == ["Deployment web: left out: CPU, TOKEN of Secret db"]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"fieldRef": {"fieldPath": "metadata.nam"}}, "'metadata.nam': must be a field of the pod"),
        (
            {"configMapKeyRef": {"name": "settings", "key": "c"}},
            "ConfigMap settings has no key 'c'",
        ),
        ({"configmapRef": {"name": "settings"}}, "valueFrom.configmapRef: not supported"),
    ],
)
def test_what_a_kubelet_refuses_is_refused(source: Json, problem: str, tmp_path: Path) -> None:
    one = workload("web", env=[{"name": "A", "valueFrom": source}])
    with pytest.raises(RefusedError) as refused:
        mesh_of(tmp_path, config_map("settings", a="b"), one)
    assert problem in refused.value.problems[0]


def test_a_mock_does_not_get_the_variables_of_the_image(tmp_path: Path) -> None:
    """They could be settings of the mock, or of Python."""
    variables = [{"name": "PYTHONPATH", "value": "/"}, {"name": "port", "value": "1"}]
    one = workload("web", env=variables)
    assert env(mesh_of(tmp_path, one).pods[0]) == {
        "app": "web",
        "version": "latest",
        "port": "8080",
    }


def test_mocks_carry_the_headers_that_rules_match(tmp_path: Path) -> None:
    rule = {"match": [{"headers": {"X-Canary": {"exact": "1"}, "end-user": {"exact": "a"}}}]}
    routed = between_pods("web", {**rule, "route": [to("web")]}, {"route": [to("web")]})
    mesh = mesh_of(tmp_path, service("web"), workload("web"), routed)
    assert env(mesh.pods[0])["lane_headers"] == "x-canary"


def test_a_misspelt_field_is_refused_with_the_one_that_is_meant(tmp_path: Path) -> None:
    one = workload("web", imagepullPolicy="Always")
    one["spec"]["replica"] = 2
    one["spec"]["template"]["spec"]["volume"] = []
    one["spec"]["template"]["metadata"]["label"] = {}
    with pytest.raises(RefusedError) as refused:
        mesh_of(tmp_path, service("web", type="ClusterIP", cluserIP="None"), one)
    assert sorted(text.partition("spec.")[2] for text in refused.value.problems) == [
        "cluserIP: unknown field; did you mean 'clusterIP'?",
        "replica: unknown field; did you mean 'replicas'?",
        "template.metadata.label: unknown field; did you mean 'labels'?",
        "template.spec.containers[0].imagepullPolicy: unknown field; did you mean"
        " 'imagePullPolicy'?",
        "template.spec.volume: unknown field; did you mean 'volumes'?",
    ]


def test_services_without_pods_are_told_and_run(tmp_path: Path) -> None:
    mesh = mesh_of(
        tmp_path,
        workload("web"),
        service("web", 80, sessionAffinity="ClientIP"),
        service("db", 5432, selector={"cnpg.io/cluster": "db"}),
        {**service("other"), "spec": {"ports": [{"port": 80}]}},
        {**service("out"), "spec": {"type": "ExternalName", "externalName": "example.com"}},
        {
            **service("dns"),
            "spec": {
                "selector": {"app": "web"},
                "ports": [{"port": 53, "name": "tcp"}, {"port": 53, "protocol": "UDP"}],
            },
        },
    )
    assert [(one.name, len(list(mesh.pods_of(one)))) for one in mesh.services] == [
        ("web", 1),
        ("db", 0),
        ("other", 0),
        ("out", 0),
        ("dns", 1),
    ]
    assert notes(mesh)[1:] == [
        "Service web: spec.sessionAffinity: no effect, as in Istio",
        "Service other: spec.selector: none: what is behind it is not among the manifests, and"
        " calls to it get 503",
        "Service out: spec.externalName: leads out of the mesh: calls to it get 503 here",
        "Service dns: spec.ports[1].protocol: UDP is left out: a mesh does not route it",
        "Service db has no pods: no pod in namespace default has the label cnpg.io/cluster;"
        " calls to it get 503",
    ]


def test_between_pods_subsets_of_a_headless_service_do_not_count(tmp_path: Path) -> None:
    objects = [
        service("db", (80, 8080), clusterIP="None"),
        *(workload(f"db-{v}", "StatefulSet", {"app": "db", "version": v}) for v in ("v1", "v2")),
        subsets("db", "v1", "v2"),
        between_pods("db", {"route": [to("db", "v1")]}),
        gateway(),
        at_gateway({"route": [to("db.default.svc.cluster.local", "v1")]}),
    ]
    mesh = mesh_of(tmp_path, *objects)
    assert mesh.calls[0].routes[0].destinations[0].subset is None
    assert mesh.gateway[0].routes[0].destinations[0].subset == "v1"
    assert any("db is headless: DNS names the pod of each call" in text for text in notes(mesh))


def test_rules_of_hosts_outside_of_the_mesh_are_left_out(tmp_path: Path) -> None:
    google = "www.googleapis.com"
    entry = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "google"},
        "spec": {"hosts": ["*.googleapis.com"]},
    }
    route = [gateway(), at_gateway({"route": [to("web.default.svc.cluster.local")]})]
    rules = [subsets(google), between_pods(google, {"route": [to(google)]})]
    file = write(tmp_path / "own.yaml", service("web"), workload("web"), *route, entry, *rules)
    mesh = load([file])
    assert mesh.calls == ()
    assert notes(mesh)[-2:] == [
        "DestinationRule www: left out: its hosts are outside of the mesh",
        "VirtualService www: left out: its hosts are outside of the mesh",
    ]


def test_hooks_of_helm_are_left_out(tmp_path: Path) -> None:
    test = workload("web-test", "Pod", {"app": "web"})
    test["metadata"]["annotations"] = {"helm.sh/hook": "test"}
    mesh = mesh_of(tmp_path, service("web"), workload("web"), test)
    assert [str(pod) for pod in mesh.pods] == ["web-0"]
    assert notes(mesh)[1:] == ["Pod web-test: left out; it is a hook of Helm"]


def test_strict_takes_what_is_only_told(tmp_path: Path) -> None:
    route = [gateway(), at_gateway({"route": [to("web.default.svc.cluster.local")]})]
    one = workload("web")
    file = write(tmp_path / "own.yaml", service("web"), one, *route)
    assert load([file], strict=True).notes[0].informs
    one["spec"]["template"]["spec"]["initContainers"] = [{"name": "wait"}]
    write(file, service("web"), one, *route)
    with pytest.raises(RefusedError, match="left out: init container wait"):
        load([file], strict=True)


@pytest.mark.slow
def test_the_known_fields_are_those_of_kubernetes() -> None:
    from tests.manifests.test_schemas import _kubernetes_validate

    utils = _kubernetes_validate()
    version = f"v{utils.latest_version()}-local"
    schema = utils.schema_contents(
        f"kubernetes-json-schema/{version}/_definitions.json", utils.latest_version()
    )
    prefix = "io.k8s.api."

    def fields(name: str) -> list[str]:
        return sorted(schema["$defs"][name]["properties"])

    known = {
        f"{prefix}core.v1.PodSpec": kubernetes.POD,
        f"{prefix}core.v1.Container": kubernetes.CONTAINER,
        f"{prefix}core.v1.ContainerPort": kubernetes.CONTAINER_PORT,
        f"{prefix}core.v1.ServiceSpec": kubernetes.SERVICE,
        f"{prefix}core.v1.ServicePort": kubernetes.SERVICE_PORT,
        "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": kubernetes.METADATA,
    }
    known |= {
        f"{prefix}apps.v1.{kind.rpartition('/')[2]}Spec": names
        for kind, names in kubernetes.WORKLOAD.items()
        if kind.startswith("apps/")
    }
    assert {name: sorted(names) for name, names in known.items()} == {
        name: fields(name) for name in known
    }


def test_an_image_may_have_a_variable_called_app(tmp_path: Path) -> None:
    """A hop has the variable `version` too, or calls an upstream by `upstream_url`."""
    own = workload("web", env=[{"name": "app", "value": "shop"}])
    hop = workload("cart", env=[{"name": n, "value": "v1"} for n in ("app", "version")])
    mesh = mesh_of(tmp_path, service("web"), own, service("cart", (80, 8000)), hop)
    assert [env(pod)["app"] for pod in mesh.pods] == ["web", "v1"]
