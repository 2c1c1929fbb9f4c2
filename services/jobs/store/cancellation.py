"""Cancels a job: at once without an open launch, otherwise as soon as the controller has proved that nothing runs.

    no open launch ──────────────────────────────────────────────────────────────────────────▶ cancelled
    an open launch ─▶ requested ─▶ the controller deletes its Kubernetes Job ─▶ EndLaunch ─▶ cancelled
                              └──▶ the cluster is silent for too long, or forgotten ───────▶ cancelled, without proof

From the request on, jobs rejects StartLaunch for the launch, and every call by its lease.
"""

from typing import Any

from services import errors
from services.jobs.domain import states
from services.jobs.domain.records import Job
from services.jobs.store import jobs
from services.jobs.store.database import Connection, Now


async def cancel(connection: Connection, job: Job, actor: str) -> Job:
    """Cancels a locked job for a user, or records the request. Raises FailedPrecondition for a job that is done."""
    if job.status == states.CANCELLED:
        return job
    if job.status == states.DONE:
        raise errors.FailedPrecondition(f"Cannot cancel a job in status: {job.status}", reason="WRONG_STATE")
    if job.cancel_requested_at is not None and job.has_open_launch:
        return job
    values: dict[str, Any] = {"cancel_requested_at": job.cancel_requested_at or Now(), "acted_by": actor}
    if not job.has_open_launch:
        return await jobs.move(connection, job, states.CANCELLED, **values)
    return await jobs.write(connection, job, **values)


async def forget_cluster(connection: Connection, cluster: str, silence_seconds: float) -> None:
    """Lets a silent cluster count as silent until it reports again, and frees its name for another owner.

    Raises NotFound, FailedPrecondition.
    """
    values: dict[str, Any] = {"cluster": cluster, "silence_seconds": silence_seconds}
    if await connection.rows(_FORGET, **values):
        return
    seconds = await connection.value(_SILENT_FOR, **values)
    if seconds is None:
        raise errors.NotFound(f"No controller of a cluster {cluster} ever reported", reason="CLUSTER_NOT_FOUND")
    message = (
        f"The controller of cluster {cluster} reported {seconds} s ago; it must be silent for {silence_seconds:g} s"
    )
    raise errors.FailedPrecondition(message, reason="CLUSTER_REPORTS")


_FORGET = """
    UPDATE clusters SET seen_at = 'epoch', owner = ''
    WHERE name = %(cluster)s AND seen_at < clock_timestamp() - %(silence_seconds)s * interval '1 second' RETURNING name
"""
_SILENT_FOR = (
    "SELECT floor(extract(epoch FROM clock_timestamp() - seen_at))::int FROM clusters WHERE name = %(cluster)s"
)
