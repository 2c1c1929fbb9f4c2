"""Jobs in the database: reads them, creates them, and moves them from state to state, by `move` alone."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from psycopg.types.json import Jsonb

from services import errors, naming, traces
from services.auth import User
from services.jobs import metrics
from services.jobs.domain import authorization, states
from services.jobs.domain.records import GivenEvent, Job, Owner, Session
from services.jobs.domain.states import Status
from services.jobs.store import pagination
from services.jobs.store.database import Connection, Row, assignments, parse_id
from services.jobs.store.rows import read_job, read_owner
from services.jobs.store.schema import jobs, sessions


async def get(connection: Connection, job_id: str | UUID, *, for_update: bool = False) -> Job:
    """One job. Raises NotFound.

    for_update: locks the row until the transaction ends. A transaction that changes a job or its launches locks the
    job first.
    """
    key = job_id if isinstance(job_id, UUID) else parse_id(job_id)
    job = await connection.record(read_job, _GET_FOR_UPDATE if for_update else _GET, id=key)
    if job is None:
        raise not_found()
    return job


_GET = "SELECT * FROM video_analysis_jobs WHERE id = %(id)s"
_GET_FOR_UPDATE = f"{_GET} FOR UPDATE"


async def get_readable(connection: Connection, job_id: UUID) -> Job:
    """One job that is not deleted, nor its session; the caller has checked the right to read it. Raises NotFound."""
    job = await connection.record(read_job, _GET_WITH_OWNER, id=job_id)
    if job is None:
        raise not_found()
    return job


async def get_visible(connection: Connection, job_id: str, user: User) -> Job:
    """One job that a user may see. Raises NotFound, PermissionDenied."""
    return _visible(await connection.row(_GET_WITH_OWNER, id=parse_id(job_id)), user)


async def get_visible_for_update(connection: Connection, job_id: str, user: User) -> Job:
    """One job that a user may change, locked; its session is locked against deletion. Raises as `get_visible`."""
    return _visible(await connection.row(_GET_WITH_OWNER_FOR_UPDATE, id=parse_id(job_id)), user)


_GET_WITH_OWNER = """
    SELECT job.*, session.owner_type, session.owner_id FROM video_analysis_jobs AS job
    JOIN video_sessions AS session ON session.id = job.session_id
    WHERE job.id = %(id)s AND session.deleted_at IS NULL AND job.deleted_at IS NULL
"""
# In this order, because deleting a session locks the session before its jobs.
_GET_WITH_OWNER_FOR_UPDATE = f"{_GET_WITH_OWNER} FOR SHARE OF session FOR UPDATE OF job"


def _visible(row: Row | None, user: User) -> Job:
    if row is None:
        raise not_found()
    check_visible(user, read_owner(row))
    return read_job(row)


def check_visible(user: User, owner: Owner) -> None:
    """Raises PermissionDenied if a user may not see the jobs of an owner."""
    if not authorization.may_see(user, owner):
        raise errors.PermissionDenied("You don't have access to this job", reason="JOB_ACCESS_DENIED")


def not_found() -> errors.NotFound:
    """The error for a job that does not exist or is deleted."""
    return errors.NotFound("Analysis job not found", reason="JOB_NOT_FOUND")


async def move(connection: Connection, job: Job, to: Status, *, commit: bool = False, **values: Any) -> Job:
    """Moves a job to a state, if `states.SOURCES` allows it from the job's current one, and writes other columns.

    commit: commits with the update. The caller then has nothing else to write, or has locked the row in a state from
    which the move is certain. Raises FailedPrecondition if no row moved.
    """
    results_stage = values.get("results_stage", job.results_stage)
    values |= {"status": to, "stage": states.stage(to, results_stage)}
    progress = states.progress(to, results_stage)
    if progress is not None:
        values["progress_pct"] = progress
    columns, sent = assignments(values)
    statement = _MOVE.format(columns)
    moved = await connection.record(read_job, statement, commit=commit, id=job.id, sources=_SOURCES[to], **sent)
    if moved is None:
        raise wrong_transition(job, to)
    connection.on_commit(partial(metrics.moved, job, moved))
    return moved


def wrong_transition(job: Job, to: Status) -> errors.FailedPrecondition:
    """The error for a move that `states.SOURCES` does not allow."""
    return errors.FailedPrecondition(f"A job in status {job.status} cannot become {to}", reason="WRONG_STATE")


_SOURCES = {to: sorted(sources) for to, sources in states.SOURCES.items()}
_MOVE = """
    UPDATE video_analysis_jobs SET {}
    WHERE id = %(id)s AND status = ANY (%(sources)s::video_analysis_job_status[]) RETURNING *
