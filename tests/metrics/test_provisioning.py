"""The files that bring the dashboard to Grafana, in Compose and on a cluster, fit each other."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
METRICS: Final = ROOT / "k8s/metrics"
DASHBOARD: Final = METRICS / "lanes.json"


def _read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


_SERVICES = _read("compose.yaml")["services"]
_PROMETHEUS = _read("k8s/metrics/compose/prometheus.yml")
(_SOURCE,) = _read("k8s/metrics/compose/datasources.yaml")["datasources"]


def _mounts(service: str) -> dict[str, Path]:
    """The files of this repository in a container, each by its path there."""
    volumes = [volume.split(":") for volume in _SERVICES[service]["volumes"]]
    assert all(mode == "ro" for _, _, mode in volumes)
    return {inside: ROOT / outside for outside, inside, _ in volumes}


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_every_mounted_file_is_there(service: str) -> None:
    # Docker makes a folder of what is not.
    assert [file for file in _mounts(service).values() if not file.is_file()] == []


def test_prometheus_is_given_its_configuration() -> None:
    (inside,) = _mounts("prometheus")
    assert f"--config.file={inside}" in _SERVICES["prometheus"]["command"]


@pytest.mark.parametrize(("file", "hop_count"), [("compose.yaml", 3), ("k8s/shop/compose.yaml", 5)])
def test_prometheus_finds_every_hop(file: str, hop_count: int) -> None:
    (job,) = _PROMETHEUS["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    hops = [one for one in _read(file)["services"].values() if "app" in one.get("environment", {})]
    assert len(hops) == hop_count
    for hop in hops:
        assert hop["networks"]["default"]["aliases"] == found["names"]
    # A hop's default.
    assert found["port"] == 8000


def test_grafana_opens_with_the_dashboard() -> None:
    mounts = _mounts("grafana")
    home = _SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert mounts[home] == DASHBOARD
    (provider,) = _read("k8s/metrics/compose/dashboards.yaml")["providers"]
    assert provider["options"]["path"] == str(Path(home).parent)
    assert {path.name: Path(inside).parent.name for inside, path in mounts.items()} == {
        "datasources.yaml": "datasources",
        "dashboards.yaml": "dashboards",
        "lanes.json": "dashboards",
    }


def test_grafana_asks_the_prometheus_of_the_compose_file() -> None:
    url = urlsplit(_SOURCE["url"])
    assert url.hostname in _SERVICES
    assert url.port == 9090
    assert _SOURCE["isDefault"]
    assert _SOURCE["jsonData"]["timeInterval"] == _PROMETHEUS["global"]["scrape_interval"]


def test_a_trace_is_linked_where_jaeger_is() -> None:
    (link,) = _SOURCE["jsonData"]["exemplarTraceIdDestinations"]
    (published,) = _SERVICES["jaeger"]["ports"]
    assert published.startswith(f"{urlsplit(link['url']).netloc}:")


def test_a_hop_that_is_traced_has_a_jaeger() -> None:
    # Any profile turns tracing on.
    profiles = {name for one in _SERVICES.values() for name in one.get("profiles", ())}
    assert set(_SERVICES["jaeger"]["profiles"]) == profiles


def test_only_this_machine_can_connect() -> None:
    ports = [port for one in _SERVICES.values() for port in one.get("ports", ())]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_sidecar_of_grafana_gets_the_same_file() -> None:
    (generated,) = _read("k8s/metrics/Kustomization")["configMapGenerator"]
    assert [METRICS / name for name in generated["files"]] == [DASHBOARD]
    assert "grafana_dashboard" in generated["options"]["labels"]


def test_panels_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["title"], cell) for panel in panels for cell in _cells(**panel["gridPos"])]
    taken: dict[tuple[int, int], str] = {}
    for title, cell in places:
        assert cell not in taken, f"{title} is over {taken[cell]}"
        taken[cell] = title
    assert {x for x, _ in taken} == set(range(24))


def _cells(x: int, y: int, w: int, h: int) -> itertools.product[tuple[int, int]]:
    """The cells of Grafana's grid, which is 24 wide, that a panel takes."""
    return itertools.product(range(x, x + w), range(y, y + h))
