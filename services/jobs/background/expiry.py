"""Expires overdue uploads, launches and events, by the database's clock.

| row                                                       | becomes                          |
|-----------------------------------------------------------|----------------------------------|
| job that awaits its upload longer than upload_ttl_seconds | failed, UPLOAD_EXPIRED           |
| launch whose lease has expired                            | ended, lease_lost                |
| unstarted launch of a cluster silent for too long         | ended, lease_lost                |
| launch of such a cluster whose job is being cancelled     | after a longer time, cancelled   |
| time that the clock has left far behind, after a leap     | the latest time that is possible |
| deletion that can no longer be undone                     | without personal data            |
| event older than event_ttl_seconds, passed by all readers | deleted                          |

Every replica runs this: the first to lock a row changes it, in a transaction of its own, and skips rows that another
transaction holds.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from services import logs
from services.jobs.domain import states
from services.jobs.domain.explanation import UNPROVED
from services.jobs.domain.records import Ending
from services.jobs.notifier import Notifier
from services.jobs.settings import JobsSettings
from services.jobs.store import jobs, launches
from services.jobs.store.database import Connection, Database, Row, translate
from services.jobs.store.events import outbox
from services.jobs.store.library import undo
from services.logs import Logger
from services.metrics import Loop

# The most rows that one pass expires, and the most that it looks at.
BATCH, FOUND = 100, 1000
# A relay that lags further is logged, and so are rows that stay locked, at this interval.
MAX_LAG_SECONDS = 60.0
WARN_SECONDS = 60.0
# The most jobs that one line names.
NAMED = 5


@dataclass(frozen=True, slots=True)
class Expired:
    """How many rows expired, and the jobs whose overdue rows another transaction held."""

    count: int
    skipped: frozenset[UUID]


async def run(database: Database, settings: JobsSettings, notifier: Notifier, loop: Loop, log: Logger) -> None:
    """Expires in a loop. If the database is unavailable, it tries again at the next tick."""
    warnings = _Warnings(log)
    while True:
        try:
            async with loop.one_pass():
                await bound_leaps(database, settings.lease_seconds)
                uploads = await expire_uploads(database, settings.upload_ttl_seconds)
                leases = await end_expired_leases(database)
                silent = await end_launches_of_silent_clusters(database, settings.cluster_silence_seconds)
                unproved = await end_unproved_cancels(database, settings)
                erased = await erase_deleted(database)
                purged = await purge_events(database, settings.event_ttl_seconds)
                lag_seconds = await relay_lag_seconds(database)
        except Exception as error:
            if translate(error) is None:
                raise
            log.warning("expiry_postponed", error=logs.error_text(error))
        else:
            lost = leases.count + silent.count + unproved.count
            if uploads.count or lost:
                log.info("expired", uploads_expired=uploads.count, launches_lost=lost)
            if erased:
                log.info("deletions_final", rows=erased)
            if purged:
                log.info("events_purged", events=purged)
            warnings.relay_lag(lag_seconds)
            warnings.skipped(uploads.skipped | leases.skipped | silent.skipped | unproved.skipped)
            # Also if nothing expired: these transactions delayed newer events, which readers can read now.
            notifier.notify()
        await asyncio.sleep(settings.sweep_seconds)


class _Warnings:
    """Warns at most every WARN_SECONDS of each matter."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._lag_at = self._skipped_at = float("-inf")
        self._skipped = frozenset[UUID]()

    def relay_lag(self, lag_seconds: float) -> None:
        """Warns that the SQS relay lags: no relay runs, or SQS is unavailable. Its events are not purged."""
        if lag_seconds >= MAX_LAG_SECONDS and time.monotonic() - self._lag_at >= WARN_SECONDS:
            self._lag_at = time.monotonic()
            self._log.warning("sqs_relay_lagging", relay_lag_seconds=round(lag_seconds))

    def skipped(self, skipped: frozenset[UUID]) -> None:
        """Warns of jobs that two passes have skipped. One pass may meet another replica's."""
        twice, self._skipped = skipped & self._skipped, skipped
        if twice and time.monotonic() - self._skipped_at >= WARN_SECONDS:
            self._skipped_at = time.monotonic()
            named = sorted(map(str, twice))[:NAMED]
            self._log.warning("expiry_skipped", jobs=len(twice), job_ids=named, why="another transaction holds the row")


async def relay_lag_seconds(database: Database) -> float:
    """The age of the oldest event that the relay has not sent; 0 if no relay has ever run."""
    async with database.transaction() as connection:
        return await outbox.relay_lag_seconds(connection)


async def purge_events(database: Database, ttl_seconds: float) -> int:
    """Deletes events older than `ttl_seconds`. Returns how many."""
    async with database.transaction() as connection:
        return await outbox.purge(connection, ttl_seconds)


async def erase_deleted(database: Database) -> int:
    """Erases what people wrote and what was measured from rows whose deletion is final by now. Returns how many."""
    async with database.transaction() as connection:
        return await undo.erase(connection)


async def bound_leaps(database: Database, lease_seconds: float) -> None:
    """Shortens leases, and times of clusters' calls, that lie too far in the future: the clock leapt back."""
    async with database.transaction() as connection:
        connection.pipeline(_BOUND_LEASES, lease_seconds=lease_seconds)
        await connection.run(_BOUND_CLUSTERS, commit=True)


# A pod that lives renews its lease long before it ends.
_BOUND_LEASES = """
    UPDATE launches SET lease_expires_at = clock_timestamp() + %(lease_seconds)s * interval '1 second'
    WHERE (job_id, launch_no) IN (
        SELECT job_id, launch_no FROM launches
        WHERE ended_at IS NULL AND lease_expires_at > clock_timestamp() + 2 * %(lease_seconds)s * interval '1 second'
        FOR UPDATE SKIP LOCKED)
"""
_BOUND_CLUSTERS = """
    UPDATE clusters SET seen_at = clock_timestamp() WHERE name IN (
        SELECT name FROM clusters WHERE seen_at > clock_timestamp() + interval '1 second' FOR UPDATE SKIP LOCKED)
"""


