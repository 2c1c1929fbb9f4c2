"""What all jobs together are at, read from the database by one replica at a time.

    nobody tells, or not for TURN intervals ──▶ we tell: read, each interval ──▶ another tells, once we are silent

The replica that tells is written down in a row: a lock of a session would not outlive a pooler. One that can't read for
that long tells nothing any more, since another may.

What is open is read each time. What rests is nearly all of a large table, and counting it goes through an index from
end to end: the more there is, the more seldom it is done, and what was counted last is told meanwhile.
"""

import asyncio
import time
import uuid
from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services import logs, metrics
from services.jobs.domain import states
from services.jobs.store.database import Database, Row, translate
from services.jobs.store.outbox import RELAY, SETTLED
from services.logs import Logger

TURN = 3
OVERDUE_SECONDS = 300
# As many of what rests are counted in a second, over time: about 0.2 % of a core.
RESTING_PER_SECOND = 10_000

# In these a job stays.
_RESTING = (states.DONE, states.FAILED, states.CANCELLED)
_OPEN = tuple(status for status in states.STATUSES if status not in _RESTING)
_READ = f"""
    WITH turn AS (
        INSERT INTO tellers AS teller (what, who, until)
        VALUES ('jobs', %(me)s, clock_timestamp() + %(turn_seconds)s * interval '1 second')
        ON CONFLICT (what) DO UPDATE SET who = excluded.who, until = excluded.until
        WHERE teller.who = excluded.who OR teller.until < clock_timestamp() RETURNING what),
    counted AS (
        SELECT status::text AS status, count(*) AS jobs, min(status_since) AS since,
            count(*) FILTER (WHERE NOT launched) AS unlaunched,
            count(*) FILTER (WHERE status_since < now() - interval '{OVERDUE_SECONDS} seconds') AS overdue
        FROM video_analysis_jobs WHERE status = ANY(%(open)s::video_analysis_job_status[]) GROUP BY status
        UNION ALL
        SELECT status::text, count(*), NULL, 0, 0
        FROM video_analysis_jobs WHERE status = ANY(%(resting)s::video_analysis_job_status[]) GROUP BY status)
    SELECT counted.*, extract(epoch FROM clock_timestamp() - since) AS age_seconds,
        (SELECT count(*) FROM launches WHERE ended_at IS NULL) AS launches_open,
        (SELECT count(*) FROM video_analysis_jobs
            WHERE status = '{states.FAILED}' AND status_since > now() - interval '1 hour') AS failures,
        (SELECT extract(epoch FROM clock_timestamp() - min(created_at)) FROM events WHERE xid >= {SETTLED})
            AS outbox_seconds,
        (SELECT extract(epoch FROM clock_timestamp() - first.created_at) FROM event_positions AS relay, LATERAL (
            SELECT created_at FROM events WHERE (xid, id) > (relay.xid, relay.id) ORDER BY xid, id LIMIT 1) AS first
            WHERE relay.name = '{RELAY}') AS relay_seconds
    FROM turn LEFT JOIN counted ON true
"""


class Gauges(Collector):
    """What was read last, for as long as it is ours to tell."""

    def __init__(self, database: Database, every_seconds: float) -> None:
        self._database = database
        self._every_seconds = every_seconds
        self._me = uuid.uuid4()
        # By status; and one of them, for what is said of all jobs. None: it is not ours to tell.
        self._counted: dict[str, Row] = {}
        self._of_all: Row | None = None
        self._until = self._rests_until = float("-inf")

    async def read(self) -> None:
        """Takes or keeps the turn, and reads; without it, tells nothing."""
        asked_at, turn_seconds = time.monotonic(), TURN * self._every_seconds
        resting = [*_RESTING] if asked_at >= self._rests_until else []
        async with self._database.transaction() as connection:
            values = {"me": self._me, "turn_seconds": turn_seconds, "open": [*_OPEN], "resting": resting}
            rows = await connection.rows(_READ, last=True, **values)
        counted: dict[str, Row] = {row["status"]: row for row in rows if row["status"]}
        if resting:
            count = sum(row["jobs"] for status, row in counted.items() if status in _RESTING)
            self._rests_until = asked_at + count / RESTING_PER_SECOND
        else:
            counted |= {status: row for status, row in self._counted.items() if status in _RESTING}
        self._counted = counted
        self._of_all = rows[0] if rows else None
        self._until = asked_at + turn_seconds

    def collect(self) -> Iterator[Metric]:
        """For Prometheus, in a thread of its own."""
        counted, of_all = self._counted, self._of_all
        if of_all and time.monotonic() < self._until:
            yield from told(counted, of_all)


def told(by_status: dict[str, Row], of_all: Row) -> Iterator[Metric]:
    """The gauges: of each status, of some of them, and of all that is open."""
    jobs = {status: _count(by_status, status, "jobs") for status in states.STATUSES}
    yield _labelled("crease_jobs", "Jobs", jobs)
    ages = {status: _age(by_status, status) for status in states.STATUSES if status not in _RESTING}
    yield _labelled("crease_oldest_job_age_seconds", "How long the oldest job is in its status", ages)
    waiting = [_count(by_status, status, "unlaunched") for status in (states.AWAITING_UPLOAD, states.QUEUED)]
    for name, value, words in (
        ("awaiting_upload_overdue", _count(by_status, states.AWAITING_UPLOAD, "overdue"), "Uploads awaited over 5 min"),
        ("failures_last_hour", of_all["failures"], "Jobs that failed within an hour"),
        ("launches_open", of_all["launches_open"], "Launches that have not ended"),
        ("jobs_waiting", sum(waiting), "Jobs that await their upload, or are queued and have no open launch"),
        ("jobs_final", sum(jobs[status] for status in _RESTING), "Jobs that are done, failed or cancelled"),
        ("outbox_lag_seconds", of_all["outbox_seconds"], "How long the oldest event waits that readers must not see"),
        ("relay_lag_seconds", of_all["relay_seconds"], "How long the oldest event waits for the relay to SQS"),
    ):
        yield GaugeMetricFamily(f"crease_{name}", words, value=float(value or 0))


def _count(by_status: dict[str, Row], status: str, column: str) -> int:
    return int(by_status[status][column]) if status in by_status else 0


def _age(by_status: dict[str, Row], status: str) -> float:
    return float(by_status[status]["age_seconds"]) if status in by_status else 0.0


def _labelled(name: str, words: str, values: dict[str, float] | dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=["status"])
    for status, value in values.items():
        family.add_metric([status], value)
    return family


class _Pool(Collector):
    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("crease_pool_sessions", "Sessions with PostgreSQL, and who waits", labels=["state"])
        for state, value in self._database.sessions().items():
            family.add_metric([state], value)
        yield family


async def run(database: Database, every_seconds: float, log: Logger) -> None:
    """Reads for ever, if anybody may hear of it. A database that is away is asked again at the next interval."""
    if not metrics.is_on():
        return
    gauges = Gauges(database, every_seconds)
    for collector in (gauges, _Pool(database)):
        REGISTRY.register(collector)
    while True:
        try:
            await gauges.read()
        except Exception as error:
            if translate(error) is None:
                raise
            log.warning("gauges not read", error=logs.error_text(error))
        await asyncio.sleep(every_seconds)
