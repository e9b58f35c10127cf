"""The image and compose.yaml on a real Docker engine.

`make image-test` runs it. BASE_IMAGE in the environment names another base than the Dockerfile's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from mockservice import __version__
from tests.metrics.prometheus import Prometheus, skip_without_prometheus
from tests.running import request, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]

ROOT: Final = Path(__file__).parents[2]
PYTHON: Final = "/opt/venv/bin/python"
IMAGE: Final = "mockservice:local"
PROJECT: Final = "mockservice-image-test"
LIMIT_BYTES: Final = 30_000_000
"""Bytes that the image may add to its base."""

SBOM: Final = "/opt/venv/share/sbom/mockservice.cdx.json"

LOCKED_DOWN: Final = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
# Prints the files in /opt/venv that are not root's, are writable, or are setuid or setgid.
LOOSE: Final = """\
import os
for folder, _, names in os.walk('/opt/venv'):
    for path in (folder, *(os.path.join(folder, name) for name in names)):
        if not os.path.islink(path):
            stat = os.stat(path)
            if stat.st_uid or stat.st_mode & 0o6000 or os.access(path, os.W_OK):
                print(path, oct(stat.st_mode), stat.st_uid)
"""
# Prints the answer of the hop in this container.
GET: Final = (
    "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/').read().decode())"
)


def docker(*arguments: str, **env: str) -> str:
    """Run docker in the repository's folder, and return its output and errors, stripped."""
    done = subprocess.run(
        ["docker", *arguments],
        cwd=ROOT,
        env=os.environ | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}"
    return done.stdout.strip()


def inspect(name: str) -> dict[str, Any]:
    """The engine's description of a container or an image."""
    found: list[dict[str, Any]] = json.loads(docker("inspect", name))
    return found[0]


def is_healthy(container: str) -> bool:
    """Whether the image's health check passes."""
    health: str = inspect(container)["State"]["Health"]["Status"]
    return health == "healthy"


@pytest.fixture(scope="module")
def image() -> str:
    """Build the image."""
    base = os.environ.get("BASE_IMAGE")
    arguments = ["--build-arg", f"BASE_IMAGE={base}"] if base else []
    docker("build", "--tag", IMAGE, *arguments, ".")
    return IMAGE


@pytest.fixture
def network() -> Iterator[str]:
    """A new network; afterwards it is removed, with the containers on it."""
    docker("network", "create", PROJECT)
    yield PROJECT
    if containers := docker("ps", "--all", "--quiet", "--filter", f"network={PROJECT}").split():
        docker("rm", "--force", *containers)
    docker("network", "rm", PROJECT)


