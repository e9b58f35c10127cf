"""What a hop tells of itself: traces by OTLP, metrics at /metrics, logs on standard error."""
