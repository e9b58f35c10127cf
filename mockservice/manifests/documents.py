"""YAML files in, one `Document` per Kubernetes object out, with file and line.

Reads what `kubectl apply -f` reads: the YAML files of a folder and, on request, of its subfolders,
standard input as `-`, several documents per file, and the items of a `kind: List`. Refuses folders
that are Kustomize's: see `mockservice.manifests.kustomization`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

MAX_FILE: Final = 1024 * 1024
"""Size of one file, in bytes."""
MAX_INPUT: Final = 16 * 1024 * 1024
"""Size of standard input, in bytes: it holds what would be many files."""
MAX_FILES: Final = 1000
MAX_NODES: Final = 100_000
"""Keys and values in one document, with its aliases expanded."""
STANDARD_INPUT: Final = Path("-")
_SUFFIXES: Final = (".yaml", ".yml")
KUSTOMIZATIONS: Final = ("kustomization.yaml", "kustomization.yml", "Kustomization")
"""The files that Kustomize reads; none of them is a manifest."""

# The cluster-scoped kinds among those that are often applied together with lanes.
_CLUSTER_SCOPED: Final = frozenset(
    {
        "ASMSwimLane",
        "ASMSwimLaneGroup",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "GatewayClass",
        "Namespace",
        "PersistentVolume",
        "StorageClass",
    }
)


class ManifestError(ValueError):
    """Manifests cannot be read. The text is one line: where, the value, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Source:
    """A place in the manifests, for messages that refer to it."""

    kind: str
    name: str
    path: str
    """The file, as the user named it."""
    line: int
    """Line number, from 1."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.path}:{self.line})"


@dataclass(frozen=True)
class Document:
    """One Kubernetes object in a manifest."""

    path: Path
    line: int
    """Line number of its first line, from 1."""
    body: dict[str, Any]
    node: yaml.MappingNode = field(repr=False, compare=False)
    """The body as YAML nodes, which know their lines."""

    @property
    def api_version(self) -> str:
        """The `apiVersion`, such as `apps/v1`."""
        return str(self.body["apiVersion"])

    @property
    def kind(self) -> str:
        """The `kind`, such as `Deployment`."""
        return str(self.body["kind"])

    @property
    def name(self) -> str:
        """The `metadata.name`."""
        return str(self.body["metadata"]["name"])

    @property
    def is_named_later(self) -> bool:
        """Whether the name is only a `metadata.generateName`, which the cluster completes."""
        return bool(self.name == self.body["metadata"].get("generateName"))

    @property
    def namespace(self) -> str:
        """The `metadata.namespace`, by default `default`; empty for cluster-scoped kinds."""
        if self.kind in _CLUSTER_SCOPED:
            return ""
        return str(self.body["metadata"].get("namespace") or "default")

    def where(self, place: str = "") -> str:
        """Return file, line, object and field, as a message to the user starts.

        Args:
            place: the field, such as `spec.http[0].route`; empty for the object itself. If the
                field is absent, the line is that of the innermost field around it.
        """
        named = f"{self.path}:{line_of(self.node, place)}: {self.kind} {self.name}"
        return f"{named}: {place}" if place else named

    def source(self, place: str = "") -> Source:
        """Return the place of a field, or of the object itself; see `where`."""
        return Source(self.kind, self.name, str(self.path), line_of(self.node, place))


def read(paths: Iterable[Path], *, recursive: bool = False) -> list[Document]:
    """Read files, and the YAML files of folders, sorted by name.

    A file that several paths name is read once.

    Args:
        paths: files and folders; `-` is standard input.
        recursive: whether folders in folders are read too.

    Raises:
        ManifestError: a path does not exist or has no manifests, a file is too large or not valid
            YAML, a document is not a Kubernetes object, or an object is defined twice.
    """
    files: dict[Path, Path] = {}
    for path in paths:
        for file in _files(Path(path), recursive):
            files.setdefault(file if file == STANDARD_INPUT else file.resolve(), file)
    if len(files) > MAX_FILES:
        raise ManifestError(f"{len(files)} manifest files: must be at most {MAX_FILES}")
    documents: list[Document] = []
    defined: dict[tuple[str, str, str, str], Document] = {}
    for file in files.values():
        for document in _read_file(file):
            documents.append(document)
            if document.is_named_later:
                continue
            group = document.api_version.rpartition("/")[0]
            key = (group, document.kind, document.namespace, document.name)
            if first := defined.get(key):
                raise ManifestError(
                    f"{document.where()}: must be defined only once;"
                    f" it is already defined in {first.path}:{first.line}"
                )
            defined[key] = document
    return documents


def folders(path: Path, recursive: bool) -> list[Path]:
    """The folders that are read at a path: itself and, on request, all that are in it."""
    if not path.is_dir():
        return []
    inside = (one for one in sorted(path.rglob("*")) if one.is_dir()) if recursive else ()
    return [path, *(one for one in inside if not _is_hidden(one, path))]


def _is_hidden(path: Path, start: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(start).parts)


def manifests_in(folder: Path) -> list[Path]:
    """The files of a folder that may be manifests, sorted by name."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix in _SUFFIXES and file.name not in KUSTOMIZATIONS
    )