"""


async def write(connection: Connection, job: Job, **values: Any) -> Job:
    """Writes columns of a locked job, other than its status."""
    columns, sent = assignments(values)
    [written] = await connection.records(read_job, _WRITE.format(columns), id=job.id, **sent)
    return written


_WRITE = "UPDATE video_analysis_jobs SET {} WHERE id = %(id)s RETURNING *"


def report_progress(connection: Connection, job: Job, progress_pct: int) -> None:
    """Raises progress_pct of a locked job, in the same round trip as the next statement."""
    if progress_pct > job.progress_pct:
        connection.pipeline(_PROGRESS, id=job.id, progress_pct=progress_pct)


_PROGRESS = "UPDATE video_analysis_jobs SET progress_pct = %(progress_pct)s WHERE id = %(id)s"


def retry_values(job: Job) -> dict[str, Any]:
    """The columns that a failed job is queued again with: no failure, no delay, and every ending counted anew."""
    return {
        "failure_code": "",
        "error_message": "",
        "not_before": None,
        "memory_factor": 1.0,
        "retries_from_launch": job.launch_count,
    }


# For how long a client may undo a deletion that it made undoable.
UNDO_SECONDS = 60.0
# A deleted job keeps nothing about the person in the video.
FORGOTTEN: dict[str, Any] = {
    "results": None,
    "level": "",
    "artifacts": Jsonb([]),
    "athlete_box": None,
    "events": Jsonb([]),
    "error_message": "",
}


def check_verified(job: Job) -> None:
    """Raises FailedPrecondition for a job whose upload was never verified."""
    if not job.video.etag:
        message = "The job has no verified video: complete the upload with CompleteUpload"
        raise errors.FailedPrecondition(message, reason="UPLOAD_NOT_VERIFIED")


def check_uploadable(job: Job) -> None:
    """Raises FailedPrecondition for a job whose upload cannot be completed any more."""
    if job.status not in states.UPLOADABLE:
        raise wrong_upload_state(job)
    if job.cleared_at is not None:
        message = "The upload was abandoned and its objects were removed: call InitiateUpload again"
        raise errors.FailedPrecondition(message, reason="UPLOAD_CLEARED")


def wrong_upload_state(job: Job) -> errors.FailedPrecondition:
    """The error for an upload that the job's status does not allow."""
    return errors.FailedPrecondition(f"Cannot complete upload for job in status: {job.status}", reason="WRONG_STATE")


# The columns that a repeated request_id must repeat.
_OPTIONS = ("sample_fps", "include_frames", "accelerator", "anonymous", "athlete_box", "capture_fps")
_REANALYSIS = (*_OPTIONS, "discipline", "events")
_UPLOAD = (*_OPTIONS, "content_type", "content_length", "sha256")


async def create(connection: Connection, session: Session, values: dict[str, Any], *, commit: bool = True) -> Job:
    """Adds a job that awaits its upload, or returns the one that the same user made with the same request_id.

    values: its columns. commit: commits with the insert. Raises AlreadyExists if the request_id was used with other
    content, FailedPrecondition if its job is deleted.
    """
    values = values | {"source_job_id": None}
    return await _create(connection, session, states.AWAITING_UPLOAD, values, _UPLOAD, commit=commit)


def given_events_json(events: Iterable[GivenEvent]) -> Jsonb:
    """The column `events`."""
    return Jsonb([asdict(event) for event in events])


async def create_reanalysis(
    connection: Connection, session: Session, source: Job, values: dict[str, Any], *, commit: bool = True
) -> Job:
    """Adds a queued job on the verified video of another one. `commit` and a repeated request_id are as of `create`."""
    video = source.video
    copied = {
        "s3_bucket": video.s3_bucket,
        "s3_key": video.s3_key,
        "content_type": video.content_type,
        "content_length": video.content_length,
        "etag": video.etag,
        "version_id": video.version_id,
        "sha256": video.sha256,
        "part_bytes": video.part_bytes,
        "parts_sha256": video.parts_sha256,
        "athlete_box": source.athlete_box,
        "discipline": source.discipline,
        "capture_fps": source.capture_fps,
        "events": given_events_json(source.events),
        "sample_fps": source.sample_fps,
        "include_frames": source.include_frames,
        "accelerator": source.accelerator,
        "anonymous": source.anonymous,
        "source_job_id": source.id,
    }
    return await _create(connection, session, states.QUEUED, copied | values, _REANALYSIS, commit=commit)


