"""Reads containers: their ports, and their environment as a kubelet would set it.

Source: Kubernetes, API reference of `Container` and `EnvVarSource`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mockservice.mesh import kubernetes
from mockservice.mesh.model import Pairs, pairs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mockservice.mesh.fields import Fields

POD_NAME: Final = "\0"
"""Stands for the name of the pod in a value, as replicas differ in it; YAML cannot have it."""

# What only a running pod knows.
_KNOWN_LATER: Final = frozenset(
    {
        "metadata.uid",
        "spec.nodeName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    }
)
_SUBSCRIPT: Final = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
# Kubernetes, "Define Dependent Environment Variables": `$$(NAME)` stands for `$(NAME)`.
_REFERENCE: Final = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What a container can be told of its pod, and the ConfigMaps that it can read."""

    namespace: str
    labels: Pairs
    annotations: Pairs
    service_account: str
    config_maps: Mapping[tuple[str, str], Pairs]
    """By namespace and name."""

    def config_map(self, name: str) -> Pairs | None:
        """The data of a ConfigMap; None if it is not among the manifests."""
        return self.config_maps.get((self.namespace, name))


@dataclass(frozen=True, slots=True)
class Container:
    """A container."""

    name: str
    env: Pairs
    """In the order of the manifest; see `POD_NAME`."""
    ports: tuple[tuple[str, int], ...]
    """Names, which may be empty, and numbers."""
    without: tuple[str, ...]
    """What of the environment cannot be read, such as `PASSWORD of Secret db`."""
    missing: tuple[str, ...]
    """The ConfigMaps among that which must be there."""
    fields: Fields
    """For messages."""

    @property
    def is_hop(self) -> bool:
        """Whether it is made for mockservice. Others may have a variable `app` too."""
        names = dict(self.env).keys()
        return "upstream_url" in names or {"app", "version"} <= names


def read_container(container: Fields, facts: PodFacts) -> Container:
    """Read a container."""
    environment = _Environment(facts)
    with container:
        for source in container.objects("envFrom"):
            environment.add_all(source)
        for variable in container.objects("env"):
            environment.add(variable)
        ports = []
        for port in container.objects("ports"):
            with port:
                ports.append((port.text("name"), int(port.number("containerPort"))))
                port.known(kubernetes.CONTAINER_PORT)
        name = container.text("name")
        container.known(kubernetes.CONTAINER)
    return Container(
        name,
        tuple(environment.values.items()),
        tuple(ports),
        tuple(environment.without),
        tuple(environment.missing),
        container,
    )


class _Environment:
    """The variables of a container, as they are read."""

    def __init__(self, facts: PodFacts) -> None:
        self._facts = facts
        self.values: dict[str, str] = {}
        self.without: list[str] = []
        self.missing: list[str] = []

    def add_all(self, source: Fields) -> None:
        """Add what an entry of `envFrom` names."""
        with source:
            prefix = source.text("prefix")
            with source.object("secretRef") as secret:
                secret.ignore("optional")
                if "name" in secret:
                    self.without.append(f"the variables of Secret {secret.text('name')}")
            with source.object("configMapRef") as reference:
                name = reference.text("name")
                data = self._config_map(name, reference.flag("optional")) if name else ()
            self.values |= {f"{prefix}{key}": value for key, value in data}

    def add(self, variable: Fields) -> None:
        """Add an entry of `env`."""
        with variable:
            name, value = variable.text("name"), variable.text("value")
            if "valueFrom" in variable:
                with variable.object("valueFrom") as source:
                    found = self._value_from(source, name)
                if found is not None:
                    self.values[name] = found
                return
            variable.ignore("valueFrom")
            self.values[name] = _REFERENCE.sub(self._expanded, value)

    def _value_from(self, source: Fields, variable: str) -> str | None:
        """The value that another object gives to a variable; None where it cannot be read."""
        for kind, field in (("Secret", "secretKeyRef"), ("file", "fileKeyRef")):
            if field in source:
                with source.object(field) as reference:
                    named = reference.text("name") or reference.text("path")
                    reference.known(("key", "name", "optional", "path", "volumeName"))
                self.without.append(f"{variable} of {kind} {named}")
                return None
        if "resourceFieldRef" in source:
            source.ignore("resourceFieldRef")
            self.without.append(variable)
            return None
        if "configMapKeyRef" in source:
            with source.object("configMapKeyRef") as reference:
                name, key = reference.text("name"), reference.text("key")
                is_optional = reference.flag("optional")
                data = dict(self._config_map(name, is_optional))
                is_there = self._facts.config_map(name) is not None
                if is_there and key not in data and not is_optional:
                    reference.refuse("key", f"ConfigMap {name} has no key {key!r}")
            return data.get(key)
        if "fieldRef" not in source:
            return None
        with source.object("fieldRef") as reference:
            reference.ignore("apiVersion")
            path = reference.text("fieldPath")
            if path in _KNOWN_LATER:
                if variable != "pod_ip":
                    # A hop finds its own address.
                    self.without.append(variable)
                return None
            value = self._of_pod(path)
            if value is None:
                reference.refuse("fieldPath", f"{path!r}: must be a field of the pod")
            return value

    def _of_pod(self, path: str) -> str | None:
        facts = self._facts
        if match := _SUBSCRIPT.fullmatch(path):
            known = facts.labels if match[1] == "labels" else facts.annotations
            return dict(known).get(match[2], "")
        return {
            "metadata.name": POD_NAME,
            "metadata.namespace": facts.namespace,
            "spec.serviceAccountName": facts.service_account or "default",
        }.get(path)

    def _config_map(self, name: str, is_optional: bool) -> Pairs:
        data = self._facts.config_map(name)
        if data is None and not is_optional:
            self.without.append(f"the variables of ConfigMap {name}, which is not there")
            self.missing.append(name)
        return data or ()

    def _expanded(self, match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "$"
        return self.values.get(name, match[0])


def env_of_pod(container: Container, name: str) -> Pairs:
    """A container's environment in the pod of that name."""
    return pairs({key: value.replace(POD_NAME, name) for key, value in container.env})
