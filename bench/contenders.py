"""The contenders: for each the command and the environment of a hop."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

BENCH: Final = Path(__file__).parent
BUILD: Final = BENCH / ".build"
COMPILED: Final = BENCH.parent / ".build" / "compiled"
"""What `make compiled` makes."""
IMAGE: Final = BUILD / "image"
"""The files of the image, which `make bench IMAGE=...` unpacks."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to run a hop."""

    name: str
    command: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict, hash=False)
    traced: bool = False
    """Whether it exports spans of all requests."""
    ready: str = "/"
    """The path that answers 200 when the hop is ready."""
    line: str = "-> {app}(version: {version}, ip: {host})"
    """A hop's part of the chain."""


_ONE_CORE: Final = {"GOMAXPROCS": "1"}
GO: Final = Contender("Go net/http", (str(BUILD / "go-lean"),), _ONE_CORE)
"""The reference of all ratios: as short as Go allows, without a timeout."""
GO_TIMEOUT: Final = Contender("Go net/http, with a timeout", (str(BUILD / "go-hop"),), _ONE_CORE)
"""It calls several upstreams, too."""
GO_TRACED: Final = Contender(
    "Go net/http, otelhttp", (str(BUILD / "go-traced"),), _ONE_CORE, traced=True
)
BARE: Final = Contender("bare uvloop + httptools", (sys.executable, "-m", "bench.bare_hop"))
"""What the event loop and the parser of mockservice leave to reach."""

_AIOHTTP: Final = (sys.executable, "-m", "bench.aiohttp_hop")
_INSTRUMENT: Final = str(Path(sys.executable).with_name("opentelemetry-instrument"))

_MOCKSERVICE: Final = (sys.executable, "-m", "mockservice")
MOCKSERVICE: Final = Contender("mockservice", _MOCKSERVICE, ready="/readyz")
MOCKSERVICE_TRACED: Final = Contender("mockservice, traced", _MOCKSERVICE, traced=True)
# -P: not the package of the working directory.
_COMPILED: Final = (sys.executable, "-P", "-m", "mockservice")
_COMPILED_ENV: Final = {"PYTHONPATH": str(COMPILED)}
MOCKSERVICE_COMPILED: Final = Contender(
    "mockservice, compiled", _COMPILED, _COMPILED_ENV, ready="/readyz"
)
MOCKSERVICE_COMPILED_TRACED: Final = Contender(
    "mockservice, compiled, traced", _COMPILED, _COMPILED_ENV, traced=True
)
# The container's own command, with the image's Python and libraries.
_IMAGE: Final = ("chroot", str(IMAGE), "/opt/venv/bin/python", "-m", "mockservice")
_IMAGE_ENV: Final = {
    "PYTHONPYCACHEPREFIX": "/opt/venv/pycache",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}
MOCKSERVICE_IMAGE: Final = Contender("mockservice, image", _IMAGE, _IMAGE_ENV, ready="/readyz")
MOCKSERVICE_IMAGE_TRACED: Final = Contender(
    "mockservice, image, traced", _IMAGE, _IMAGE_ENV, traced=True
)
AIOHTTP: Final = Contender("aiohttp", _AIOHTTP)
AIOHTTP_TRACED: Final = Contender(
    "aiohttp, auto-instrumented", (_INSTRUMENT, *_AIOHTTP), traced=True
)
HELLO: Final = Contender("bare aiohttp", (sys.executable, "-m", "bench.hello"), line="hello")
"""Not a hop: shows what the interpreter, uvloop and aiohttp need on their own."""


def tracing_env(app: str, endpoint: str) -> dict[str, str]:
    """Environment variables to export all spans, and only spans, to `endpoint` by OTLP/HTTP.

    Source: OpenTelemetry specification, "Environment Variable Specification".
    """
    return {
        "OTEL_SERVICE_NAME": app,
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint,
        "OTEL_TRACES_SAMPLER": "parentbased_always_on",
        "OTEL_PROPAGATORS": "tracecontext,baggage",
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
        # Exports the remaining spans of a load before the next measurement starts.
        "OTEL_BSP_SCHEDULE_DELAY": "1000",
    }
