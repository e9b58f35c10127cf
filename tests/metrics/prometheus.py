"""A real Prometheus, Debian's, that scrapes hops as the one of `compose.yaml` does."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import pytest
import yaml

from tests.running import new_address, request, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.running import RunningHop

CONFIG: Final = Path(__file__).parents[2] / "k8s/metrics/compose/prometheus.yml"


def skip_without_prometheus() -> None:
    """Skip the test where Debian's package is not installed, but never in CI."""
    if shutil.which("prometheus") is None:
        assert "CI" not in os.environ, "CI has to install prometheus"
        pytest.skip("takes prometheus: apt-get install prometheus")


@dataclass(frozen=True)
class Sample:
    """One element of an instant vector."""

    labels: dict[str, str]
    value: float


class Prometheus:
    """A running Prometheus (https://prometheus.io/docs/prometheus/latest/querying/api/)."""

    def __init__(self, url: str) -> None:
        self._url = url

    def is_ready(self) -> bool:
        """Whether it answers queries."""
        return request(f"{self._url}-/ready").status == 200

    def query(self, expression: str) -> list[Sample]:
        """What an expression gives now, without what is no number."""
        vector = self._ask("query", query=expression)["result"]
        samples = [Sample(one["metric"], float(one["value"][1])) for one in vector]
        return [sample for sample in samples if math.isfinite(sample.value)]

    def label_values(self, metric: str, label: str) -> list[str]:
        """The values of a label in the series of a metric, sorted."""
        values: list[str] = self._ask(f"label/{label}/values", **{"match[]": metric})
        return values

    def exemplars(self, expression: str) -> list[dict[str, str]]:
        """The labels of the exemplars of the series in an expression."""
        series = self._ask("query_exemplars", query=expression, start="0", end="9999999999")
        return [one["labels"] for found in series for one in found["exemplars"]]

    def _ask(self, path: str, **parameters: str) -> Any:
        answer = json.loads(request(f"{self._url}api/v1/{path}?{urlencode(parameters)}").body)
        assert answer["status"] == "success", f"{parameters}: {answer['error']}"
        return answer["data"]


@contextmanager
def running_prometheus(
    hops: Iterable[RunningHop], flags: Iterable[str], folder: Path
) -> Iterator[Prometheus]:
    """Scrape `hops` five times a second, with a configuration and data in `folder`.

    All but the targets and the intervals is configured as in `compose.yaml`.
    """
    config = yaml.safe_load(CONFIG.read_text())
    config["global"] = {"scrape_interval": "200ms"}
    (job,) = config["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [f"{hop.address}:8000" for hop in hops]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    listen = f"{new_address()}:9090"
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={listen}",
        *flags,
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        prometheus = Prometheus(f"http://{listen}/")
        wait_until(prometheus.is_ready)
        yield prometheus
    finally:
        process.kill()
        process.wait()
