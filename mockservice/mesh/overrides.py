"""What the command line says of workloads beside their manifests: `--calls` and `--replace`."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mockservice.manifests.problems import one_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

_CALLS: Final = "APP=SERVICE,... or APP/VERSION=SERVICE,... or a file of such lines"
_REPLACE: Final = (
    "APP=URL or APP/VERSION=URL with a URL such as http://127.0.0.1:9000, without a path"
)
_HOST: Final = re.compile(r"(?=.{1,253}$)[\w-]{1,63}(\.[\w-]{1,63})*\.?", re.ASCII)
"""The name of a host, or an IPv4 address (RFC 1123 section 2.1)."""
_PROXY_OFFSET: Final = 10000
"""What the port of its proxy has more than that of a process; less, where that is too much."""
_MAX_PORT: Final = 65535
_HERE: Final = frozenset({"127.0.0.1", "localhost"})
"""Hosts whose ports are those of the proxies."""


@dataclass(frozen=True, slots=True)
class Override:
    """What somebody says of an app, or of one version of it."""

    option: str
    """With the file and line where it stands in one."""
    text: str
    app: str
    version: str | None
    """None: all versions."""
    value: str

    def __str__(self) -> str:
        return f"{self.option}: {self.text!r}"


@dataclass(frozen=True, slots=True)
class Overrides:
    """All that is said of apps."""

    calls: tuple[Override, ...] = ()
    """The Services that an app calls, separated by commas."""
    replaced: tuple[Override, ...] = ()
    """The URL of a process that answers in place of an app's pods."""

    def problems(self, apps: Mapping[str, Collection[str]]) -> Iterator[str]:
        """Say what of it names no app, or names one twice.

        Args:
            apps: the versions of each app.
        """
        seen: dict[tuple[str, str, str | None], Override] = {}
        for one in (*self.calls, *self.replaced):
            kind = one.option.partition(" ")[0]
            if seen.setdefault((kind, one.app, one.version), one) is not one:
                yield f"{one}: must be said only once for {_named(one.app, one.version)}"
            elif one.app not in apps:
                yield f"{one}: there is no app {one.app!r}; {one_of(one.app, apps)}"
            elif one.version is not None and one.version not in apps[one.app]:
                allowed = one_of(one.version, apps[one.app])
                yield f"{one}: {one.app} has no version {one.version!r}; {allowed}"
        processes = {one.value.rstrip("/"): one for one in self.replaced}
        for (url, one), (other_url, other) in combinations(processes.items(), 2):
            if ports := _clash(url, other_url):
                yield (
                    f"{other}: must have another port than {one.text!r}:"
                    f" both need port {min(ports)} for the process or for its proxy"
                )


def said_of(overrides: Iterable[Override], app: str, version: str) -> Override | None:
    """What counts for a version of an app: what is said of it or, else, of all versions."""
    found = [one for one in overrides if one.app == app and one.version in (None, version)]
    return max(found, key=lambda one: one.version is not None, default=None)


def proxy_port(url: str) -> int:
    """The port of the proxy for what the process at a URL calls."""
    port = urlsplit(url).port or 80
    return port + (_PROXY_OFFSET if port + _PROXY_OFFSET <= _MAX_PORT else -_PROXY_OFFSET)


def _clash(url: str, other: str) -> set[int]:
    """The ports that two processes, or their proxies, cannot both have."""
    ports = {proxy_port(url)} & {proxy_port(other)}
    for process, proxy in ((urlsplit(url), proxy_port(other)), (urlsplit(other), proxy_port(url))):
        if process.hostname in _HERE and (process.port or 80) == proxy:
            ports.add(proxy)
    return ports


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add what manifests of somebody's own applications need, but for `--replace`."""
    parser.add_argument(
        "-R", "--recursive", action="store_true", help="read the folders in folders too"
    )
    parser.add_argument(
        "--calls",
        metavar="APP=SERVICE,...",
        type=calls,
        action="append",
        default=[],
        help="the Services that an app calls, or a file of such lines: see docs/lanes.md",
    )


def add_replace(parser: argparse.ArgumentParser) -> None:
    """Add `--replace`."""
    parser.add_argument(
        "--replace",
        metavar="APP=URL",
        type=replacement,
        action="append",
        default=[],
        help="let a process that you run answer for an app: see docs/lanes.md",
    )


def overrides_of(options: argparse.Namespace) -> Overrides:
    """The arguments that `add_overrides` and `add_replace` have added."""
    return Overrides(
        tuple(one for group in options.calls for one in group),
        tuple(getattr(options, "replace", ())),
    )


def calls(text: str) -> tuple[Override, ...]:
    """Read an argument of `--calls`."""
    if "=" in text:
        return (_override("--calls", text, _CALLS),)
    # It takes YAML along, for which a probe without manifests does not wait.
    from mockservice.manifests.documents import MAX_FILE

    try:
        with Path(text).open("rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise argparse.ArgumentTypeError(f"{text!r}: must be at most {MAX_FILE} bytes")
        lines = data.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        shown = f"{text!r}: must be {_CALLS} ({(reason or str(error)).lower()})"
        raise argparse.ArgumentTypeError(shown) from None
    said = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    return tuple(
        _override(f"--calls {text}:{number}", line, _CALLS)
        for number, line in enumerate(said, 1)
        if line
    )


def replacement(text: str) -> Override:
    """Read an argument of `--replace`."""
    found = _override("--replace", text, _REPLACE)
    refused = argparse.ArgumentTypeError(f"{text!r}: must be {_REPLACE}")
    try:
        url = urlsplit(found.value)
        port = url.port
        is_host = _is_host(url.hostname or "")
    except ValueError:
        raise refused from None
    has_more = url.path.strip("/") or not {"?", "#", "@"}.isdisjoint(found.value)
    if url.scheme != "http" or not is_host or has_more or port == 0:
        raise refused
    return found


def _is_host(text: str) -> bool:
    """Whether a process can be at that host.

    Raises:
        ValueError: it is no IPv6 address, but looks like one.
    """
    return ip_address(text).version == 6 if ":" in text else bool(_HOST.fullmatch(text))


def _override(option: str, text: str, allowed: str) -> Override:
    named, equals, value = text.partition("=")
    app, slash, version = named.strip().partition("/")
    if not equals or not app or (slash and not version):
        where = "" if option.startswith("--") and " " not in option else f"{option}: "
        raise argparse.ArgumentTypeError(f"{where}{text!r}: must be {allowed}")
    return Override(option, text, app, version if slash else None, value.strip())


def _named(app: str, version: str | None) -> str:
    return app if version is None else f"{app}/{version}"
