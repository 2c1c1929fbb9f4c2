"""Expires overdue uploads, launches and events, by the database's clock.

| row                                                       | becomes                          |
|-----------------------------------------------------------|----------------------------------|
| job that awaits its upload longer than upload_ttl_seconds | failed, UPLOAD_EXPIRED           |
| launch whose lease has expired                            | ended, lease_lost                |
| unstarted launch of a cluster silent for too long         | ended, lease_lost                |
| launch of such a cluster whose job is being cancelled      | after a longer time, cancelled   |
| event older than event_ttl_seconds, passed by all readers | deleted                          |

Every replica runs this: the first to lock a row changes it, and checks the row again under the lock.
"""

import asyncio
import time
from typing import Any

from services import errors, logs
from services.jobs.domain import states
from services.jobs.domain.records import Ending
from services.jobs.notifier import Notifier
from services.jobs.settings import JobsSettings
from services.jobs.store import cancellation, jobs, launches, outbox
from services.jobs.store.database import Database, Row, translate
from services.jobs.store.rows import read_job
from services.logs import Logger

BATCH = 100
# A relay that lags further is logged, at this interval.
MAX_LAG_SECONDS = 60.0
WARN_SECONDS = 60.0


async def run(database: Database, settings: JobsSettings, notifier: Notifier, log: Logger) -> None:
    """Expires in a loop. If the database is unavailable, it tries again at the next tick."""
    warned_at = float("-inf")
    while True:
        try:
            expired = await expire_uploads(database, settings.upload_ttl_seconds)
            lost = await end_expired_leases(database)
            lost += await end_launches_of_silent_clusters(database, settings.cluster_silence_seconds)
            lost += await end_unproved_cancels(database, settings)
            purged = await purge_events(database, settings.event_ttl_seconds)
            lag_seconds = await relay_lag_seconds(database)
        except Exception as error:
            if translate(error) is None:
                raise
            log.warning("expiry_postponed", error=logs.error_text(error))
        else:
            if expired or lost:
                log.info("expired", uploads_expired=expired, launches_lost=lost)
            if purged:
                log.info("events_purged", events=purged)
            warned_at = _warn_of_relay_lag(log, lag_seconds, warned_at)
            # Also if nothing expired: these transactions delayed newer events, which readers can read now.
            notifier.notify()
        await asyncio.sleep(settings.sweep_seconds)


def _warn_of_relay_lag(log: Logger, lag_seconds: float, warned_at: float) -> float:
    """Warns at most every WARN_SECONDS that the SQS relay lags: no relay runs, or SQS is unavailable.

    Returns the time of the last warning. Events are not purged until the relay has sent them.
    """
    if lag_seconds < MAX_LAG_SECONDS or time.monotonic() - warned_at < WARN_SECONDS:
        return warned_at
    log.warning("sqs_relay_lagging", relay_lag_seconds=round(lag_seconds))
    return time.monotonic()


async def relay_lag_seconds(database: Database) -> float:
    """The age of the oldest event that the relay has not sent; 0 if no relay has ever run."""
    async with database.transaction() as connection:
        return await outbox.lag_seconds(connection, outbox.RELAY)


async def purge_events(database: Database, ttl_seconds: float) -> int:
    """Deletes events older than `ttl_seconds`. Returns how many."""
    async with database.transaction() as connection:
        return await outbox.purge(connection, ttl_seconds)


async def expire_uploads(database: Database, ttl_seconds: float) -> int:
    """Fails jobs that have awaited their upload longer than `ttl_seconds`. Returns how many."""
    async with database.transaction() as connection:
        overdue = await connection.records(read_job, _LOCK_EXPIRED, ttl_seconds=ttl_seconds)
        for job in overdue:
            message = "Upload verification failed: no video was uploaded in time"
            await jobs.move(connection, job, states.FAILED, failure_code="UPLOAD_EXPIRED", error_message=message)
        return len(overdue)


_LOCK_EXPIRED = f"""
    SELECT * FROM video_analysis_jobs
    WHERE status = '{states.AWAITING_UPLOAD}' AND created_at < clock_timestamp() - %(ttl_seconds)s * interval '1 second'
    LIMIT {BATCH} FOR UPDATE SKIP LOCKED
"""


async def end_expired_leases(database: Database) -> int:
    """Ends launches whose lease has expired, except those of jobs that are being cancelled. Returns how many."""
    return await _end_launches(
        database, _EXPIRED_LEASES, "The analyzer {launch.pod_name} did not renew its lease in time"
    )


_EXPIRED_LEASES = f"""
    SELECT launches.job_id, launches.launch_no FROM launches
    JOIN video_analysis_jobs AS job ON job.id = launches.job_id
    WHERE launches.ended_at IS NULL AND launches.lease_expires_at < clock_timestamp()
      AND job.cancel_requested_at IS NULL LIMIT {BATCH}
"""


async def end_launches_of_silent_clusters(database: Database, silence_seconds: float) -> int:
    """Ends unstarted launches of clusters whose controller has been silent for `silence_seconds`. Returns how many.

    A pod that starts there later is rejected with LAUNCH_ENDED.
    """
    message = "The controller of cluster {launch.cluster} did not report in time"
    return await _end_launches(database, _UNSTARTED_IN_SILENCE, message, silence_seconds=silence_seconds)


_UNSTARTED_IN_SILENCE = f"""
    SELECT launches.job_id, launches.launch_no FROM clusters
    JOIN launches ON launches.cluster = clusters.name JOIN video_analysis_jobs AS job ON job.id = launches.job_id
    WHERE clusters.seen_at < clock_timestamp() - %(silence_seconds)s * interval '1 second'
      AND launches.ended_at IS NULL AND launches.lease_expires_at IS NULL AND job.cancel_requested_at IS NULL
    LIMIT {BATCH}
"""


async def end_unproved_cancels(database: Database, settings: JobsSettings) -> int:
    """Cancels jobs on clusters that have been silent for much longer. Returns how many."""
    async with database.transaction() as connection:
        silence_seconds = settings.cluster_silence_seconds + settings.unproved_cancel_seconds
        return await cancellation.end_unproved(connection, silence_seconds)


async def _end_launches(database: Database, statement: str, message: str, **values: Any) -> int:
    """Ends the launches that a statement finds, each in a transaction of its own. Returns how many."""
    async with database.transaction() as connection:
        keys = await connection.rows(statement, **values)
    return sum([await _end_launch(database, key, message) for key in keys])


async def _end_launch(database: Database, key: Row, message: str) -> bool:
    async with database.transaction() as connection:
        try:
            job, launch = await launches.get_for_update(connection, str(key["job_id"]), key["launch_no"])
        except errors.NotFound:
            return False  # deleted since the query
        # While a job is being cancelled, the controller must prove that nothing runs; an expired lease proves nothing.
        if launch.is_leased or launch.ended_at is not None or job.cancel_requested_at is not None:
            return False
        await launches.end(connection, job, launch, Ending.LEASE_LOST, message.format(launch=launch))
        return True