def _files(path: Path, recursive: bool) -> list[Path]:
    if path == STANDARD_INPUT:
        return [path]
    try:
        if found := folders(path, recursive):
            files = [file for folder in found for file in manifests_in(folder)]
            if recursive:
                files = [file for file in files if not file.is_dir()]
            if not files:
                raise ManifestError(f"{path}: must contain manifests: *.yaml or *.yml files")
            return files
        if path.is_file():
            return [path]
    except OSError as error:
        raise unreadable(path, error) from None
    raise ManifestError(f"{path}: no such file or folder")


def unreadable(path: Path, error: OSError) -> ManifestError:
    """Say why a path cannot be read."""
    return ManifestError(f"{path}: {(error.strerror or str(error)).lower()}")


def read_nodes(path: Path) -> Iterator[tuple[yaml.Node, Any]]:
    """Read the YAML documents of one file: each as nodes, which know their lines, and as data.

    Raises:
        ManifestError: the file cannot be read, is too large or not valid YAML.
    """
    text = _text(path)
    count = 0
    # libyaml accepts tabs that PyYAML refuses.
    if yaml.__with_libyaml__ and "\t" not in text:
        try:
            for pair in _read_nodes(path, text, _FastLoader):
                yield pair
                count += 1
            return
        except ManifestError:
            # The other loader says what is wrong.
            pass
    yield from islice(_read_nodes(path, text, _Loader), count, None)


