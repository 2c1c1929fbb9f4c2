"""Metrics that every program has, and the port where Prometheus reads them. Off unless CREASE_METRICS_LISTEN is set.

Labels have few values, all known in advance; ids, names and sentences are never labels. docs/operating.md lists all
metrics.

The heartbeat of a background loop is always kept, because the readiness of its program depends on it:

pass complete ──▶ interval ──▶ pass fails, or does not end ──▶ late ──▶ the program is not ready, an alert fires
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

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
# The longest pass of a loop. Calls inside it have shorter limits.
PASS_SECONDS = 15.0
# A program is not ready if a loop's next complete pass is this late.
STALLED_SECONDS = 60.0


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


class Loop:
    """The heartbeat of one background loop, whose passes are `interval_seconds` apart."""

    def __init__(self, interval_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self._completed_at = time.monotonic()

    @property
    def late_seconds(self) -> float:
        """How long the next complete pass has been due."""
        return max(time.monotonic() - self._completed_at - self._interval_seconds, 0.0)

    @asynccontextmanager
    async def one_pass(self, limit_seconds: float = PASS_SECONDS) -> AsyncIterator[None]:
        """A pass, complete unless the block raises. Raises TimeoutError in a block that takes longer."""
        async with asyncio.timeout(limit_seconds):
            yield
        self.complete()

    def complete(self) -> None:
        """Records a complete pass."""
        self._completed_at = time.monotonic()


class Loops(Collector):
    """All background loops of a program, by name, each with the interval of its passes in seconds."""

    def __init__(self, **intervals: float) -> None:
        self._loops = {name: Loop(seconds) for name, seconds in intervals.items()}

    def __getitem__(self, name: str) -> Loop:
        return self._loops[name]

    def are_alive(self) -> bool:
        """Whether no loop is late by STALLED_SECONDS."""
        return all(loop.late_seconds < STALLED_SECONDS for loop in self._loops.values())

    def export(self) -> None:
        """Exports how late each loop is, if metrics are on."""
        if is_on():
            REGISTRY.register(self)

    def collect(self) -> Iterator[Metric]:
        """Called by Prometheus's client, in a thread of its own."""
        family = GaugeMetricFamily(
            "crease_loop_late_seconds", "How long a complete pass of a background loop has been due", labels=["loop"]
        )
        for name, loop in self._loops.items():
            family.add_metric([name], loop.late_seconds)
        yield family
