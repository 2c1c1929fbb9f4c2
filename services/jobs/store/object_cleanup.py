"""The cleanup queue: jobs whose S3 objects are no longer needed. `upload`, which holds S3, removes them.

    deleted, or cancelled or failed without a video
      ─▶ due ─▶ claimed (`cleared_at`) ─▶ completed ─▶ due once more, if an upload may still arrive ─▶ finished

A trigger of the database sets when a row is due. Rows stay as tombstones for a while (`background/retention.py`). Once
a row is claimed, jobs accepts no video for it: no object is queued while it is removed. A failed upload that was
repaired is no longer due.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from services import errors, naming
from services.jobs.domain import states
from services.jobs.domain.records import Job
from services.jobs.store import jobs
from services.jobs.store.database import Connection, Now, Row

MAX_CLAIMED = 100
# Seconds after which a claimed row that was not completed is due again.
CLAIM_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Objects to remove: all that lie under `prefix`. `age`: the time since the first claim."""

    job_id: UUID
    s3_bucket: str
    prefix: str
    age: timedelta


@dataclass(frozen=True, slots=True)
class StoredVideo:
    """The S3 objects that a job still needs: its video if it `is_verified`, and its artifacts' keys."""

    job_id: UUID
    s3_key: str
    is_verified: bool
    artifact_keys: tuple[str, ...]


async def delete(connection: Connection, job: Job) -> None:
    """Deletes a locked job. Raises FailedPrecondition while it is queued or runs."""
    if job.status in states.LAUNCHED:
        message = f"Cannot delete a job in status: {job.status}: cancel it first, or wait"
        raise errors.FailedPrecondition(message, reason="WRONG_STATE")
    if job.status == states.AWAITING_UPLOAD:
        await jobs.move(connection, job, states.CANCELLED)
    await jobs.write(connection, job, deleted_at=Now(), **jobs.FORGOTTEN)


async def claim(connection: Connection, limit: int) -> Sequence[Cleanup]:
    """Claims rows that are due. Raises InvalidArgument."""
    if not 1 <= limit <= MAX_CLAIMED:
        raise errors.InvalidArgument("limit", f"must be 1 to {MAX_CLAIMED}")
    again_in = timedelta(seconds=CLAIM_SECONDS)
    return await connection.records(_read_cleanup, _CLAIM, commit=True, limit=limit, again_in=again_in)


# `is_shared`: a job made by ReanalyzeJob reads the same video, in the same session. A tombstone of a deleted job keeps
# no results: they are about a person whose data was to be deleted.
_CLAIM = """
    WITH due AS (
        SELECT id FROM video_analysis_jobs
        WHERE sweep_at <= clock_timestamp()
          AND (deleted_at IS NOT NULL OR etag = '' AND status IN ('failed', 'cancelled'))
        ORDER BY sweep_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    UPDATE video_analysis_jobs AS job
    SET cleared_at = coalesce(job.cleared_at, clock_timestamp()), sweep_at = clock_timestamp() + %(again_in)s,
        results = CASE WHEN job.deleted_at IS NULL THEN job.results END
    FROM due WHERE job.id = due.id
    RETURNING job.id, job.s3_bucket, job.s3_key, clock_timestamp() - job.cleared_at AS age, EXISTS (
        SELECT FROM video_analysis_jobs AS other
        WHERE other.session_id = job.session_id AND other.s3_key = job.s3_key AND other.id <> job.id
          AND other.deleted_at IS NULL AND other.cleared_at IS NULL) AS is_shared
"""


def _read_cleanup(row: Row) -> Cleanup:
    # All objects of the video, or those of this job alone if another job reads the same video.
    key = row["s3_key"]
    prefix = naming.analysis_prefix(key, row["id"]) if row["is_shared"] else f"{naming.video_folder(key)}/"
    return Cleanup(row["id"], row["s3_bucket"], prefix, row["age"])


async def complete(connection: Connection, job_id: str, again_in: timedelta | None) -> None:
    """Records that S3 holds nothing more under a claimed prefix. Raises NotFound.

    again_in: the row is due again after this time, because an upload may still arrive until then.
    """
    job = await jobs.get(connection, job_id, for_update=True)
    if job.cleared_at is not None:
        due = None if again_in is None else Now(again_in.total_seconds())
        await jobs.write(connection, job, sweep_at=due, upload_id="")


async def list_stored(
    connection: Connection, bucket: str, after: tuple[str, UUID] | None, size: int
) -> Sequence[StoredVideo]:
    """Jobs that may have objects in S3, in the order of their keys' bytes, then of their ids."""
    key, job_id = after or ("", UUID(int=0))
    return await connection.records(_read_stored, _STORED, bucket=bucket, key=key, id=job_id, size=size)


_STORED = """
    SELECT id, s3_key, artifacts, deleted_at, etag FROM video_analysis_jobs
    WHERE s3_bucket = %(bucket)s AND cleared_at IS NULL AND (s3_key COLLATE "C", id) > (%(key)s, %(id)s)
    ORDER BY s3_key COLLATE "C", id LIMIT %(size)s
"""


def _read_stored(row: Row) -> StoredVideo:
    is_deleted = row["deleted_at"] is not None
    keys = () if is_deleted else tuple(artifact["s3_key"] for artifact in row["artifacts"])
    return StoredVideo(row["id"], row["s3_key"], is_verified=not is_deleted and row["etag"] != "", artifact_keys=keys)
