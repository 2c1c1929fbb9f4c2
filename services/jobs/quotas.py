"""How much one owner may have: bytes of videos, and jobs in flight. Checked when a job is made, in its transaction."""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services import errors
from services.jobs import states
from services.jobs.schema import jobs

Row = sa.RowMapping
_in_flight = jobs.c.status.in_((states.AWAITING_UPLOAD, *states.LAUNCHED))


@dataclass(frozen=True)
class Quotas:
    """0: any number."""

    bytes: int = 0
    jobs_in_flight: int = 0


async def check(connection: AsyncConnection, job: Row, quotas: Quotas) -> None:
    """Raises Invalid, naming the field of InitiateUpload, where a job that was just made is one too many."""
    if not (quotas.bytes or quotas.jobs_in_flight):
        return
    # Two at once would each see room for one.
    await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(job["owner"], 0))))
    # A job that reads the video of another holds none of its own, and what was given up is being cleared away.
    holds = jobs.c.source_job_id.is_(None) & ((jobs.c.etag != "") | _in_flight)
    used = sa.func.coalesce(sa.func.sum(jobs.c.content_length).filter(holds), 0)
    statement = sa.select(used.label("bytes"), sa.func.count().filter(_in_flight).label("in_flight"))
    mine = statement.where(jobs.c.owner == job["owner"], jobs.c.deleted_at.is_(None))
    row = (await connection.execute(mine)).one()
    if quotas.bytes and row.bytes > quotas.bytes:
        message = f"the owner's videos would be {row.bytes} bytes together, at most {quotas.bytes} are kept"
        raise errors.Invalid("content_length", f"{message}: delete some")
    if quotas.jobs_in_flight and row.in_flight > quotas.jobs_in_flight:
        message = f"the owner would have {row.in_flight} jobs in flight, at most {quotas.jobs_in_flight} are taken"
        raise errors.Invalid("session_id", f"{message}: wait for one, or cancel it")
