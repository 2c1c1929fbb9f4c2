"""Metrics that every program has, and the port where Prometheus reads them. Off unless CREASE_METRICS_LISTEN is set.

Labels have few values, all known in advance; ids, names and sentences are never labels. docs/operating.md lists all
metrics.
"""

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics, start_http_server

from services import VERSION
from services.logs import Logger

# The time at which a counter was created would double the number of series.
disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped in prometheus_client
# Among the buckets are the goals of calls: 5, 15 and 150 ms.
CALL_SECONDS = (0.002, 0.005, 0.015, 0.03, 0.05, 0.15, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

RPC_SECONDS = Histogram(
    "crease_rpc_seconds",
    "Duration of answered calls; a stream is measured until it ends",
    ["method", "code"],
    buckets=CALL_SECONDS,
)
# jobs and the controller count different reasons. Each creates its series at start: Prometheus sees no increase in a
# series whose first sample is 11.
FALLBACKS = Counter("crease_fallbacks_total", "Launches that were eligible for a GPU and run on the CPU", ["reason"])
# A forged token or a rotated key raises the first, an issuer that publishes no usable keys the second.
ISSUER_KEY_FAULTS = Counter(
    "crease_issuer_key_faults_total", "Tokens with an unknown key id, and failed fetches of an issuer's keys", ["kind"]
)
UNKNOWN_KEY, FAILED_FETCH = "unknown_key", "failed_fetch"
for _kind in (UNKNOWN_KEY, FAILED_FETCH):
    ISSUER_KEY_FAULTS.labels(_kind)
_BUILD = Gauge("crease_build_info", "The running version; the value is always 1", ["version"])
_on = False


def is_on() -> bool:
    """Whether Prometheus can read the metrics of this process."""
    return _on


def start(listen: str, log: Logger) -> None:
    """Serves the metrics of this process at `listen`, host:port; empty: does nothing."""
    global _on
    if not listen:
        return
    host, _, port = listen.rpartition(":")
    try:
        server, _ = start_http_server(int(port), host.strip("[]"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"CREASE_METRICS_LISTEN: cannot listen on {listen}: {error}") from None
    _on = True
    _BUILD.labels(VERSION).set(1)
    log.info("metrics_serving", version=VERSION, listen=listen, port=server.server_port)


def record_call(method: str, code: str, seconds: float) -> None:
    """Records one call. `method`: as in JobService/GetJob."""
    if _on:
        RPC_SECONDS.labels(method, code).observe(seconds)
