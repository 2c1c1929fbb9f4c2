"""How much one owner may have: bytes of videos, and jobs in flight. Checked when a job is made, in its transaction."""

from dataclasses import dataclass

from services import errors
from services.jobs.domain import states
from services.jobs.store.database import Connection, Row

_IN_FLIGHT = sorted({states.AWAITING_UPLOAD, *states.LAUNCHED})


@dataclass(frozen=True)
class Quotas:
    """0: any number."""

    bytes: int = 0
    jobs_in_flight: int = 0

    @property
    def any(self) -> bool:
        """Whether there is something to check."""
        return bool(self.bytes or self.jobs_in_flight)


async def check(connection: Connection, job: Row, quotas: Quotas) -> None:
    """Raises InvalidArgument, naming the field of InitiateUpload, where a job that was just made is one too many."""
    if not quotas.any:
        return
    # Two at once would each see room for one.
    await connection.run("SELECT pg_advisory_xact_lock(hashtextextended(%(owner)s, 0))", owner=job["owner"])
    [used] = await connection.rows(_USED, owner=job["owner"], in_flight=_IN_FLIGHT)
    if quotas.bytes and used["bytes"] > quotas.bytes:
        message = f"the owner's videos would be {used['bytes']} bytes together, at most {quotas.bytes} are kept"
        raise errors.InvalidArgument("content_length", f"{message}: delete some")
    if quotas.jobs_in_flight and used["in_flight"] > quotas.jobs_in_flight:
        message = f"the owner would have {used['in_flight']} jobs in flight, at most {quotas.jobs_in_flight} are taken"
        raise errors.InvalidArgument("session_id", f"{message}: wait for one, or cancel it")


# A job that reads the video of another holds none of its own, and what was given up is being cleared away.
_USED = """
    SELECT count(*) FILTER (WHERE is_in_flight) AS in_flight,
           coalesce(sum(content_length) FILTER (WHERE holds_bytes), 0) AS bytes
    FROM (SELECT *, status = ANY (%(in_flight)s::video_analysis_job_status[]) AS is_in_flight,
                 source_job_id IS NULL AND (etag <> '' OR status = 'awaiting_upload') AS holds_bytes
          FROM video_analysis_jobs WHERE owner = %(owner)s AND deleted_at IS NULL) AS mine
"""
