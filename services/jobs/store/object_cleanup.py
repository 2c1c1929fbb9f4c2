"""The cleanup queue: jobs whose S3 objects are no longer needed. `upload`, which holds S3, removes them.

    deleted, or cancelled or failed without a video: all its objects
      ─▶ due ─▶ claimed (`cleared_at`) ─▶ completed ─▶ due once more, if an upload may still arrive ─▶ finished
    done, failed or cancelled after a launch: the artifacts that its row does not name
      ─▶ due ─▶ claimed ─▶ completed ─▶ due once more, likewise ─▶ finished

A trigger of the database sets when a row is due; a deletion that can be undone is due when it is final. Rows stay as
tombstones for a while (`background/retention.py`). Once a row is claimed, jobs accepts no video for it: no object is
queued while it is removed. A failed upload that was repaired is no longer due. Artifacts of launches after the claim
are not removed: a job may be launched again meanwhile.
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
    """Objects to remove: all that lie under `prefix`, or only artifacts of the job's `launches`, without `kept`.

    `age`: the time since the first claim; for artifacts, since the job was final.
    """

    job_id: UUID
    s3_bucket: str
    prefix: str
    age: timedelta
    artifacts_only: bool
    launches: int
    kept: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredVideo:
    """The S3 objects that a job still needs: its video if it `is_verified`, and its artifacts' keys.

    `open_launch`: its launch that has not ended, which may store more; 0 without one.
    """

    job_id: UUID
    s3_key: str
    is_verified: bool
    artifact_keys: tuple[str, ...]
    open_launch: int


async def delete(connection: Connection, job: Job, actor: str, *, undoable: bool = False) -> None:
    """Deletes a locked job for a user; undoable: hides it for UNDO_SECONDS first.

    Raises FailedPrecondition while it is queued or runs.
    """
    if job.status in states.LAUNCHED:
        message = f"Cannot delete a job in status: {job.status}: cancel it first, or wait"
        raise errors.FailedPrecondition(message, reason="WRONG_STATE")
    if job.status == states.AWAITING_UPLOAD:
        await jobs.move(connection, job, states.CANCELLED)
    changed = {"undo_until": Now(jobs.UNDO_SECONDS)} if undoable else jobs.FORGOTTEN
    await jobs.write(connection, job, deleted_at=Now(), acted_by=actor, **changed)


async def claim(connection: Connection, limit: int, *, artifacts: bool) -> Sequence[Cleanup]:
    """Claims rows that are due; with `artifacts` also those of finished jobs. Raises InvalidArgument."""
    if not 1 <= limit <= MAX_CLAIMED:
        raise errors.InvalidArgument("limit", f"must be 1 to {MAX_CLAIMED}")
    again_in = timedelta(seconds=CLAIM_SECONDS)
    return await connection.records(
        _read_cleanup, _CLAIM, commit=True, limit=limit, again_in=again_in, artifacts=artifacts
    )


# `is_shared`: a job made by ReanalyzeJob reads the same video, in the same session. A tombstone of a deleted job keeps
# no results: they are about a person whose data was to be deleted.
_CLAIM = """
    WITH due AS (
        SELECT id, deleted_at IS NULL AND etag <> '' AS artifacts_only FROM video_analysis_jobs
        WHERE sweep_at <= clock_timestamp()
          AND (deleted_at IS NOT NULL OR etag = '' AND status IN ('failed', 'cancelled')
               OR %(artifacts)s AND etag <> '' AND NOT launched AND status IN ('done', 'failed', 'cancelled'))
        ORDER BY sweep_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    UPDATE video_analysis_jobs AS job
    SET cleared_at = CASE WHEN NOT due.artifacts_only THEN coalesce(job.cleared_at, clock_timestamp()) END,
        sweep_at = clock_timestamp() + %(again_in)s, results = CASE WHEN job.deleted_at IS NULL THEN job.results END
    FROM due WHERE job.id = due.id
    RETURNING job.id, job.s3_bucket, job.s3_key, job.launch_count, job.artifacts, due.artifacts_only,
        clock_timestamp() - coalesce(job.cleared_at, job.status_since) AS age, EXISTS (
        SELECT FROM video_analysis_jobs AS other
        WHERE other.session_id = job.session_id AND other.s3_key = job.s3_key AND other.id <> job.id
          AND (other.deleted_at IS NULL OR other.undo_until IS NOT NULL) AND other.cleared_at IS NULL) AS is_shared
"""


def _read_cleanup(row: Row) -> Cleanup:
    # All objects of the video, or those of this job alone if another job reads the same video.
    key, artifacts_only = row["s3_key"], row["artifacts_only"]
    of_job = artifacts_only or row["is_shared"]
    return Cleanup(
        job_id=row["id"],
        s3_bucket=row["s3_bucket"],
        prefix=naming.analysis_prefix(key, row["id"]) if of_job else f"{naming.video_folder(key)}/",
        age=row["age"],
        artifacts_only=artifacts_only,
        launches=row["launch_count"],
        kept=_artifact_keys(row) if artifacts_only else (),
    )


def _artifact_keys(row: Row) -> tuple[str, ...]:
    return tuple(artifact["s3_key"] for artifact in row["artifacts"])


async def complete(connection: Connection, job_id: str, again_in: timedelta | None, launches: int) -> None:
    """Records that S3 holds nothing more of a claimed cleanup. Raises NotFound.

    again_in: the row is due again after this time, because an upload may still arrive until then.
    """
    job = await jobs.get(connection, job_id, for_update=True)
    is_finished = job.status in states.SETTLED and job.launch_count == launches and not job.is_deleted
    if job.cleared_at is not None or is_finished:
        due = None if again_in is None else Now(again_in.total_seconds())
        await jobs.write(connection, job, sweep_at=due, upload_id="")


async def list_stored(
    connection: Connection, bucket: str, after: tuple[str, UUID] | None, size: int
) -> Sequence[StoredVideo]:
    """Jobs that may have objects in S3, in the order of their keys' bytes, then of their ids."""
    key, job_id = after or ("", UUID(int=0))
    return await connection.records(_read_stored, _STORED, bucket=bucket, key=key, id=job_id, size=size)


_STORED = """
    SELECT id, s3_key, artifacts, deleted_at, etag, CASE WHEN launched THEN launch_count ELSE 0 END AS open_launch
    FROM video_analysis_jobs
    WHERE s3_bucket = %(bucket)s AND cleared_at IS NULL AND (s3_key COLLATE "C", id) > (%(key)s, %(id)s)
    ORDER BY s3_key COLLATE "C", id LIMIT %(size)s
"""


def _read_stored(row: Row) -> StoredVideo:
    is_deleted = row["deleted_at"] is not None
    return StoredVideo(
        job_id=row["id"],
        s3_key=row["s3_key"],
        is_verified=not is_deleted and row["etag"] != "",
        artifact_keys=() if is_deleted else _artifact_keys(row),
        open_launch=row["open_launch"],
    )