async def _create(
    connection: Connection,
    session: Session,
    status: Status,
    values: dict[str, Any],
    same: tuple[str, ...],
    *,
    commit: bool,
) -> Job:
    values |= {"session_id": session.id, "status": status, "stage": states.STAGES[status]}
    values |= {"trace_parent": traces.traceparent(), "acted_by": values["created_by"]}
    columns = (", ".join(values), ", ".join(f"%({name})s" for name in values))
    job = await connection.record(read_job, _INSERT.format(*columns), commit=commit, **values)
    if job is not None:
        return job
    [row] = await connection.rows(_SAME_REQUEST, **values)
    if row["session_id"] != session.id or any(row[name] != _stored(values[name]) for name in ("source_job_id", *same)):
        raise errors.AlreadyExists("request_id was used for another job", reason="REQUEST_ID_REUSED")
    if row["deleted_at"] is not None or row["cleared_at"] is not None:
        message = "The job of this request_id was abandoned or deleted: use another request_id"
        raise errors.FailedPrecondition(message, reason="UPLOAD_CLEARED")
    return read_job(row)


def _stored(value: Any) -> Any:
    """A value as a row has it."""
    return value.obj if isinstance(value, Jsonb) else value


_INSERT = """
    INSERT INTO video_analysis_jobs ({}) VALUES ({})
    ON CONFLICT (created_by, request_id) WHERE request_id IS NOT NULL DO NOTHING RETURNING *
"""
_SAME_REQUEST = "SELECT * FROM video_analysis_jobs WHERE created_by = %(created_by)s AND request_id = %(request_id)s"


def video_key(session: Session, video_id: UUID) -> str:
    """The S3 key of a new video. An owner's id with characters other than letters, digits, - and _ is hashed."""
    owner_id = session.owner.id
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", owner_id):
        owner_id = "h-" + hashlib.sha256(owner_id.encode()).hexdigest()[:32]
    return f"{naming.VIDEOS_ROOT}{session.owner.type}/{owner_id}/{session.id}/{video_id}/original.mp4"


def artifact_prefix(job: Job, launch_no: int) -> str:
    """The S3 prefix of a launch's artifacts: beside the video, by job and launch, so that no two share a key."""
    return naming.launch_artifacts_prefix(job.video.s3_key, job.id, launch_no)


async def landmarks_key(connection: Connection, job: Job) -> str:
    """The S3 key of the landmarks that the source of a job kept; empty if it has none."""
    if job.source_job_id is None:
        return ""
    artifacts = await connection.value(_SOURCE_ARTIFACTS, id=job.source_job_id) or []
    kept = [artifact["s3_key"] for artifact in artifacts if artifact["name"] == naming.LANDMARKS]
    return str(kept[-1]) if kept else ""


_SOURCE_ARTIFACTS = "SELECT artifacts FROM video_analysis_jobs WHERE id = %(id)s AND deleted_at IS NULL"


async def list_visible(
    connection: Connection, user: User, *, session_id: str, status: str, size: int, page_token: str
) -> pagination.Page[Job]:
    """A page of the jobs that a user may see, without results, newest first.

    Raises InvalidArgument for a negative page size or the token of another filter.
    """
    columns = [column for column in jobs.c if column.name != "results"]
    statement = sa.select(*columns).join(sessions).where(sessions.c.deleted_at.is_(None), jobs.c.deleted_at.is_(None))
    if session_id:
        statement = statement.where(jobs.c.session_id == parse_id(session_id))
    if status:
        statement = statement.where(jobs.c.status == status)
    filtered = f"{authorization.actor(user)} {session_id} {status}"
    return await pagination.read_page(
        connection,
        read_job,
        statement,
        pagination.visible_to(user, jobs),
        pagination.newest(jobs),
        size=size,
        token=page_token,
        filtered=filtered,
    )
