"""Exports the gauges of all jobs, read from the database by one replica at a time.

    no exporter, or its lease expired ──▶ become the exporter: read and renew the lease at each interval

A row names the exporter and its lease, because a session's lock does not survive a pooler. A replica that cannot read
before its lease expires exports no gauges, because another replica may.

Finished jobs are most of a large table, and counting them scans a whole index. They are therefore counted less often as
the table grows; between counts, the last value is exported. Open jobs are counted at each interval.
"""

import asyncio
import time
import uuid
from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services import logs
from services.jobs.background import expiry
from services.jobs.domain import states
from services.jobs.settings import JobsSettings
from services.jobs.store.database import Database, Row, translate
from services.jobs.store.events.outbox import OLDEST_RUNNING, RELAYS
from services.jobs.store.events.subscriptions import LAG_SECONDS
from services.logs import Logger
from services.metrics import Loop

LEASE_INTERVALS = 3
OVERDUE_SECONDS = 300
# The rate of counting finished jobs, averaged over time: about 0.2 % of a core.
FINISHED_PER_SECOND = 10_000

_OPEN = tuple(status for status in states.STATUSES if status not in states.SETTLED)
_READ = f"""
    WITH lease AS (
        INSERT INTO tellers AS teller (what, who, until)
        VALUES ('jobs', %(replica)s, clock_timestamp() + %(lease_seconds)s * interval '1 second')
        ON CONFLICT (what) DO UPDATE SET who = excluded.who, until = excluded.until
        WHERE teller.who = excluded.who OR teller.until NOT BETWEEN clock_timestamp() AND excluded.until
        RETURNING what),
    counted AS (
        SELECT status::text AS status, count(*) AS jobs, min(status_since) AS since,
            count(*) FILTER (WHERE NOT launched) AS unlaunched,
            count(*) FILTER (WHERE status_since < now() - interval '{OVERDUE_SECONDS} seconds') AS overdue
        FROM video_analysis_jobs WHERE status = ANY(%(open)s::video_analysis_job_status[]) GROUP BY status
        UNION ALL
        SELECT status::text, count(*), NULL, 0, 0
        FROM video_analysis_jobs WHERE status = ANY(%(finished)s::video_analysis_job_status[]) GROUP BY status)
    SELECT counted.*, extract(epoch FROM clock_timestamp() - since) AS age_seconds,
        (SELECT count(*) FROM launches WHERE ended_at IS NULL) AS launches_open,
        (SELECT count(*) FROM video_analysis_jobs
            WHERE status = '{states.FAILED}' AND status_since > now() - interval '1 hour') AS failures,
        (SELECT extract(epoch FROM clock_timestamp() - min(created_at)) FROM events WHERE xid >= {OLDEST_RUNNING})
            AS outbox_seconds,
        (SELECT extract(epoch FROM clock_timestamp() - min(first.created_at)) FROM event_positions AS relay, LATERAL (
            SELECT created_at FROM events WHERE (xid, id) > (relay.xid, relay.id) ORDER BY xid, id LIMIT 1) AS first
            WHERE relay.name IN {RELAYS}) AS relay_seconds,
        ({LAG_SECONDS}) AS subscription_seconds,
        (SELECT extract(epoch FROM clock_timestamp() - min(due)) FROM (
            SELECT min(due) AS due FROM ({expiry.OVERDUE_UPLOADS}) AS uploads
            UNION ALL SELECT min(due) FROM ({expiry.OVERDUE_LEASES}) AS leases
            UNION ALL SELECT min(due) FROM ({expiry.UNSTARTED_IN_SILENCE}) AS unstarted
            UNION ALL SELECT min(due) FROM ({expiry.CANCELLED_IN_SILENCE}) AS cancelled) AS overdue) AS overdue_seconds
    FROM lease LEFT JOIN counted ON true
"""


