"""What `make kube-test` and `make cluster-test` rest on, without a Kubernetes."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest

from tests.kube.api.broken import BREAKAGES, Breakage
from tests.kube.api.folders import APPLIED, Seen
from tests.kube.kubectl import Ran
from tests.kube.needs import missing
from tests.kube.node.load import Load
from tests.kube.processes import BrokenError, Processes
from tests.kube.table import Table
from tests.manifests.folders import K8S
from tests.running import running


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda one: one.what)
def test_a_breakage_changes_a_folder_that_is_applied(breakage: Breakage) -> None:
    assert breakage.old in (K8S / breakage.file).read_text()
    assert breakage.old != breakage.new or breakage.by_hand
    assert (str(Path(breakage.file).parent), breakage.way) in APPLIED


def test_every_folder_is_applied() -> None:
    assert {"workloads", "asm/strict", "probe", "argo-cd", "shop/workloads"} <= {
        folder for folder, way in APPLIED if way == "-f"
    }
    # Those that have no file for kubectl, and a part of others.
    assert {folder for folder, _ in APPLIED} - {
        folder for folder, way in APPLIED if way == "-f"
    } == {"argo-cd/probe", "metrics"}
    assert ("components/mockb-v3", "-k") not in APPLIED


@pytest.mark.parametrize(
    ("ran", "problems"),
    [
        (Ran(0, "service/a created\n", ""), []),
        (Ran(0, "service/a configured\n", ""), ["apply: service/a configured"]),
        (Ran(0, "service/a created\n", "Warning: no\n"), ["apply: Warning: no"]),
        (Ran(1, "", ""), ["apply: exit code 1"]),
    ],
)
def test_whatever_kubectl_says_beside_the_expected_is_a_problem(
    ran: Ran, problems: list[str]
) -> None:
    seen = Seen()
    seen.check("apply", ran, ends="created")
    assert seen.problems == problems


def test_what_is_missing_is_said_at_once_with_how_to_get_it() -> None:
    packages = {"no-such-one": "one", "no-such-two": "two", "sh": "dash"}
    assert missing(packages, ["no-such-three"]) == [
        "no-such-one: apt-get install one",
        "no-such-two: apt-get install two",
        "all of these: apt-get install one two",
        "no-such-three: make .tools/kube/no-such-three",
    ]


def test_all_of_kubernetes_is_of_one_version() -> None:
    text = Path(__file__).with_name("go.mod").read_text()
    [minor] = re.findall(r"k8s\.io/kubernetes v1\.([\d.]+)", text)
    replaced = re.findall(r"^\tk8s\.io/\S+ => k8s\.io/\S+ v0\.([\d.]+)$", text, re.MULTILINE)
    assert len(replaced) > 30
    assert set(replaced) == {minor}


def test_a_process_that_ends_early_is_told_with_its_log(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.start("talker", "sh", "-c", "echo out of order; exit 3")
        with pytest.raises(BrokenError, match=r"talker ended with 3\n  out of order"):
            processes.wait("ready", lambda: False, 20)


def test_processes_end_with_their_block(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.start("sleeper", "sh", "-c", "echo $$; exec sleep 60")
        processes.wait("started", lambda: (tmp_path / "sleeper.log").read_text() != "", 20)
        pid = int((tmp_path / "sleeper.log").read_text())
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_a_load_counts_what_is_answered_and_what_is_lost() -> None:
    with running(port="8000") as hop:
        with Load(
            hop.address, lambda status, body: (status, body) == (200, hop.line.encode())
        ) as load:
            time.sleep(1)
        assert load.failed == []
        assert load.answered >= 10
        with Load(hop.address, lambda status, _: status == 200) as load:
            time.sleep(0.3)
            hop.stop(signal.SIGKILL)
            time.sleep(0.5)
    assert load.answered
    assert load.failed
    assert load.found.startswith(f"{len(load.failed)} of ")


def test_a_table_counts_the_lines_that_fail(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(what=6, seen=4)
    table.row("one", 1, problems=[])
    table.row("two", 2, problems=["because"])
    assert table.failures == 1
    assert capsys.readouterr().out.splitlines() == [
        "what    seen  verdict",
        "one     1     holds",
        "two     2     FAILS",
        "    because",
    ]