def test_the_image_adds_little_to_its_base(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    of_image = inspect(image)
    base = of_image["Config"]["Labels"]["org.opencontainers.image.base.name"]
    ours = of_image["Size"] - inspect(base)["Size"]
    with capsys.disabled():
        size = of_image["Size"]
        sys.stdout.write(f"\n{image}: {size:,} bytes, of it {ours:,} on top of {base}\n")
    assert ours < LIMIT_BYTES


def test_the_label_says_the_version(image: str) -> None:
    labels = inspect(image)["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__


def test_the_image_holds_a_plain_install_and_nothing_else(image: str) -> None:
    absent = ("envoy", "pip", "setuptools", "hatchling", "cyclonedx", "pytest")
    code = f"import importlib.util as i; print([m for m in {absent} if i.find_spec(m)])"
    assert run_python(image, "-c", code) == "[]"
    assert docker("run", "--rm", image, "--version") == f"mockservice {__version__}"


def run_python(image: str, *arguments: str) -> str:
    """Run the image's Python without a network, and return its output."""
    return docker(*("run", "--rm", "--network", "none", "--entrypoint", PYTHON), image, *arguments)


@pytest.mark.parametrize("user", ["65532:65532", "65532:0"])
def test_nothing_in_the_venv_can_be_changed_by_its_user_nor_gives_rights(
    image: str, user: str
) -> None:
    python = ("run", "--rm", "--user", user, "--entrypoint", PYTHON, image)
    assert docker(*python, "-c", LOOSE) == ""


@pytest.fixture(scope="module")
def sbom(image: str) -> dict[str, Any]:
    """The SBOM in the image."""
    # Takes seconds to import, and every run of pytest imports this file.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = run_python(image, "-m", "json.tool", SBOM)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_sbom_lists_what_is_installed_and_its_licenses(
    image: str, sbom: dict[str, Any]
) -> None:
    code = "import importlib.metadata as m; print([[d.name, d.version] for d in m.distributions()])"
    installed = json.loads(run_python(image, "-c", code).replace("'", '"'))
    listed = [sbom["metadata"]["component"], *sbom["components"]]
    assert sorted([one["name"], one["version"]] for one in listed) == sorted(installed)
    assert sbom["metadata"]["component"]["name"] == "mockservice"
    assert [one["name"] for one in listed if not one.get("licenses")] == []
    assert {one["ref"] for one in sbom["dependencies"]} == {one["bom-ref"] for one in listed}


def test_the_sbom_names_files_that_the_lock_knows(sbom: dict[str, Any]) -> None:
    lock = (ROOT / "requirements.txt").read_text()
    for one in sbom["components"]:
        [file] = [ref for ref in one["externalReferences"] if ref["type"] == "distribution"]
        assert f"--hash=sha256:{file['hashes'][0]['content']}" in lock


def test_the_sbom_says_nothing_of_when_it_was_made(sbom: dict[str, Any]) -> None:
    assert "serialNumber" not in sbom
    assert "timestamp" not in sbom["metadata"]


def test_the_service_starts_from_bytecode(image: str) -> None:
    modules = "command run healthcheck fan_out injector".split()
    modules += [f"telemetry.{module}" for module in ("exposition", "session", "tracing")]
    imports = [f"import mockservice.serve.{module}" for module in modules]
    code = "; ".join(["import mockservice.cli", *imports])
    loaded = run_python(image, "-v", "-c", code)
    compiled = [line for line in loaded.splitlines() if line.startswith("# code object from")]
    assert len(compiled) > 100
    assert [line for line in compiled if ".pyc" not in line] == []


@pytest.mark.parametrize(("user", "ids"), [((), "65532 65532"), (("--user", "65532"), "65532 0")])
def test_a_hop_needs_no_write_no_capability_no_network_no_shell(
    image: str, user: tuple[str, ...], ids: str
) -> None:
    container = docker(
        *("run", "--detach", *LOCKED_DOWN, *user, "--network", "none", "--health-interval", "1s"),
        *("--volume", "/dev/null:/bin/sh", "--env", "app=mocka", "--env", "version=v1", image),
    )
    try:
        wait_until(lambda: is_healthy(container), 60)
        answer = docker("exec", container, PYTHON, "-c", GET)
        assert answer == "-> mocka(version: v1, ip: 127.0.0.1)"
        code = "import os; s = os.stat('/proc/1'); print(s.st_uid, s.st_gid)"
        assert docker("exec", container, PYTHON, "-c", code) == ids
    finally:
        docker("rm", "--force", container)


def test_a_bad_setting_is_one_line_and_exit_code_2(image: str) -> None:
    container = docker("create", "--env", "app=mocka", "--env", "version=v1", "-e", "port=x", image)
    try:
        docker("start", container)
        assert docker("wait", container) == "2"
        lines = docker("logs", container).splitlines()
        assert len(lines) == 1
        assert "port='x'" in lines[0]
    finally:
        docker("rm", "--force", container)


def test_a_hop_that_does_not_answer_is_unhealthy(image: str) -> None:
    container = docker(
        *("run", "--detach", "--health-interval", "1s", "--health-retries", "1"),
        *("--health-start-period", "0s", "--env", "app=mocka", "--env", "version=v1"),
        *("--entrypoint", PYTHON, image, "-c", "import signal; signal.pause()"),
    )
    try:
        wait_until(lambda: inspect(container)["State"]["Health"]["Status"] == "unhealthy", 60)
        output = inspect(container)["State"]["Health"]["Log"][-1]["Output"]
        assert output == "not ready: connection refused\n"
    finally:
        docker("rm", "--force", container)


def ip_of(container: str, network: str) -> str:
    """The address of a container in a network."""
    ip: str = inspect(container)["NetworkSettings"]["Networks"][network]["IPAddress"]
    return ip


@pytest.fixture
def hops(image: str, network: str) -> list[str]:
    """The containers of mocka -> mockb -> mockc in the network; each answers to its app's name."""
    upstreams = {"mocka": "http://mockb:8000/", "mockb": "http://mockc:8000/", "mockc": ""}
    containers = []
    for app, upstream_url in upstreams.items():
        settings = (f"app={app}", "version=v2", f"upstream_url={upstream_url}")
        containers.append(
            docker(
                *("run", "--detach", *LOCKED_DOWN, "--user", "65532", "--network", network),
                *("--network-alias", app, "--health-interval", "1s"),
                *[part for setting in settings for part in ("--env", setting)],
                image,
            )
        )
    wait_until(lambda: all(map(is_healthy, containers)), 60)
    return containers


def test_three_hops_answer_the_chain_and_end_with_0(hops: list[str], network: str) -> None:
    ips = [ip_of(hop, network) for hop in hops]
    chain = "".join(
        f"-> {app}(version: v2, ip: {ip})"
        for app, ip in zip(("mocka", "mockb", "mockc"), ips, strict=True)
    )
    assert docker("exec", hops[0], PYTHON, "-c", GET) == chain
    docker("stop", *hops)
    assert [inspect(hop)["State"]["ExitCode"] for hop in hops] == [0, 0, 0]


@pytest.mark.usefixtures("hops")
def test_the_image_probes_a_chain_in_other_containers(image: str, network: str) -> None:
    probe = ("run", "--rm", *LOCKED_DOWN, "--network", network, image, "probe")
    found = json.loads(docker(*probe, "http://mocka:8000/mock", "-n", "50", "--json"))
    assert found["hold"] is True
    assert found["requests"]["done"] == 50
    [chain] = found["chains"]
    assert (chain["chain"], chain["requests"]) == ("mocka(v2) -> mockb(v2) -> mockc(v2)", 50)
    # The tables are rich's.
    assert "mocka(v2) -> mockb(v2) -> mockc(v2)" in docker(*probe, "http://mocka:8000/mock")


@pytest.fixture
def compose() -> Iterator[tuple[str, ...]]:
    """The start of a `docker compose` command line for this test's project."""
    command = ("compose", "--project-name", PROJECT)
    yield command
    docker(*command, "down", "--volumes", "--remove-orphans", COMPOSE_PROFILES="metrics")


def compose_chain(compose: tuple[str, ...]) -> str:
    """The chain with the addresses of the project's containers."""
    chain = ""
    for app in ("mocka", "mockb", "mockc"):
        container = docker(*compose, "ps", "--quiet", app)
        chain += f"-> {app}(version: v1, ip: {ip_of(container, f'{PROJECT}_default')})"
    return chain


def test_compose_publishes_the_chain_at_its_first_hop_alone(compose: tuple[str, ...]) -> None:
    docker(*compose, "up", "--build", "--wait")
    assert request("http://127.0.0.1:8000/").text == compose_chain(compose)
    containers = docker(*compose, "ps", "--quiet").split()
    published = [
        port
        for container in containers
        for ports in inspect(container)["NetworkSettings"]["Ports"].values()
        for port in ports or []
    ]
    assert published == [{"HostIp": "127.0.0.1", "HostPort": "8000"}]


def test_compose_runs_the_shop(compose: tuple[str, ...]) -> None:
    command = (*compose, "--file", "k8s/shop/compose.yaml")
    docker(*command, "up", "--build", "--wait")
    web, orders, stock, price, users = (
        f"-> {app}(version: v1, ip: {ip_of(container, f'{PROJECT}_default')})"
        for app in ("web", "orders", "stock", "price", "users")
        for container in [docker(*command, "ps", "--quiet", app)]
    )
    tree = f"{web}[{orders}[{stock}; {price}{users}]; {users}]"
    assert request("http://127.0.0.1:8000/").text == tree


def test_the_tracing_profile_makes_one_trace(compose: tuple[str, ...]) -> None:
    # A small collector takes the place of Jaeger, whose image cannot be pulled everywhere.
    collector = Path(__file__).with_name("collector.yaml")
    command = (*compose, "--file", "compose.yaml", "--file", str(collector))
    env = {"COMPOSE_PROFILES": "tracing"}
    docker(*command, "up", "--build", "--wait", **env)
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
    assert request("http://127.0.0.1:8000/", headers).text == compose_chain(compose)

    # Not by `docker compose logs`, which may add escape codes.
    container = docker(*command, "ps", "--quiet", "jaeger", **env)

    def spans() -> list[str]:
        return docker("logs", container).split()

    wait_until(lambda: len(spans()) >= 5, 60)
    apps = ("mocka", "mocka", "mockb", "mockb", "mockc")
    assert sorted(spans()) == [f"{app}:{trace_id}" for app in apps]


def test_prometheus_scrapes_every_container_of_a_hop(compose: tuple[str, ...]) -> None:
    skip_without_prometheus()
    stand_in = Path(__file__).with_name("prometheus.yaml")
    command = (*compose, "--file", "compose.yaml", "--file", str(stand_in))
    docker(*command, "up", "--build", "--wait", "--scale", "mockb=2", "mocka", "prometheus")
    container = docker(*command, "ps", "--quiet", "prometheus")
    prometheus = Prometheus(f"http://{ip_of(container, f'{PROJECT}_default')}:9090/")

    def scraped() -> dict[str, float]:
        found = prometheus.query("count by (app) (http_server_active_requests)")
        return {sample.labels["app"]: sample.value for sample in found}

    wait_until(lambda: scraped() == {"mocka": 1, "mockb": 2, "mockc": 1}, 60)
