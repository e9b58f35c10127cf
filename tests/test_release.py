"""All that names the version names the same one, and a release is what the changelog says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mockservice import __version__

_ROOT = Path(__file__).parents[1]
_FILES = ("mockservice/__init__.py", "Dockerfile", "CHANGELOG.md", ".ci/release.py")


def _named(root: Path) -> set[str]:
    """Every version that the files of a release name."""
    settings = yaml.safe_load((root / "k8s/components/settings/Kustomization").read_text())
    (image,) = settings["images"]
    manifests = "".join(file.read_text() for file in root.glob("k8s/**/*.yaml"))
    pattern = re.escape(image["name"]) + r":(\S+)"
    label = r'^LABEL .*?image\.version="(.*?)"'
    return {
        *re.findall(r'__version__ = "(.*)"', (root / "mockservice/__init__.py").read_text()),
        *re.findall(label, (root / "Dockerfile").read_text(), re.MULTILINE | re.DOTALL),
        *re.findall(r"\A# Changelog\n\n## (\S+)", (root / "CHANGELOG.md").read_text()),
        *re.findall(pattern, manifests),
        image["newTag"],
    }


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the files that name the version."""
    for name in _FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(_ROOT / name, tmp_path / name)
    shutil.copytree(_ROOT / "k8s", tmp_path / "k8s")
    return tmp_path


def _release(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(tree / ".ci/release.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def _date(tree: Path) -> None:
    file = tree / "CHANGELOG.md"
    file.write_text(file.read_text().replace("(unreleased)", "(2026-11-24)"))


def test_all_files_name_the_version_that_the_command_tells() -> None:
    command = [sys.executable, "-m", "mockservice", "--version"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told == f"mockservice {__version__}\n"
    assert _named(_ROOT) == {__version__}


def test_a_new_version_is_written_into_all_files(tree: Path) -> None:
    before = (tree / "CHANGELOG.md").read_text().removeprefix("# Changelog\n")
    assert _release(tree, "version", "90.1.2").returncode == 0
    assert _named(tree) == {"90.1.2"}
    after = (tree / "CHANGELOG.md").read_text()
    assert after == f"# Changelog\n\n## 90.1.2 (unreleased)\n{before}"


def test_the_notes_are_those_of_the_tag(tree: Path) -> None:
    _date(tree)
    done = _release(tree, "notes", f"v{__version__}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("The service:\n")
    assert "## " not in done.stdout


@pytest.mark.parametrize(
    ("dated", "arguments", "told"),
    [
        (True, ("notes", "v90.1.2"), "tag 'v90.1.2': must be v"),
        (False, ("notes", f"v{__version__}"), "(unreleased)': must be"),
        (True, ("version", "1.2"), "version '1.2': must be three numbers"),
        (True, (), "must be `version VERSION` or `notes TAG`"),
    ],
)
def test_what_is_no_release_is_told_in_one_line(
    dated: bool, arguments: tuple[str, ...], told: str, tree: Path
) -> None:
    if dated:
        _date(tree)
    else:
        file = tree / "CHANGELOG.md"
        file.write_text(re.sub(r"\((\d{4}-\d\d-\d\d)\)", "(unreleased)", file.read_text()))
    done = _release(tree, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("release: ")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


# The workflows: `make lint` checks them with actionlint.


@pytest.mark.parametrize("file", sorted((_ROOT / ".github/workflows").glob("*")), ids=str)
def test_a_workflow_uses_actions_by_hash_and_asks_for_little(file: Path) -> None:
    text = file.read_text()
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used
    for action, version in used:
        if not action.startswith("./"):
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", action)
            assert re.fullmatch(r"  # v\d+\.\d+\.\d+", version)
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] in ({}, {"contents": "read"})
    assert "secrets." not in text