class TableMetrics(Collector):
    """The gauges that were read last, while this replica is the exporter."""

    def __init__(self, database: Database, settings: JobsSettings) -> None:
        self._database = database
        self._interval_seconds = settings.gauge_seconds
        self._limits = {
            "ttl_seconds": settings.upload_ttl_seconds,
            "silence_seconds": settings.cluster_silence_seconds,
            "unproved_seconds": expiry.unproved_seconds(settings),
        }
        self._replica = uuid.uuid4()
        # One row a status; each also holds the totals, which `_totals` repeats. None: this replica is not the exporter.
        self._by_status: dict[str, Row] = {}
        self._totals: Row | None = None
        self._expires_at = self._recount_at = float("-inf")

    async def read(self) -> None:
        """Takes or renews the exporter's lease, and reads. If another replica holds it, nothing is exported."""
        started_at, lease_seconds = time.monotonic(), LEASE_INTERVALS * self._interval_seconds
        finished = [*states.SETTLED] if started_at >= self._recount_at else []
        async with self._database.transaction() as connection:
            values = {
                "replica": self._replica,
                "lease_seconds": lease_seconds,
                "open": [*_OPEN],
                "finished": finished,
                **self._limits,
            }
            rows = await connection.rows(_READ, commit=True, **values)
        by_status: dict[str, Row] = {row["status"]: row for row in rows if row["status"]}
        if finished:
            count = sum(row["jobs"] for status, row in by_status.items() if status in states.SETTLED)
            self._recount_at = started_at + count / FINISHED_PER_SECOND
        else:
            by_status |= {status: row for status, row in self._by_status.items() if status in states.SETTLED}
        self._by_status = by_status
        self._totals = rows[0] if rows else None
        self._expires_at = started_at + lease_seconds

    def collect(self) -> Iterator[Metric]:
        """Called by Prometheus's client, in a thread of its own."""
        by_status, totals = self._by_status, self._totals
        if totals and time.monotonic() < self._expires_at:
            yield from make_gauges(by_status, totals)


def make_gauges(by_status: dict[str, Row], totals: Row) -> Iterator[Metric]:
    """The gauges of each status, and of all jobs together."""
    jobs: dict[str, int] = {status: _count(by_status, status, "jobs") for status in states.STATUSES}
    yield _labelled("crease_jobs", "Jobs", jobs)
    ages: dict[str, float] = {
        status: _age(by_status, status) for status in states.STATUSES if status not in states.SETTLED
    }
    yield _labelled("crease_oldest_job_age_seconds", "Time that the oldest job has been in its status", ages)
    waiting = [_count(by_status, status, "unlaunched") for status in (states.AWAITING_UPLOAD, states.QUEUED)]
    for name, value, description in (
        (
            "awaiting_upload_overdue",
            _count(by_status, states.AWAITING_UPLOAD, "overdue"),
            "Jobs that have awaited their upload for over 5 minutes",
        ),
        ("failures_last_hour", totals["failures"], "Jobs that failed within the last hour"),
        ("launches_open", totals["launches_open"], "Launches that have not ended"),
        ("jobs_waiting", sum(waiting), "Jobs that await their upload, or are queued without an open launch"),
        ("jobs_final", sum(jobs[status] for status in states.SETTLED), "Jobs that are done, failed or cancelled"),
        ("outbox_lag_seconds", totals["outbox_seconds"], "Age of the oldest event that readers cannot see yet"),
        ("relay_lag_seconds", totals["relay_seconds"], "Age of the oldest event that the SQS relay has not sent"),
        (
            "subscription_lag_seconds",
            totals["subscription_seconds"],
            "Age of the oldest event that a service with a subscription has not acknowledged",
        ),
        ("overdue_seconds", totals["overdue_seconds"], "Time since the oldest upload or launch should have expired"),
    ):
        yield GaugeMetricFamily(f"crease_{name}", description, value=float(value or 0))


def _count(by_status: dict[str, Row], status: str, column: str) -> int:
    return int(by_status[status][column]) if status in by_status else 0


def _age(by_status: dict[str, Row], status: str) -> float:
    return float(by_status[status]["age_seconds"]) if status in by_status else 0.0


def _labelled(name: str, description: str, values: dict[str, float] | dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, description, labels=["status"])
    for status, value in values.items():
        family.add_metric([status], value)
    return family


class _PoolMetrics(Collector):
    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "crease_pool_sessions", "Sessions with PostgreSQL, and calls that wait for one", labels=["state"]
        )
        for state, value in self._database.sessions().items():
            family.add_metric([state], value)
        yield family


async def run(database: Database, settings: JobsSettings, loop: Loop, log: Logger) -> None:
    """Reads in a loop. If the database is unavailable, it tries again at the next interval."""
    table_metrics = TableMetrics(database, settings)
    for collector in (table_metrics, _PoolMetrics(database)):
        REGISTRY.register(collector)
    while True:
        try:
            async with loop.one_pass():
                await table_metrics.read()
        except Exception as error:
            if translate(error) is None:
                raise
            log.warning("table_metrics_not_read", error=logs.error_text(error))
        await asyncio.sleep(settings.gauge_seconds)
