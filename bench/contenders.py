"""Who is measured: for each contender the command of one hop, and its environment."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

BENCH: Final = Path(__file__).parent
GO_HOP: Final = BENCH / ".build" / "go-hop"


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to run a hop."""

    name: str
    command: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict, hash=False)
    traced: bool = False
    """Whether it exports every request's spans."""
    ready: str = "/"
    """The path that answers 200 once it serves."""
    line: str = "-> {app}(version: {version}, ip: {host})"
    """What a hop says of itself."""


GO: Final = Contender("Go net/http", (str(GO_HOP),), {"GOMAXPROCS": "1"})
"""The reference: what every ratio is against."""

_AIOHTTP: Final = (sys.executable, "-m", "bench.aiohttp_hop")
_INSTRUMENT: Final = str(Path(sys.executable).with_name("opentelemetry-instrument"))

_MOCKSERVICE: Final = (sys.executable, "-m", "mockservice")
MOCKSERVICE: Final = Contender("mockservice", _MOCKSERVICE, ready="/readyz")
MOCKSERVICE_TRACED: Final = Contender("mockservice, traced", _MOCKSERVICE, traced=True)
AIOHTTP: Final = Contender("aiohttp", _AIOHTTP)
AIOHTTP_TRACED: Final = Contender(
    "aiohttp, auto-instrumented", (_INSTRUMENT, *_AIOHTTP), traced=True
)
HELLO: Final = Contender("bare aiohttp", (sys.executable, "-m", "bench.hello"), line="hello")
"""No hop: what the interpreter, uvloop and aiohttp take by themselves."""


def tracing_env(app: str, endpoint: str) -> dict[str, str]:
    """Every span to `endpoint` by OTLP/HTTP, and nothing but spans.

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
        # What is left after a load is sent while the next contender warms up, not later.
        "OTEL_BSP_SCHEDULE_DELAY": "1000",
    }
