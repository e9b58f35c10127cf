"""Telemetry: traces by OTLP, metrics at /metrics, logs on standard error."""
