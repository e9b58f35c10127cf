"""The dashboard of the lanes: a real Prometheus that scrapes real hops answers all it asks."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.metrics.prometheus import CONFIG, running_prometheus, skip_without_prometheus
from tests.running import request, running, wait_until

if TYPE_CHECKING:
    from tests.metrics.prometheus import Prometheus

ROOT: Final = Path(__file__).parents[2]
DASHBOARD: Final = json.loads((ROOT / "k8s/metrics/lanes.json").read_text())
_COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
_SOURCES = yaml.safe_load((CONFIG.parent / "datasources.yaml").read_text())

_TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
_SAMPLED = {"traceparent": f"00-{_TRACE_ID}-b7ad6b7169203331-01"}


@pytest.fixture(autouse=True, scope="module")
def _has_prometheus() -> None:
    skip_without_prometheus()


def test_prometheus_takes_the_configuration_of_the_compose_files() -> None:
    command = ["promtool", "check", "config", "--lint-fatal", str(CONFIG)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_every_panel_has_data(tmp_path: Path) -> None:
    flags = [flag for flag in _COMPOSE["services"]["prometheus"]["command"] if "feature" in flag]
    with (
        running("mockb", "v1") as v1,
        running("mockb", "v2", fault_abort="503", fault_abort_percent="100") as v2,
        running("mocka", "v1", upstream_url=f"{v1.url}, {v2.url}") as mocka,
        running_prometheus((mocka, v1, v2), flags, tmp_path) as prometheus,
    ):
        wait_until(lambda: [one.value for one in prometheus.query("up")] == [1, 1, 1])
        variables = _all_chosen(prometheus)
        assert variables == {"app": "(mocka|mockb)", "version": "(v1|v2)"}
        hops = {"mocka(v1)", "mockb(v1)", "mockb(v2)"}
        calls = {f"mocka(v1) to {hop.address}:8000" for hop in (v1, v2)}
        expected = {
            "Requests": hops,
            "Errors": hops,
            # Repeated for each app; this is mockb's.
            "Shares by version: $app": {"v1", "v2"},
            "Latency, median": hops,
            "Latency, 99th percentile": hops,
            "Errors by kind": {"mocka(v1) 503", "mockb(v2) injected"},
            "Injected faults": {f"{hop} {fault}" for hop in hops for fault in ("abort", "delay")},
            "Upstream calls": calls,
            "Failed upstream calls": calls,
        }
        shown: dict[str, dict[str, float]] = {}

        def is_filled() -> bool:
            request(mocka.url, _SAMPLED)
            for panel in DASHBOARD["panels"]:
                chosen = variables | ({"app": "mockb"} if "repeat" in panel else {})
                shown[panel["title"]] = _shown(panel, prometheus, chosen)
            has_traffic = all(max(values.values(), default=0) > 0 for values in shown.values())
            return has_traffic and _legends(shown) == expected

        with suppress(TimeoutError):
            wait_until(is_filled)
        assert _legends(shown) == expected
        assert shown["Errors"] == {"mocka(v1)": 1, "mockb(v1)": 0, "mockb(v2)": 1}
        assert sorted(shown["Failed upstream calls"].values()) == [0, 1]
        shares = shown["Shares by version: $app"].values()
        assert sum(shares) == pytest.approx(1)
        assert min(shares) > 0
        assert _linked_traces(prometheus, variables) == {_TRACE_ID}


def _all_chosen(prometheus: Prometheus) -> dict[str, str]:
    """The values of the variables where "All" is chosen, as Grafana writes them."""
    chosen: dict[str, str] = {}
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
            assert match is not None
            values = prometheus.label_values(_filled_in(match[1], chosen), match[2])
            chosen[variable["name"]] = f"({'|'.join(values)})"
    return chosen


def _filled_in(expression: str, variables: dict[str, str]) -> str:
    """An expression with Grafana's variables replaced."""
    for name, value in {"__rate_interval": "10s", **variables}.items():
        expression = re.sub(rf"\${name}\b", value, expression)
    assert "$" not in expression, expression
    return expression


def _shown(
    panel: dict[str, Any], prometheus: Prometheus, variables: dict[str, str]
) -> dict[str, float]:
    """The legend and the value of each line of a panel."""
    shown: dict[str, float] = {}
    for target in panel["targets"]:
        for sample in prometheus.query(_filled_in(target["expr"], variables)):
            legend = target["legendFormat"]
            for label in re.findall(r"{{(\w+)}}", legend):
                legend = legend.replace(f"{{{{{label}}}}}", sample.labels[label])
            assert legend not in shown, "two lines have one legend"
            shown[legend] = sample.value
    return shown


def _legends(shown: dict[str, dict[str, float]]) -> dict[str, set[str]]:
    return {title: set(values) for title, values in shown.items()}


def _linked_traces(prometheus: Prometheus, variables: dict[str, str]) -> set[str]:
    """The ids of the traces to which the points of the latency panels link."""
    (source,) = _SOURCES["datasources"]
    (link,) = source["jsonData"]["exemplarTraceIdDestinations"]
    return {
        exemplar[link["name"]]
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
        if target.get("exemplar")
        for exemplar in prometheus.exemplars(_filled_in(target["expr"], variables))
    }
