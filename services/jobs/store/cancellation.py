"""Cancelling a job: asked for by a person, final only when the controller has proved that nothing of it runs.

    no open launch ───────────────────────────────────────────────────────────────▶ cancelled
    an open launch ─▶ asked for ─▶ deleted, and nothing lives under its name (EndLaunch) ─▶ cancelled

From the moment it is asked for, the launch can't be started and its lease writes nothing more.
"""

from services import errors
from services.jobs.domain import states
from services.jobs.store import jobs
from services.jobs.store.database import Connection, Now, Row


async def cancel(connection: Connection, job: Row) -> Row:
    """Cancels a job whose row is held, or records that it shall be. Raises FailedPrecondition where it is done."""
    if job["status"] == states.CANCELLED:
        return job
    if job["status"] == states.DONE:
        raise errors.FailedPrecondition(f"Cannot cancel a job in status: {job['status']}", reason="WRONG_STATE")
    asked_at = job["cancel_requested_at"] or Now()
    if not job["launched"]:
        return await jobs.move(connection, job, states.CANCELLED, cancel_requested_at=asked_at)
    if job["cancel_requested_at"] is not None:
        return job
    return await jobs.write(connection, job, cancel_requested_at=asked_at)
