"""Checks an owner's quotas in each transaction that makes work: every call by which a job enters a status in flight.

CreateJob, ReanalyzeJob     a new job
RetryJob, ConfirmUpload     a failed job is queued again
"""

from services import errors
from services.jobs.domain import states
from services.jobs.domain.limits import Quotas
from services.jobs.domain.records import Job
from services.jobs.store.database import Connection

_IN_FLIGHT = sorted(states.IN_FLIGHT)


async def check(
    connection: Connection, job: Job, quotas: Quotas, *, field: str = "job_id", bytes_field: str = ""
) -> None:
    """Raises InvalidArgument if the job that just entered a status in flight exceeds a quota of its owner.

    field: the field of the request that the error names. bytes_field: the one for too many bytes; empty for a call that
    adds none. The caller commits after the check.
    """
    if not quotas.is_limited:
        return
    if connection.is_committed:
        raise RuntimeError("the job was committed before its owner's quotas were checked")
    # Without the lock, two transactions at once would each see room for one job.
    await connection.run("SELECT pg_advisory_xact_lock(hashtextextended(%(owner)s, 0))", owner=job.owner)
    [used] = await connection.rows(_USED, owner=job.owner, in_flight=_IN_FLIGHT)
    if bytes_field and quotas.bytes and used["bytes"] > quotas.bytes:
        message = f"the owner's videos would have {used['bytes']} bytes, and the quota is {quotas.bytes}"
        raise errors.InvalidArgument(bytes_field, f"{message}: delete some videos")
    if quotas.jobs_in_flight and used["in_flight"] > quotas.jobs_in_flight:
        message = f"the owner would have {used['in_flight']} jobs in flight, and the quota is {quotas.jobs_in_flight}"
        raise errors.InvalidArgument(field, f"{message}: wait until one ends, or cancel one")


# Two kinds of job count no bytes: a reanalysis reads the video of another job, and a failed upload is being removed.
_USED = """
    SELECT count(*) FILTER (WHERE is_in_flight) AS in_flight,
           coalesce(sum(content_length) FILTER (WHERE holds_bytes), 0) AS bytes
    FROM (SELECT *, status = ANY (%(in_flight)s::video_analysis_job_status[]) AS is_in_flight,
                 source_job_id IS NULL AND (etag <> '' OR status = 'awaiting_upload') AS holds_bytes
          FROM video_analysis_jobs WHERE owner = %(owner)s AND deleted_at IS NULL) AS mine
"""
