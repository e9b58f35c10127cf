"""What the command line says of workloads beside their manifests: `--calls` and `--replace`."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
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
MAX_FILE: Final = 1024 * 1024
"""Size of a file of calls, in bytes."""


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
                yield f"{one}: must be said only once of {_named(one.app, one.version)}"
            elif one.app not in apps:
                yield f"{one}: there is no app {one.app!r}; {one_of(one.app, apps)}"
            elif one.version is not None and one.version not in apps[one.app]:
                allowed = one_of(one.version, apps[one.app])
                yield f"{one}: {one.app} has no version {one.version!r}; {allowed}"


def said_of(overrides: Iterable[Override], app: str, version: str) -> Override | None:
    """What counts for a version of an app: what is said of it or, else, of all versions."""
    found = [one for one in overrides if one.app == app and one.version in (None, version)]
    return max(found, key=lambda one: one.version is not None, default=None)


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
        help="send the calls of an app to a process that you run: see docs/lanes.md",
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
    except ValueError:
        raise refused from None
    rest = (url.path.strip("/"), url.query, url.fragment, url.username or url.password or "")
    if url.scheme != "http" or not url.hostname or any(rest) or port == 0:
        raise refused
    return found


def _override(option: str, text: str, allowed: str) -> Override:
    named, equals, value = text.partition("=")
    app, slash, version = named.strip().partition("/")
    if not equals or not app or (slash and not version):
        where = "" if option.startswith("--") and " " not in option else f"{option}: "
        raise argparse.ArgumentTypeError(f"{where}{text!r}: must be {allowed}")
    return Override(option, text, app, version if slash else None, value.strip())


def _named(app: str, version: str | None) -> str:
    return app if version is None else f"{app}/{version}"