async def expire_uploads(database: Database, ttl_seconds: float) -> Expired:
    """Fails jobs that have awaited their upload longer than `ttl_seconds`."""
    return await _expire(database, OVERDUE_UPLOADS, "job", _expire_upload, ttl_seconds=ttl_seconds)


OVERDUE_UPLOADS = f"""
    SELECT job.id AS job_id, job.created_at + %(ttl_seconds)s * interval '1 second' AS due
    FROM video_analysis_jobs AS job
    WHERE job.status = '{states.AWAITING_UPLOAD}'
      AND job.created_at < clock_timestamp() - %(ttl_seconds)s * interval '1 second'
"""


async def _expire_upload(connection: Connection, key: Row) -> None:
    job = await jobs.get(connection, key["job_id"])
    message = "Upload verification failed: no video was uploaded in time"
    await jobs.move(connection, job, states.FAILED, failure_code="UPLOAD_EXPIRED", error_message=message)


async def end_expired_leases(database: Database) -> Expired:
    """Ends launches whose lease has expired, except those of jobs that are being cancelled.

    While a job is being cancelled, the controller must prove that nothing runs; an expired lease proves nothing.
    """
    end = partial(_end_launch, message="The analyzer {launch.pod_name} did not renew its lease in time")
    return await _expire(database, OVERDUE_LEASES, "job, launch", end)


OVERDUE_LEASES = """
    SELECT job.id AS job_id, launch.launch_no, launch.lease_expires_at AS due FROM launches AS launch
    JOIN video_analysis_jobs AS job ON job.id = launch.job_id
    WHERE launch.ended_at IS NULL AND launch.lease_expires_at < clock_timestamp() AND job.cancel_requested_at IS NULL
"""


async def end_launches_of_silent_clusters(database: Database, silence_seconds: float) -> Expired:
    """Ends unstarted launches of clusters whose controller has been silent for `silence_seconds`.

    A pod that starts there later is rejected with LAUNCH_ENDED.
    """
    end = partial(_end_launch, message="The controller of cluster {launch.cluster} did not report in time")
    return await _expire(database, UNSTARTED_IN_SILENCE, "job, launch", end, silence_seconds=silence_seconds)


UNSTARTED_IN_SILENCE = """
    SELECT job.id AS job_id, launch.launch_no,
        greatest(launch.opened_at, cluster.seen_at + %(silence_seconds)s * interval '1 second') AS due
    FROM clusters AS cluster
    JOIN launches AS launch ON launch.cluster = cluster.name JOIN video_analysis_jobs AS job ON job.id = launch.job_id
    WHERE cluster.seen_at < clock_timestamp() - %(silence_seconds)s * interval '1 second'
      AND launch.ended_at IS NULL AND launch.lease_expires_at IS NULL AND job.cancel_requested_at IS NULL
"""


async def end_unproved_cancels(database: Database, settings: JobsSettings) -> Expired:
    """Cancels jobs on clusters that have been silent for much longer, without proof that nothing runs there.

    A controller that comes back later deletes what still runs: its launch is not open.
    """
    message = f"{UNPROVED}: the controller of cluster {{launch.cluster}} did not report any more"
    end = partial(_end_launch, message=message, ending=Ending.CANCELLED)
    return await _expire(
        database, CANCELLED_IN_SILENCE, "job, launch", end, unproved_seconds=unproved_seconds(settings)
    )


def unproved_seconds(settings: JobsSettings) -> float:
    """The silence of a cluster after which its cancels end."""
    return settings.cluster_silence_seconds + settings.unproved_cancel_seconds


CANCELLED_IN_SILENCE = """
    SELECT job.id AS job_id, launch.launch_no, cluster.seen_at + %(unproved_seconds)s * interval '1 second' AS due
    FROM clusters AS cluster
    JOIN launches AS launch ON launch.cluster = cluster.name JOIN video_analysis_jobs AS job ON job.id = launch.job_id
    WHERE cluster.seen_at < clock_timestamp() - %(unproved_seconds)s * interval '1 second'
      AND launch.ended_at IS NULL AND job.cancel_requested_at IS NOT NULL
"""


async def _end_launch(connection: Connection, key: Row, message: str, ending: Ending = Ending.LEASE_LOST) -> None:
    job, launch = await launches.get_for_update(connection, str(key["job_id"]), key["launch_no"])
    await launches.end(connection, job, launch, ending, message.format(launch=launch))


async def _expire(
    database: Database, overdue: str, locked: str, expire: Callable[[Connection, Row], Awaitable[None]], **values: Any
) -> Expired:
    """Expires the rows that `overdue` selects, each in a transaction of its own: first those overdue for longest.

    `locked`: the tables whose rows it locks. A row that another transaction holds delays no other row.
    """
    async with database.transaction() as connection:
        found = await connection.rows(f"{overdue} ORDER BY due LIMIT {FOUND}", commit=True, **values)
    count, skipped = 0, set[UUID]()
    one = f"{overdue} AND job.id = %(job_id)s"
    for key in found:
        async with database.transaction() as connection:
            values["job_id"] = key["job_id"]
            # The condition is checked again under the lock.
            row = await connection.row(f"{one} FOR UPDATE OF {locked} SKIP LOCKED", **values)
            if row is not None:
                await expire(connection, row)
                count += 1
            elif await connection.row(one, **values) is not None:
                skipped.add(key["job_id"])
        if count == BATCH:
            break
    return Expired(count, frozenset(skipped))
