"""What all parts of Envoy's configuration are made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mockservice.mesh.model import PERCENT_OF_ALL

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mockservice.lanes.addresses import Place
    from mockservice.mesh.model import Mesh, Pairs, Pod, Service, Text

Json = dict[str, Any]

TYPE: Final = "type.googleapis.com/envoy."


@dataclass(frozen=True, slots=True)
class Context:
    """The input that all parts of the translation need."""

    mesh: Mesh
    places: Mapping[Pod, Place]
    ready: Collection[Pod]

    def ready_pods(self, service: Service, subset: str | None) -> list[Pod]:
        """The pods of a Service, or of one of its subsets, that may receive requests."""
        return [pod for pod in self.mesh.pods_of(service, subset) if pod in self.ready]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose requests routes are for."""

    labels: Pairs
    namespace: str
    port: int
    """That it calls; that of the gateway is the one on a cluster."""
    local_port: int
    """The same on this machine."""


def cluster_name(host: str, port: int, subset: str | None) -> str:
    """The name of a Service's cluster at a port, or of one of its subsets, as in Istio."""
    return f"outbound|{port}|{subset or ''}|{host}"


def named_filter(name: str, type_name: str, **config: Any) -> Json:
    """A filter, or another extension, with its configuration."""
    return {"name": name, "typed_config": {"@type": TYPE + type_name, **config}}


def string_match(text: Text) -> Json:
    """A `StringMatcher`; the text must not just be there."""
    if text.kind == "regex":
        return {"safe_regex": {"regex": text.value}}
    return {text.kind: text.value}


def percentage(percent: float) -> Json:
    """A `FractionalPercent`."""
    return {
        "numerator": round(percent * 1_000_000 / PERCENT_OF_ALL),
        "denominator": "MILLION",
    }


def seconds(value: float) -> str:
    """A `Duration`."""
    return f"{value:.9f}".rstrip("0").rstrip(".") + "s"


def address_of(ip: str, port: int) -> Json:
    """An `Address`."""
    return {"socket_address": {"address": ip, "port_value": port}}
