"""Deletes the rows of deleted sessions and jobs, once S3 holds nothing of them and their time has passed.

deleted ─▶ tombstone without personal data ─▶ (S3 is empty, tombstone_ttl_seconds have passed) ─▶ no row

A deletion removes texts and results of people at once (`sessions.delete`, `object_cleanup.delete`). The tombstone keeps
ids and times, so that cleanup finds the objects, and a repeated request_id its job. Every replica deletes in small
batches; a batch skips rows that another one has locked.
"""

import asyncio

from services import logs
from services.jobs.settings import JobsSettings
from services.jobs.store.database import Database, translate
from services.logs import Logger

BATCH = 500


async def run(database: Database, settings: JobsSettings, log: Logger) -> None:
    """Deletes in a loop. If the database is unavailable, it tries again at the next tick."""
    while True:
        try:
            jobs, sessions = await purge(database, settings.tombstone_ttl_seconds)
        except Exception as error:
            if translate(error) is None:
                raise
            log.warning("retention_postponed", error=logs.error_text(error))
        else:
            if jobs or sessions:
                log.info("tombstones_purged", jobs=jobs, sessions=sessions)
        await asyncio.sleep(settings.sweep_seconds)


async def purge(database: Database, ttl_seconds: float) -> tuple[int, int]:
    """Deletes at most BATCH jobs with their launches, and BATCH sessions without jobs. Returns the numbers of both."""
    async with database.transaction() as connection:
        jobs = await connection.run(_PURGE_JOBS, ttl_seconds=ttl_seconds)
        sessions = await connection.run(_PURGE_SESSIONS, ttl_seconds=ttl_seconds, commit=True)
    return jobs, sessions


# `sweep_at` is null once S3 holds nothing of the job.
_PURGE_JOBS = f"""
    WITH due AS (
        SELECT id FROM video_analysis_jobs
        WHERE deleted_at < clock_timestamp() - %(ttl_seconds)s * interval '1 second'
          AND sweep_at IS NULL AND NOT launched
        ORDER BY deleted_at LIMIT {BATCH} FOR UPDATE SKIP LOCKED),
    of_jobs AS (DELETE FROM launches USING due WHERE launches.job_id = due.id)
    DELETE FROM video_analysis_jobs AS job USING due WHERE job.id = due.id
"""
_PURGE_SESSIONS = f"""
    WITH due AS (
        SELECT id FROM video_sessions AS session
        WHERE deleted_at < clock_timestamp() - %(ttl_seconds)s * interval '1 second'
          AND NOT EXISTS (SELECT FROM video_analysis_jobs WHERE session_id = session.id)
        ORDER BY deleted_at LIMIT {BATCH} FOR UPDATE SKIP LOCKED)
    DELETE FROM video_sessions AS session USING due WHERE session.id = due.id
"""
