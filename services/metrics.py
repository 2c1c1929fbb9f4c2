"""What every program of ours counts, and the port where Prometheus reads it; off unless told where.

Every label has few values, known beforehand: no id, name or sentence is one. docs/operating.md lists them all.
"""

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics, start_http_server

from services import VERSION
from services.logs import Logger

# When a counter began is no news, and would double the series.
disable_created_metrics()  # type: ignore[no-untyped-call]
# The bounds that goals are set at are among them: 5, 15 and 150 ms for calls.
CALL_SECONDS = (0.002, 0.005, 0.015, 0.03, 0.05, 0.15, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

RPC_SECONDS = Histogram(
    "crease_rpc_seconds",
    "Calls answered; a stream from its beginning to its end",
    ["method", "code"],
    buckets=CALL_SECONDS,
)
# `jobs` and the controller know of different ones, and each names its own at once: of a counter that is first seen when
# it stands at 11, Prometheus knows no increase.
FALLBACKS = Counter("crease_fallbacks_total", "Launches that could have had a GPU and have the CPU", ["reason"])
_BUILD = Gauge("crease_build_info", "Always 1", ["version"])
_on = False


def is_on() -> bool:
    """Whether anybody may read what is counted."""
    return _on


def start(listen: str, log: Logger) -> None:
    """Serves the metrics of this process at `listen`, host:port; does nothing where that is empty."""
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


def rpc(method: str, code: str, seconds: float) -> None:
    """Counts a call of `JobService/GetJob`."""
    if _on:
        RPC_SECONDS.labels(method, code).observe(seconds)