def _read_nodes(
    path: Path, text: str, loader_type: type[_Loader | _FastLoader]
) -> Iterator[tuple[yaml.Node, Any]]:
    loader: _Loader | _FastLoader | None = None
    try:
        loader = loader_type(text)
        while (node := _next(loader)) is not None:
            if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
                continue
            if _size(node, {}) > MAX_NODES:
                raise ManifestError(
                    f"{path}:{node.start_mark.line + 1}: document:"
                    f" must have at most {MAX_NODES} keys and values"
                )
            yield node, loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ManifestError(
            f"{path}{line}: invalid YAML: {error.problem or error.context}"
        ) from None
    except yaml.YAMLError as error:
        raise ManifestError(f"{path}: invalid YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise ManifestError(f"{path}: invalid YAML: nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()


def _text(path: Path) -> str:
    try:
        if path == STANDARD_INPUT:
            # There is none where the caller has closed it.
            if sys.stdin is None:
                raise ManifestError(f"{path}: standard input is closed")
            most = MAX_INPUT
            data = sys.stdin.buffer.read(most + 1)
        else:
            most = MAX_FILE
            with path.open("rb") as file:
                data = file.read(most + 1)
        if len(data) > most:
            raise ManifestError(f"{path}: must be at most {most} bytes")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError:
        raise ManifestError(f"{path}: must be UTF-8 text") from None


def _next(loader: _Loader | _FastLoader) -> yaml.Node | None:
    return loader.get_node() if loader.check_node() else None


def _read_file(path: Path) -> Iterator[Document]:
    for node, body in read_nodes(path):
        yield from _documents(path, node, body)


def _documents(path: Path, node: yaml.Node, body: Any) -> Iterator[Document]:
    place = f"{path}:{node.start_mark.line + 1}"
    if not isinstance(node, yaml.MappingNode) or not isinstance(body, dict):
        raise ManifestError(f"{place}: must be a Kubernetes object, not {shown_value(body)}")
    if body.get("kind") != "List":
        yield _document(path, node, body)
        return
    items = _child(node, "items")
    if not isinstance(items, yaml.SequenceNode):
        raise ManifestError(f"{place}: List: items: must be a list")
    for item, item_body in zip(items.value, body["items"], strict=True):
        if not isinstance(item, yaml.MappingNode):
            line = item.start_mark.line + 1
            shown = shown_value(item_body)
            raise ManifestError(f"{path}:{line}: must be a Kubernetes object, not {shown}")
        yield _document(path, item, item_body)


def _document(path: Path, node: yaml.MappingNode, body: dict[str, Any]) -> Document:
    metadata = body.get("metadata")
    line = node.start_mark.line + 1
    named = metadata if isinstance(metadata, dict) else {}
    if named.get("name") is None and named.get("generateName") is not None:
        # The cluster adds the rest of the name.
        named["name"] = named["generateName"]
    required = {
        "apiVersion": body.get("apiVersion"),
        "kind": body.get("kind"),
        "metadata.name": named.get("name"),
        "metadata.namespace": named.get("namespace") or "default",
    }
    for name, value in required.items():
        if not isinstance(value, str) or not value:
            at = line_of(node, name)
            shown = f"must be a string, not {shown_value(value)}"
            reason = "must be set" if value is None else shown
            raise ManifestError(f"{path}:{at}: {name}: {reason}")
    return Document(path, line, body, node)


class _Rules(yaml.constructor.SafeConstructor, yaml.resolver.Resolver):
    """YAML as Kubernetes reads it: keys are unique strings, and dates are strings."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - declared so by PyYAML
        first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.resolver.Resolver.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                shown = repr(key.value) if isinstance(key, yaml.ScalarNode) else f"a {key.id}"
                problem = f"keys must be strings, not {shown}"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if key.value in seen:
                problem = f"duplicate key {key.value!r}"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Loader(_Rules, yaml.SafeLoader):
    """PyYAML's own parser, whose messages people know."""


# PyYAML may have been built without libyaml.
if yaml.__with_libyaml__:
    from yaml._yaml import CParser

    class _FastLoader(_Rules, yaml.composer.Composer, CParser):
        """libyaml's parser, which is several times as fast.

        Its events become nodes here: its own composer crashes where nodes are nested too deeply.
        """

        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            yaml.composer.Composer.__init__(self)
            yaml.constructor.SafeConstructor.__init__(self)
            yaml.resolver.Resolver.__init__(self)


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Count the nodes of a document with its aliases expanded."""
    known = sizes.get(id(node))
    if known is not None:
        return known
    # An alias inside its own anchor would expand for ever: it counts as too large.
    sizes[id(node)] = MAX_NODES + 1
    total = 1
    if isinstance(node, yaml.SequenceNode):
        total += sum(_size(item, sizes) for item in node.value)
    elif isinstance(node, yaml.MappingNode):
        total += sum(_size(key, sizes) + _size(value, sizes) for key, value in node.value)
    sizes[id(node)] = total
    return total


def line_of(node: yaml.Node, place: str) -> int:
    """Return the line of a field such as `spec.http[0].route`, or of the innermost around it."""
    line: int = node.start_mark.line + 1
    while place:
        if isinstance(node, yaml.SequenceNode):
            number, _, rest = place.removeprefix("[").partition("]")
            if not number.isdigit() or int(number) >= len(node.value):
                break
            node, place = node.value[int(number)], rest.removeprefix(".")
            line = node.start_mark.line + 1
            continue
        # Keys such as labels may contain dots: take the longest key that matches.
        matching = [
            (key, value)
            for key, value in (node.value if isinstance(node, yaml.MappingNode) else ())
            if isinstance(key.value, str)
            and place.startswith(key.value)
            and place[len(key.value) : len(key.value) + 1] in ("", ".", "[")
        ]
        if not matching:
            break
        key, node = max(matching, key=lambda pair: len(pair[0].value))
        place = place[len(key.value) :].removeprefix(".")
        line = key.start_mark.line + 1
    return line


def _child(node: yaml.MappingNode, name: str) -> yaml.Node | None:
    children: dict[Any, yaml.Node] = {key.value: value for key, value in node.value}
    return children.get(name)


def shown_value(value: object) -> str:
    """A value as messages show it."""
    match value:
        case None:
            return "null"
        case dict():
            return "an object"
        case list():
            return "a list"
    return repr(value)
