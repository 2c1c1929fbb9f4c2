"""Checks an owner's quotas when a job is created, in the transaction that creates it."""

from services import errors
from services.jobs.domain import states
from services.jobs.domain.limits import Quotas
from services.jobs.domain.records import Job
from services.jobs.store.database import Connection

_IN_FLIGHT = sorted({states.AWAITING_UPLOAD, *states.LAUNCHED})


async def check(connection: Connection, job: Job, quotas: Quotas) -> None:
    """Raises InvalidArgument, naming the field of InitiateUpload, if the job just created exceeds a quota."""
    if not quotas.is_limited:
        return
    # Without the lock, two transactions at once would each see room for one job.
    await connection.run("SELECT pg_advisory_xact_lock(hashtextextended(%(owner)s, 0))", owner=job.owner)
    [used] = await connection.rows(_USED, owner=job.owner, in_flight=_IN_FLIGHT)
    if quotas.bytes and used["bytes"] > quotas.bytes:
        message = f"the owner's videos would have {used['bytes']} bytes, and the quota is {quotas.bytes}"
        raise errors.InvalidArgument("content_length", f"{message}: delete some videos")
    if quotas.jobs_in_flight and used["in_flight"] > quotas.jobs_in_flight:
        message = f"the owner would have {used['in_flight']} jobs in flight, and the quota is {quotas.jobs_in_flight}"
        raise errors.InvalidArgument("session_id", f"{message}: wait until one ends, or cancel one")


# Two kinds of job count no bytes: a reanalysis reads the video of another job, and a failed upload is being removed.
_USED = """
    SELECT count(*) FILTER (WHERE is_in_flight) AS in_flight,
           coalesce(sum(content_length) FILTER (WHERE holds_bytes), 0) AS bytes
    FROM (SELECT *, status = ANY (%(in_flight)s::video_analysis_job_status[]) AS is_in_flight,
                 source_job_id IS NULL AND (etag <> '' OR status = 'awaiting_upload') AS holds_bytes
          FROM video_analysis_jobs WHERE owner = %(owner)s AND deleted_at IS NULL) AS mine
"""
