"""A hop's process: settings -> upstreams, hop, server, until a signal stops it."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import uvloop

from mockservice.serve import workers
from mockservice.serve.address import find_pod_ip
from mockservice.serve.hop import Hop
from mockservice.serve.server import Server
from mockservice.serve.telemetry.logs import Logs
from mockservice.serve.telemetry.observed import ObservedHop
from mockservice.serve.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mockservice.serve.hop import Calls
    from mockservice.serve.settings import Settings
    from mockservice.serve.telemetry.metrics import Metrics
    from mockservice.serve.telemetry.tracing import Tracing


def run(
    settings: Settings, metrics: Metrics, hop_id: str, process: int = 0, lifeline: int | None = None
) -> int:
    """Run one process of a hop until SIGTERM or SIGINT, and drain it.

    Args:
        settings: the hop's.
        metrics: those of all its processes.
        hop_id: what the hop knows its own requests by.
        process: the number of this process, from 0 on.
        lifeline: a file descriptor that reports end of file once the parent process is gone.

    Returns:
        The exit code, 0.

    Raises:
        SettingError: a setting has a value that this machine does not allow.
    """
    metrics.take(process)
    logs = Logs(settings.app, settings.version)
    logs.take_over()
    try:
        uvloop.run(_serve(settings, metrics, hop_id, logs, lifeline))
    finally:
        logs.close()
    return 0


async def _serve(
    settings: Settings, metrics: Metrics, hop_id: str, logs: Logs, lifeline: int | None
) -> None:
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

    return Tracing(settings, env, endpoint)


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
