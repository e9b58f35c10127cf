"""Kinds that mean nothing on one machine: each is left out with a note, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mockservice.manifests.hosts import most_specific
from mockservice.manifests.inventory import containers, kind_of
from mockservice.manifests.kinds import DESTINATION_RULE, VIRTUAL_SERVICE, WORKLOADS
from mockservice.mesh.model import Note

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from mockservice.manifests.documents import Document

CONFIG_MAP: Final = "ConfigMap"
REFERENCE_GRANT: Final = "gateway.networking.k8s.io/ReferenceGrant"
_SERVICE_ENTRY: Final = "networking.istio.io/ServiceEntry"

# They are there so that others can be: nothing to tell.
_SILENT: Final = frozenset({"Namespace"})
# They decide on a cluster which requests get where, beside the routes.
_MAY_CHANGE_LANES: Final = frozenset(
    {
        "extensions.istio.io/WasmPlugin",
        "networking.istio.io/EnvoyFilter",
        _SERVICE_ENTRY,
        "networking.istio.io/Sidecar",
        "networking.istio.io/WorkloadEntry",
        "networking.istio.io/WorkloadGroup",
        "security.istio.io/AuthorizationPolicy",
        "security.istio.io/RequestAuthentication",
    }
)
# Of the groups that local lanes read, what they leave out.
_LEFT_OUT: Final = frozenset(
    {
        "Endpoints",
        "LimitRange",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "ResourceQuota",
        "Secret",
        "ServiceAccount",
        "gateway.networking.k8s.io/GatewayClass",
        "networking.istio.io/ProxyConfig",
    }
)
# Helm applies its hooks before or after the others, and runs tests only on demand.
_HOOK: Final = "helm.sh/hook"
_READ_GROUPS: Final = frozenset(
    {
        "",
        "apps",
        "gateway.networking.k8s.io",
        "istio.alibabacloud.com",
        "networking.istio.io",
    }
)


def without_outside(documents: Iterable[Document]) -> tuple[list[Document], list[Note]]:
    """Leave out rules that are about hosts outside of the mesh only: those of a ServiceEntry."""
    documents = list(documents)
    outside = {
        host
        for document in documents
        if kind_of(document) == _SERVICE_ENTRY
        for host in _hosts(document, "hosts")
    }
    kept, notes = [], []
    for document in documents:
        fields = {DESTINATION_RULE: "host", VIRTUAL_SERVICE: "hosts"}
        field = fields.get(kind_of(document))
        hosts = [] if field is None else _hosts(document, field)
        if hosts and all(most_specific(host, outside) for host in hosts):
            text = f"{document.kind} {document.name}: left out: its hosts are outside of the mesh"
            notes.append(Note(text, document.source(f"spec.{field}")))
        else:
            kept.append(document)
    return kept, notes


def _hosts(document: Document, field: str) -> list[str]:
    """The hosts that a document names in a field of `spec`, which nobody has checked yet."""
    spec = document.body.get("spec")
    value = spec.get(field) if isinstance(spec, dict) else None
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


def look_at_kinds(
    documents: Iterable[Document], read: Collection[str]
) -> tuple[list[str], list[Note]]:
    """Find the documents that no reader is for.

    Args:
        documents: all of them.
        read: the kinds that are read.

    Returns:
        A problem for each that lanes cannot do without, and a note for each kind that they can.
    """
    documents = list(documents)
    problems: list[str] = []
    left_out: dict[str, list[Document]] = {}
    used = set(_config_maps_of_pods(documents))
    for document in documents:
        kind = kind_of(document)
        is_unused = kind == CONFIG_MAP and (document.namespace, document.name) not in used
        is_unused = is_unused or is_hook(document)
        if kind in _SILENT or (kind in read and not is_unused):
            continue
        if is_unused or _is_left_out(kind):
            left_out.setdefault(kind, []).append(document)
        else:
            problems.append(f"{document.where('kind')}: not supported by local lanes")
    return problems, [_note(kind, found) for kind, found in left_out.items()]


def is_hook(document: Document) -> bool:
    """Whether Helm runs an object at a certain time only, as it does with tests."""
    annotations = document.body["metadata"].get("annotations")
    return isinstance(annotations, dict) and _HOOK in annotations


def _is_left_out(kind: str) -> bool:
    if kind in _MAY_CHANGE_LANES or kind in _LEFT_OUT:
        return True
    return kind.rpartition("/")[0] not in _READ_GROUPS


def _note(kind: str, found: list[Document]) -> Note:
    names = ", ".join(document.name for document in found[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    effect = "it changes no lanes"
    if kind in _MAY_CHANGE_LANES:
        effect = "on a cluster it may change lanes"
    elif any(map(is_hook, found)):
        effect = "it is a hook of Helm"
    elif kind == CONFIG_MAP:
        effect = "no pod takes variables from it"
    text = f"{found[0].kind} {names}{more}: left out; {effect}"
    is_harmless = kind not in _MAY_CHANGE_LANES
    return Note(text, found[0].source("kind"), changes_no_lanes=is_harmless)


def _config_maps_of_pods(documents: Iterable[Document]) -> Iterator[tuple[str, str]]:
    """Namespaces and names of the ConfigMaps that workloads take variables from."""
    for document in documents:
        if kind_of(document) not in WORKLOADS:
            continue
        for container in containers(document):
            sources: list[dict[str, Any]] = [
                *((one.get("configMapRef") or {}) for one in container.get("envFrom") or ()),
                *(
                    (one.get("valueFrom") or {}).get("configMapKeyRef") or {}
                    for one in container.get("env") or ()
                ),
            ]
            for reference in sources:
                yield document.namespace, str(reference.get("name"))
