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
from services.jobs.store.library import shares
from services.logs import Logger
from services.metrics import Loop

BATCH = 500
# The longest pause while nothing is due; a shorter ttl has a shorter one.
IDLE_SECONDS = 60.0


async def run(database: Database, settings: JobsSettings, loop: Loop, log: Logger) -> None:
    """Deletes in a loop. If the database is unavailable, it tries again at the next tick."""
    idle_seconds = max(settings.sweep_seconds, min(IDLE_SECONDS, settings.tombstone_ttl_seconds / 10))
    while True:
        jobs = sessions = 0
        try:
            async with loop.one_pass():
                jobs, sessions = await purge(database, settings.tombstone_ttl_seconds)
        except Exception as error:
            if translate(error) is None:
                raise
            log.warning("retention_postponed", error=logs.error_text(error))
        else:
            if jobs or sessions:
                log.info("tombstones_purged", jobs=jobs, sessions=sessions)
        await asyncio.sleep(settings.sweep_seconds if BATCH in (jobs, sessions) else idle_seconds)


async def purge(database: Database, ttl_seconds: float) -> tuple[int, int]:
    """Deletes at most BATCH jobs with their launches, and BATCH sessions without jobs. Returns the numbers of both.

    Deletes at most BATCH shares that have expired, too.
    """
    async with database.transaction() as connection:
        jobs = [row["id"] for row in await connection.rows(_DUE_JOBS, ttl_seconds=ttl_seconds)]
        if jobs:
            await connection.run("DELETE FROM launches WHERE job_id = ANY (%(ids)s)", ids=jobs)
            await connection.run("DELETE FROM video_analysis_jobs WHERE id = ANY (%(ids)s)", ids=jobs)
        sessions = [row["id"] for row in await connection.rows(_DUE_SESSIONS, ttl_seconds=ttl_seconds)]
        if sessions:
            await connection.run("DELETE FROM video_sessions WHERE id = ANY (%(ids)s)", ids=sessions)
        await shares.purge(connection, BATCH)
    return len(jobs), len(sessions)


_IS_DUE = "deleted_at < clock_timestamp() - %(ttl_seconds)s * interval '1 second'"
# `sweep_at` is null once S3 holds nothing of the job.
_DUE_JOBS = f"""
    SELECT id FROM video_analysis_jobs WHERE {_IS_DUE} AND sweep_at IS NULL AND NOT launched
    ORDER BY deleted_at LIMIT {BATCH} FOR UPDATE SKIP LOCKED
"""
_DUE_SESSIONS = f"""
    SELECT id FROM video_sessions AS session WHERE {_IS_DUE} AND undo_until IS NULL
      AND NOT EXISTS (SELECT FROM video_analysis_jobs WHERE session_id = session.id)
    ORDER BY deleted_at LIMIT {BATCH} FOR UPDATE SKIP LOCKED
"""
