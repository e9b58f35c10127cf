"""Every document in `k8s/` fits the schema of its kind and has no unknown field."""

from __future__ import annotations

import sys
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from mockservice.manifests import asm
from mockservice.manifests.inventory import kind_of
from mockservice.manifests.shapes import violations
from tests.manifests import shapes_of_others
from tests.manifests.folders import FOLDERS, documents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mockservice.manifests.documents import Document

pytestmark = pytest.mark.slow

_SHAPES = {**asm.SHAPES, **shapes_of_others.SHAPES}


@cache
def _kubernetes_validate() -> Any:
    """Imported here and once: it takes a second, which no other worker of pytest waits for."""
    # For formats of URLs, which nothing here asks for, jsonschema would build grammars.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    from kubernetes_validate import utils  # type: ignore[import-untyped]

    # Each call would parse all definitions of its version anew.
    utils.schema_contents = cache(utils.schema_contents)
    return utils


def _schema_problems(document: Document) -> Iterator[str]:
    group = document.api_version.rpartition("/")[0]
    if group in ("", "apps", "batch"):
        yield from _kubernetes_problems(document.body)
    elif group.endswith(".istio.io"):
        yield from _istio_problems(document)
    else:
        for problem in violations(document, _SHAPES[kind_of(document)], document.body):
            yield str(problem)
        if document.kind == "AnalysisTemplate":
            for metric in document.body["spec"]["metrics"]:
                job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}}
                yield from _kubernetes_problems({**job, "spec": metric["provider"]["job"]["spec"]})


def _kubernetes_problems(body: dict[str, Any]) -> Iterator[str]:
    kubernetes_validate = _kubernetes_validate()
    # The first release with preStop's `sleep` enabled by default, and the latest known one.
    for version in ("1.30", kubernetes_validate.latest_version()):
        try:
            kubernetes_validate.validate(body, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {error.message}"


@cache
def _istio_models(api_version: str) -> Any:
    """The models of one version, from their file: to import their package takes those of all."""
    from cloudcoil import models

    group, version = api_version.split("/")
    (folder,) = models.__path__
    file = Path(folder, "istio", group.removesuffix(".istio.io"), f"{version}.py")
    name = f"istio_{file.parent.name}_{version}"
    # A model looks for the others of its module there.
    module = sys.modules[name] = ModuleType(name)
    SourceFileLoader(name, str(file)).exec_module(module)
    return module


def _istio_problems(document: Document) -> Iterator[str]:
    try:
        kind = getattr(_istio_models(document.api_version), document.kind)
        model = kind.model_validate(document.body)
    except ValueError as error:
        yield str(error)
        return
    # The models drop unknown fields, so the dump has only the known ones.
    known: Any = model.model_dump(by_alias=True, exclude_unset=True, mode="json")
    if known != document.body:
        yield f"unknown fields: {document.body} is read as {known}"


# All documents in one test: to load the schemas takes longer than to use them.
def test_every_document_fits_the_schema_of_its_kind() -> None:
    problems = {
        document.where(): found
        for folder in FOLDERS
        for document in documents(folder)
        if (found := list(_schema_problems(document)))
    }
    assert problems == {}


def test_the_schemas_refuse_a_field_that_they_do_not_know() -> None:
    for folder in FOLDERS:
        for document in documents(folder):
            # A ConfigMap has no spec.
            spec = document.body if document.kind == "ConfigMap" else document.body["spec"]
            spec["wieght"] = 50
            assert list(_schema_problems(document)) != [], document.where()


def test_every_kind_has_a_schema() -> None:
    assert {
        document.api_version.rpartition("/")[0]
        for folder in FOLDERS
        for document in documents(folder)
    } == {
        "",
        "apps",
        "argoproj.io",
        "batch",
        "gateway.networking.k8s.io",
        "istio.alibabacloud.com",
        "networking.istio.io",
        "telemetry.istio.io",
    }
