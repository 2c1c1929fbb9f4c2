"""What time does to jobs, by the database's clock: uploads that never came expire, leases not renewed are lost, and so
are launches that wait in a cluster nobody hears of.

Safe on many replicas: each row is taken by whoever locks it first, and checked again under the lock.
"""

import asyncio
import time

from services import errors, logs
from services.jobs.domain import states
from services.jobs.notifier import Bell
from services.jobs.settings import JobsSettings
from services.jobs.store import jobs, launches, outbox
from services.jobs.store.database import Database, Row, translate
from services.logs import Logger

BATCH = 100
# A relay further behind than this is told of, this often.
BEHIND_SECONDS = 60.0
TELL_SECONDS = 60.0


async def run(database: Database, settings: JobsSettings, bell: Bell, log: Logger) -> None:
    """Sweeps for ever. A database that is away is tried again at the next tick."""
    told = float("-inf")
    while True:
        try:
            expired = await expire_uploads(database, settings.upload_ttl_seconds)
            lost = await end_lost_leases(database) + await end_stranded(database, settings.cluster_silence_seconds)
            purged = await purge_events(database, settings.event_ttl_seconds)
            behind = await relay_behind_seconds(database)
        except Exception as error:
            if translate(error) is None:
                raise
            log.warning("sweep put off", error=logs.error_text(error))
        else:
            if expired or lost:
                log.info("swept", uploads_expired=expired, launches_lost=lost)
            if purged:
                log.info("purged", events=purged)
            told = _tell_of_relay(log, behind, told)
            # Also where nothing was found: while it looked, its transactions held events back from their readers.
            bell.ring()
        await asyncio.sleep(settings.sweep_seconds)


def _tell_of_relay(log: Logger, behind_seconds: float, told: float) -> float:
    """Warns now and then of a relay that is behind: none runs, or SQS is away. Returns when it was told of last."""
    if behind_seconds < BEHIND_SECONDS or time.monotonic() - told < TELL_SECONDS:
        return told
    log.warning("the SQS relay is behind, and events are kept for it", relay_behind_seconds=round(behind_seconds))
    return time.monotonic()


async def relay_behind_seconds(database: Database) -> float:
    """How long the oldest event that the relay has not passed has waited; 0 where there never was a relay."""
    async with database.transaction() as connection:
        return await outbox.behind_seconds(connection, outbox.RELAY)


async def purge_events(database: Database, ttl_seconds: float) -> int:
    """Deletes events that are older than they are kept. Returns how many."""
    async with database.transaction() as connection:
        return await outbox.purge(connection, ttl_seconds)


async def expire_uploads(database: Database, ttl_seconds: float) -> int:
    """Fails jobs that have awaited their upload for too long. Returns how many."""
    async with database.transaction() as connection:
        rows = await connection.rows(_LOCK_EXPIRED, ttl_seconds=ttl_seconds)
        for job in rows:
            message = "Upload verification failed: no video was uploaded in time"
            await jobs.move(connection, job, states.FAILED, failure_code="UPLOAD_EXPIRED", error_message=message)
        return len(rows)


_LOCK_EXPIRED = f"""
    SELECT * FROM video_analysis_jobs
    WHERE status = '{states.AWAITING_UPLOAD}' AND created_at < clock_timestamp() - %(ttl_seconds)s * interval '1 second'
    LIMIT {BATCH} FOR UPDATE SKIP LOCKED
"""


async def end_lost_leases(database: Database) -> int:
    """Ends launches whose pod has not renewed its lease in time, unless they are being cancelled. Returns how many."""
    async with database.transaction() as connection:
        rows = await connection.rows(_OVERDUE)
    return sum([await _end_if_lost(database, row, "The analyzer {pod_name} was not heard of in time") for row in rows])


_OVERDUE = f"""
    SELECT launches.job_id, launches.launch_no FROM launches
    JOIN video_analysis_jobs AS job ON job.id = launches.job_id
    WHERE launches.ended_at IS NULL AND launches.lease_expires_at < clock_timestamp()
      AND job.cancel_requested_at IS NULL LIMIT {BATCH}
"""


async def end_stranded(database: Database, silence_seconds: float) -> int:
    """Ends launches that no pod has started, in clusters that were silent for so long. Returns how many.

    A pod that comes to life there after all is refused: its launch is over.
    """
    async with database.transaction() as connection:
        rows = await connection.rows(_STRANDED, silence_seconds=silence_seconds)
    return sum([await _end_if_lost(database, row, "The cluster {cluster} was not heard of in time") for row in rows])


_STRANDED = f"""
    SELECT launches.job_id, launches.launch_no FROM clusters
    JOIN launches ON launches.cluster = clusters.name JOIN video_analysis_jobs AS job ON job.id = launches.job_id
    WHERE clusters.seen_at < clock_timestamp() - %(silence_seconds)s * interval '1 second'
      AND launches.ended_at IS NULL AND launches.lease_expires_at IS NULL AND job.cancel_requested_at IS NULL
    LIMIT {BATCH}
"""


async def _end_if_lost(database: Database, key: Row, message: str) -> bool:
    async with database.transaction() as connection:
        try:
            job, launch = await launches.lock(connection, str(key["job_id"]), key["launch_no"])
        except errors.NotFound:
            return False  # deleted since it was seen
        # Of what is being cancelled the controller must prove that it is gone; silence proves nothing.
        if launch["is_leased"] or launch["ended_at"] is not None or job["cancel_requested_at"] is not None:
            return False
        await launches.end(connection, job, launch, "lease_lost", message.format_map(launch))
        return True
