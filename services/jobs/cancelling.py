"""Cancelling a job: asked for by a person, final only when the controller has proved that nothing of it runs.

    no open launch ───────────────────────────────────────────────────────────────▶ cancelled
    an open launch ─▶ asked for ─▶ deleted, and nothing lives under its name (EndLaunch) ─▶ cancelled

From the moment it is asked for, the launch can't be started and its lease writes nothing more.
"""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services import errors
from services.jobs import jobs, states
from services.jobs.schema import jobs as job_table

Row = sa.RowMapping


async def cancel(connection: AsyncConnection, job: Row) -> Row:
    """Cancels a job whose row is held, or records that it shall be. Raises Refused where it is done."""
    if job["status"] == states.CANCELLED:
        return job
    if job["status"] == states.DONE:
        raise errors.Refused(f"Cannot cancel a job in status: {job['status']}", reason="WRONG_STATE")
    asked_at = sa.func.coalesce(job_table.c.cancel_requested_at, sa.func.clock_timestamp())
    if not job["launched"]:
        return await jobs.move(connection, job, states.CANCELLED, cancel_requested_at=asked_at)
    if job["cancel_requested_at"] is not None:
        return job
    statement = sa.update(job_table).where(job_table.c.id == job["id"]).values(cancel_requested_at=asked_at)
    return (await connection.execute(statement.returning(*job_table.c))).mappings().one()
