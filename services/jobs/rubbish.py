"""What S3 still holds of jobs that need it no more, until `upload`, which alone can reach it, has removed it.

    deleted, cancelled or failed without a video ─▶ due ─▶ handed out (cleared) ─▶ settled, perhaps due again ─▶ never

A trigger sets when a row is due. Rows stay as tombstones. From the moment one is handed out nothing is accepted as its
video, so that what is being removed can't be queued. A failed upload that was repaired meanwhile is due no more.
"""

from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services import errors
from services.jobs import jobs as job_rows
from services.jobs import states
from services.jobs.schema import jobs

Row = sa.RowMapping
MAX_TAKEN = 100
# What was handed out and not settled in this time is handed out again.
SETTLE_SECONDS = 300.0
_now = sa.func.clock_timestamp()
# No video was ever verified for it, and none is waited for.
_given_up = (jobs.c.etag == "") & jobs.c.status.in_((states.FAILED, states.CANCELLED))


async def delete(connection: AsyncConnection, job: Row) -> None:
    """Deletes a job whose row is held. Raises Refused while it is queued or runs."""
    if job["status"] in states.LAUNCHED:
        message = f"Cannot delete a job in status: {job['status']}: cancel it first, or wait"
        raise errors.Refused(message, reason="WRONG_STATE")
    if job["status"] == states.AWAITING_UPLOAD:
        await job_rows.move(connection, job, states.CANCELLED)
    await connection.execute(sa.update(jobs).where(jobs.c.id == job["id"]).values(deleted_at=_now))


async def take(connection: AsyncConnection, limit: int) -> list[Row]:
    """What is due, with the `prefix` that is to go and its `age`. Raises Invalid."""
    if not 1 <= limit <= MAX_TAKEN:
        raise errors.Invalid("limit", f"must be 1 to {MAX_TAKEN}")
    due = (
        sa.select(jobs.c.id)
        .where(jobs.c.sweep_at <= _now, jobs.c.deleted_at.is_not(None) | _given_up)
        .order_by(jobs.c.sweep_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    taken = (
        sa.update(jobs)
        .where(jobs.c.id.in_(sa.select(due.c.id)))
        .values(
            cleared_at=sa.func.coalesce(jobs.c.cleared_at, _now),
            sweep_at=_now + timedelta(seconds=SETTLE_SECONDS),
            # A tombstone holds no result: they are about a person who was to be forgotten.
            results=sa.case((jobs.c.deleted_at.is_(None), jobs.c.results)),
        )
        .returning(*jobs.c, (_now - jobs.c.cleared_at).label("age"), _is_shared.label("is_shared"))
    )
    return list((await connection.execute(taken)).mappings())


_other = jobs.alias("other")
# A job made by ReanalyzeJob reads the same video, in the same session.
_is_shared = sa.exists().where(
    _other.c.session_id == jobs.c.session_id,
    _other.c.s3_key == jobs.c.s3_key,
    _other.c.id != jobs.c.id,
    _other.c.deleted_at.is_(None),
    _other.c.cleared_at.is_(None),
)


def prefix(row: Row) -> str:
    """All that belongs to the video, or to this job alone where another job has the same video."""
    folder = row["s3_key"].rpartition("/")[0]
    return f"{folder}/analysis/{row['id']}/" if row["is_shared"] else f"{folder}/"


async def settle(connection: AsyncConnection, job_id: str, again_in: timedelta | None) -> None:
    """S3 holds nothing of what was handed out; `again_in`: something may still come until then. Raises NotFound."""
    job = await job_rows.get(connection, job_id, lock=True)
    due = None if again_in is None else _now + again_in
    taken = (jobs.c.id == job["id"]) & jobs.c.cleared_at.is_not(None)
    await connection.execute(sa.update(jobs).where(taken).values(sweep_at=due, upload_id=""))


async def kept(connection: AsyncConnection, bucket: str, after: tuple[str, Any] | None, size: int) -> list[Row]:
    """Jobs of which S3 may hold something, in the order of their keys' bytes, then of their ids."""
    key = jobs.c.s3_key.collate("C")
    columns = (jobs.c.id, jobs.c.s3_key, jobs.c.artifacts, jobs.c.deleted_at, jobs.c.etag)
    statement = sa.select(*columns).where(jobs.c.s3_bucket == bucket, jobs.c.cleared_at.is_(None))
    if after is not None:
        statement = statement.where(sa.tuple_(key, jobs.c.id) > sa.tuple_(*after))
    return list((await connection.execute(statement.order_by(key, jobs.c.id).limit(size))).mappings())
