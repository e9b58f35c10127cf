"""`mockservice serve`: environment -> settings -> a hop that runs until a signal stops it."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Final

from mockservice.imports import uncollected
from mockservice.serve import tls, workers
from mockservice.serve.settings import SettingError, Settings
from mockservice.serve.telemetry.logs import keep_standard_error
from mockservice.serve.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_USAGE: Final = """\
usage: mockservice serve

Runs one hop until SIGTERM or SIGINT. Settings are environment variables:

  app               name of this hop (required)
  version           version of this hop (required)
  upstream_url      http or https URL of the next hop, or several, comma-separated, which are
                    called at the same time (default: none, this is the last hop)
  port              port to listen on (default: 8000)
  host              address to listen on (default: all interfaces)
  pod_ip            address to show in the chain (default: the machine's main address)
  lane_headers      more headers to carry: names, or prefixes that end in '*', comma-separated
  upstream_timeout  seconds for the upstream's answer (default: 5)
  workers           processes that share the port (default: 1)
  upstream_proxy    http URL of a proxy for upstream calls, such as a local sidecar (default: none)
  access_log        'on' logs all requests but reserved paths, 'off' only failures (default: off)

Faults on demand, off by default:

  fault_delay, fault_delay_percent  seconds, or a spread such as 0.2-0.8 (default: 100 percent)
  fault_abort, fault_abort_percent  status to answer with, 400 to 599 (default: 100 percent)
  fault_header                      'on': the x-mock-fault header of a request injects faults

Tracing: OTEL_EXPORTER_OTLP_ENDPOINT turns it on; the other OTEL_* variables apply.
"""


def main(argv: Sequence[str]) -> int:
    """Serve one hop, configured by the environment.

    Returns:
        The exit code: 0 after a drain, 1 if a worker died, 2 for bad input.
    """
    if argv:
        if argv[0] in ("-h", "--help"):
            sys.stdout.write(_USAGE)
            return 0
        sys.stderr.write(f"mockservice serve: {argv[0]!r}: takes no arguments\n")
        return 2
    keep_standard_error()
    return _exit_code(_serve)


def _serve() -> int:
    settings = Settings.from_env(os.environ)
    metrics = Metrics(settings.workers, settings.upstream_urls)
    import_run(any(url.secure for url in settings.upstream_urls))
    from mockservice.serve.hop import new_hop_id
    from mockservice.serve.run import run

    process = partial(run, settings, metrics, new_hop_id())
    if settings.workers == 1:
        return process()
    return workers.run(settings.workers, partial(_exit_code, process))


def import_run(calls_https: bool) -> None:
    """Import what runs a hop: only once it is known whether its event loop needs TLS."""
    with uncollected(), nullcontext() if calls_https else tls.left_out():
        import mockservice.serve.run  # noqa: F401


def _exit_code(work: Callable[..., int], *arguments: int) -> int:
    """The exit code of `work`, which may raise a SettingError."""
    try:
        return work(*arguments)
    except SettingError as error:
        sys.stderr.write(f"mockservice: {error}\n")
        return 2
