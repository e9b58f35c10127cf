"""`mockservice serve`: environment -> settings -> hop -> server, until a signal stops it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import uvloop

from mockservice.serve import workers
from mockservice.serve.address import find_pod_ip
from mockservice.serve.hop import Hop, new_hop_id
from mockservice.serve.server import Server
from mockservice.serve.settings import SettingError, Settings
from mockservice.serve.telemetry.logs import Logs, keep_standard_error
from mockservice.serve.telemetry.metrics import Metrics
from mockservice.serve.telemetry.observed import ObservedHop
from mockservice.serve.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mockservice.serve.hop import Calls
    from mockservice.serve.telemetry.tracing import Tracing

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
    try:
        settings = Settings.from_env(os.environ)
        metrics = Metrics(settings.workers, settings.upstream_urls)
        shared = _Shared(settings, new_hop_id(), metrics)
        if settings.workers == 1:
            return _run(shared)
        return workers.run(settings.workers, partial(_run, shared))
    except SettingError as error:
        return _bad(error)


def _bad(error: SettingError) -> int:
    sys.stderr.write(f"mockservice: {error}\n")
    return 2


class _Shared(NamedTuple):
    """What all worker processes of a hop share."""

    settings: Settings
    hop_id: str
    metrics: Metrics


def _run(shared: _Shared, process: int = 0, lifeline: int | None = None) -> int:
    shared.metrics.take(process)
    logs = Logs(shared.settings.app, shared.settings.version)
    logs.take_over()
    try:
        uvloop.run(_serve(shared, logs, lifeline))
    except SettingError as error:
        return _bad(error)
    finally:
        logs.close()
    return 0


async def _serve(shared: _Shared, logs: Logs, lifeline: int | None) -> None:
    settings, hop_id, metrics = shared
    stop = _stop_on_signal(lifeline)
    tracing = _tracing(settings, os.environ)
    upstreams = []
    for url in settings.upstream_urls:
        proxy = None if url.secure else settings.upstream_proxy
        upstream = Upstream(url, metrics.calls(url), proxy)
        metrics.watch(url, upstream.pool)
        upstreams.append(upstream)
    ip = find_pod_ip(settings)
    if tracing is None:
        calls = _faulty(settings, _calls(settings, upstreams), metrics)
        hop = Hop(settings, ip, calls, hop_id=hop_id)
        observed = ObservedHop(hop, settings, metrics, logs)
        server = Server(settings, observed, metrics)
    else:
        traced = _calls(settings, [*map(tracing.upstream, upstreams)])
        calls = _faulty(settings, traced, metrics, tracing)
        hop = Hop(settings, ip, calls, hop_id=hop_id, trace_id=tracing.trace_id)
        observed = ObservedHop(hop, settings, metrics, logs, tracing.current)
        server = Server(settings, observed, metrics, tracing.hop(observed))
    await server.start()
    await stop.wait()
    await server.drain()
    for upstream in upstreams:
        upstream.close()
    if tracing is not None:
        await tracing.flush()


def _calls(settings: Settings, upstreams: Sequence[Calls]) -> Calls | None:
    """What calls all upstreams; None without upstreams."""
    if len(upstreams) < 2:
        return upstreams[0] if upstreams else None
    from mockservice.serve.fan_out import FanOut

    return FanOut(upstreams, [url.hop for url in settings.upstream_urls])


def _faulty(
    settings: Settings,
    upstream: Calls | None,
    metrics: Metrics,
    tracing: Tracing | None = None,
) -> Calls | None:
    """`upstream` with faults injected before it, if the settings ask for faults."""
    if not settings.faults and not settings.fault_header:
        return upstream
    from mockservice.serve.injector import Injector

    return Injector(settings, upstream, metrics.count_fault, tracing)


def _tracing(settings: Settings, env: Mapping[str, str]) -> Tracing | None:
    """Tracing, if an OTLP endpoint is configured; else it is not imported, which saves memory."""
    exporter = env.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower()
    endpoint = env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or env.get(
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    disabled = env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if not endpoint or disabled or exporter == "none":
        return None
    from mockservice.serve.telemetry.tracing import Tracing

    return Tracing(settings, env)


def _stop_on_signal(lifeline: int | None) -> asyncio.Event:
    """An event that SIGTERM, SIGINT or the end of `lifeline` sets. A second signal exits at once.

    Args:
        lifeline: a file descriptor that reports end of file once the parent process is gone.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    def on_end(lifeline: int) -> None:
        loop.remove_reader(lifeline)
        stop.set()

    for number in workers.STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, workers.STOP_SIGNALS)
    if lifeline is not None:
        loop.add_reader(lifeline, on_end, lifeline)
    return stop
