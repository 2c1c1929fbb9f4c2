"""What time does to jobs, by the database's clock: uploads that never came expire, leases not renewed are lost.

Safe on many replicas: each row is taken by whoever locks it first, and checked again under the lock.
"""

import asyncio
from datetime import timedelta

import sqlalchemy as sa

from services.jobs import events, jobs, launches, states
from services.jobs.bell import Bell
from services.jobs.database import Database, translate
from services.jobs.schema import jobs as job_table
from services.jobs.schema import launches as launch_table
from services.jobs.settings import JobsSettings
from services.logs import Logger

BATCH = 100
_now = sa.func.clock_timestamp()


async def run(database: Database, settings: JobsSettings, bell: Bell, log: Logger) -> None:
    """Sweeps for ever. A database that is away is tried again at the next tick."""
    while True:
        try:
            expired = await expire_uploads(database, settings.upload_ttl_seconds)
            lost = await end_lost_leases(database)
            purged = await purge_events(database, settings.event_ttl_seconds)
        except Exception as error:
            if translate(error) is None:
                raise
            log.warning("sweep put off", error=str(error).splitlines()[0])
        else:
            if expired or lost:
                log.info("swept", uploads_expired=expired, leases_lost=lost)
                bell.ring()
            if purged:
                log.info("purged", events=purged)
        await asyncio.sleep(settings.sweep_seconds)


async def purge_events(database: Database, ttl_seconds: float) -> int:
    """Deletes events that are older than they are kept. Returns how many."""
    async with database.transaction() as connection:
        return await events.purge(connection, ttl_seconds)


async def expire_uploads(database: Database, ttl_seconds: float) -> int:
    """Fails jobs that have awaited their upload for too long. Returns how many."""
    async with database.transaction() as connection:
        old = (
            sa.select(job_table)
            .where(job_table.c.status == states.AWAITING_UPLOAD)
            .where(job_table.c.created_at < _now - timedelta(seconds=ttl_seconds))
            .limit(BATCH)
            .with_for_update(skip_locked=True)
        )
        rows = list((await connection.execute(old)).mappings())
        for job in rows:
            message = "Upload verification failed: no video was uploaded in time"
            await jobs.move(connection, job, states.FAILED, failure_code="UPLOAD_EXPIRED", error_message=message)
        return len(rows)


async def end_lost_leases(database: Database) -> int:
    """Ends launches whose pod has not renewed its lease in time, unless they are being cancelled. Returns how many."""
    overdue = launch_table.c.ended_at.is_(None) & (launch_table.c.lease_expires_at < _now)
    async with database.transaction() as connection:
        wanted = job_table.c.cancel_requested_at.is_(None)
        found = sa.select(launch_table.c.job_id, launch_table.c.launch_no).join(job_table).where(overdue, wanted)
        rows = list((await connection.execute(found.limit(BATCH))).mappings())
    return sum([await _end_if_lost(database, row) for row in rows])


async def _end_if_lost(database: Database, key: sa.RowMapping) -> bool:
    async with database.transaction() as connection:
        job = await jobs.get(connection, key["job_id"], lock=True)
        launch = await launches.get(connection, key["job_id"], key["launch_no"])
        # Of what is being cancelled the controller must prove that it is gone; silence proves nothing.
        if launch["is_leased"] or launch["ended_at"] is not None or job["cancel_requested_at"] is not None:
            return False
        message = f"The analyzer {launch['pod_name']} was not heard of in time"
        await launches.end(connection, job, launch, "lease_lost", message)
        return True
