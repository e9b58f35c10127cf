-- Prints wrk's results on one line, times in microseconds, as its report rounds them.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    "BENCH %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
