"""What S3 still holds of jobs that need it no more, until `upload`, which alone can reach it, has removed it.

    deleted, cancelled or failed without a video ─▶ due ─▶ handed out (cleared) ─▶ settled, perhaps due again ─▶ never

A trigger sets when a row is due. Rows stay as tombstones. From the moment one is handed out nothing is accepted as its
video, so that what is being removed can't be queued. A failed upload that was repaired meanwhile is due no more.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from services import errors, naming
from services.jobs.domain import states
from services.jobs.store import jobs
from services.jobs.store.database import Connection, Now, Row

MAX_TAKEN = 100
# What was handed out and not settled in this time is handed out again.
SETTLE_SECONDS = 300.0


async def delete(connection: Connection, job: Row) -> None:
    """Deletes a job whose row is held. Raises FailedPrecondition while it is queued or runs."""
    if job["status"] in states.LAUNCHED:
        message = f"Cannot delete a job in status: {job['status']}: cancel it first, or wait"
        raise errors.FailedPrecondition(message, reason="WRONG_STATE")
    if job["status"] == states.AWAITING_UPLOAD:
        await jobs.move(connection, job, states.CANCELLED)
    await jobs.write(connection, job, deleted_at=Now())


async def take(connection: Connection, limit: int) -> Sequence[Row]:
    """What is due, with its `age` and whether its video `is_shared`. Raises InvalidArgument."""
    if not 1 <= limit <= MAX_TAKEN:
        raise errors.InvalidArgument("limit", f"must be 1 to {MAX_TAKEN}")
    return await connection.rows(_TAKE, last=True, limit=limit, settle=timedelta(seconds=SETTLE_SECONDS))


# A job made by ReanalyzeJob reads the same video, in the same session. A tombstone holds no results: they are about a
# person who was to be forgotten.
_TAKE = """
    WITH due AS (
        SELECT id FROM video_analysis_jobs
        WHERE sweep_at <= clock_timestamp()
          AND (deleted_at IS NOT NULL OR etag = '' AND status IN ('failed', 'cancelled'))
        ORDER BY sweep_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    UPDATE video_analysis_jobs AS job
    SET cleared_at = coalesce(job.cleared_at, clock_timestamp()), sweep_at = clock_timestamp() + %(settle)s,
        results = CASE WHEN job.deleted_at IS NULL THEN job.results END
    FROM due WHERE job.id = due.id
    RETURNING job.id, job.s3_bucket, job.s3_key, clock_timestamp() - job.cleared_at AS age, EXISTS (
        SELECT FROM video_analysis_jobs AS other
        WHERE other.session_id = job.session_id AND other.s3_key = job.s3_key AND other.id <> job.id
          AND other.deleted_at IS NULL AND other.cleared_at IS NULL) AS is_shared
"""


def prefix(row: Row) -> str:
    """All that belongs to the video, or to this job alone where another job has the same video."""
    key = row["s3_key"]
    return naming.analysis_prefix(key, row["id"]) if row["is_shared"] else f"{naming.video_folder(key)}/"


async def settle(connection: Connection, job_id: str, again_in: timedelta | None) -> None:
    """S3 holds nothing of what was handed out; `again_in`: something may still come until then. Raises NotFound."""
    job = await jobs.get(connection, job_id, lock=True)
    if job["cleared_at"] is not None:
        due = None if again_in is None else Now(again_in.total_seconds())
        await jobs.write(connection, job, sweep_at=due, upload_id="")


async def kept(connection: Connection, bucket: str, after: tuple[str, UUID] | None, size: int) -> Sequence[Row]:
    """Jobs of which S3 may hold something, in the order of their keys' bytes, then of their ids."""
    key, job_id = after or ("", UUID(int=0))
    return await connection.rows(_KEPT, bucket=bucket, key=key, id=job_id, size=size)


_KEPT = """
    SELECT id, s3_key, artifacts, deleted_at, etag FROM video_analysis_jobs
    WHERE s3_bucket = %(bucket)s AND cleared_at IS NULL AND (s3_key COLLATE "C", id) > (%(key)s, %(id)s)
    ORDER BY s3_key COLLATE "C", id LIMIT %(size)s
"""
