"""Cancels a job: at once without an open launch, otherwise as soon as the controller has proved that nothing runs.

    no open launch ──────────────────────────────────────────────────────────────────────────▶ cancelled
    an open launch ─▶ requested ─▶ the controller deletes its Kubernetes Job ─▶ EndLaunch ─▶ cancelled

From the request on, jobs rejects StartLaunch for the launch, and every call by its lease.
"""

from services import errors
from services.jobs.domain import states
from services.jobs.domain.records import Job
from services.jobs.store import jobs
from services.jobs.store.database import Connection, Now


async def cancel(connection: Connection, job: Job) -> Job:
    """Cancels a locked job, or records the request. Raises FailedPrecondition for a job that is done."""
    if job.status == states.CANCELLED:
        return job
    if job.status == states.DONE:
        raise errors.FailedPrecondition(f"Cannot cancel a job in status: {job.status}", reason="WRONG_STATE")
    requested_at = job.cancel_requested_at or Now()
    if not job.has_open_launch:
        return await jobs.move(connection, job, states.CANCELLED, cancel_requested_at=requested_at)
    if job.cancel_requested_at is not None:
        return job
    return await jobs.write(connection, job, cancel_requested_at=requested_at)
