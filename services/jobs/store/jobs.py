"""Jobs in the database: reading them, and the one function that moves them from state to state."""

import hashlib
import re
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services import errors, naming, traces
from services.auth import Person
from services.jobs import metrics
from services.jobs.domain import authorization, states
from services.jobs.store import pagination
from services.jobs.store.database import Connection, Row, assignments, parse_id
from services.jobs.store.schema import jobs, sessions


async def get(connection: Connection, job_id: str | UUID, *, lock: bool = False) -> Row:
    """One job. `lock` holds its row until the transaction ends: whoever changes a job or its launches holds it first.

    Raises NotFound.
    """
    key = job_id if isinstance(job_id, UUID) else parse_id(job_id)
    row = await connection.row(_LOCK if lock else _GET, id=key)
    if row is None:
        raise not_found()
    return row


_GET = "SELECT * FROM video_analysis_jobs WHERE id = %(id)s"
_LOCK = f"{_GET} FOR UPDATE"


async def get_for(connection: Connection, job_id: str, person: Person) -> Row:
    """One job that a person may see. Raises NotFound, PermissionDenied."""
    return check_seen(await connection.row(_GET_OWNED, id=parse_id(job_id)), person)


async def hold_for(connection: Connection, job_id: str, person: Person) -> Row:
    """One job that a person may change, locked, in a session that is held. Raises NotFound, PermissionDenied."""
    return check_seen(await connection.row(_HOLD_OWNED, id=parse_id(job_id)), person)


_GET_OWNED = """
    SELECT job.*, session.owner_type, session.owner_id FROM video_analysis_jobs AS job
    JOIN video_sessions AS session ON session.id = job.session_id
    WHERE job.id = %(id)s AND session.deleted_at IS NULL AND job.deleted_at IS NULL
"""
# In this order: whoever deletes a session holds it before its jobs.
_HOLD_OWNED = f"{_GET_OWNED} FOR SHARE OF session FOR UPDATE OF job"


def check_seen(row: Row | None, person: Person) -> Row:
    """A row of a job with its owner, if it is one and the person may see it. Raises NotFound, PermissionDenied."""
    if row is None:
        raise not_found()
    if not authorization.may_see(person, row["owner_type"], row["owner_id"]):
        raise errors.PermissionDenied("You don't have access to this job", reason="JOB_ACCESS_DENIED")
    return row


def not_found() -> errors.NotFound:
    return errors.NotFound("Analysis job not found", reason="JOB_NOT_FOUND")


async def move(connection: Connection, job: Row, to: str, *, last: bool = False, **values: Any) -> Row:
    """Moves a job to a state that the table allows from where it is. Raises FailedPrecondition where no row moved.

    last: the transaction is committed with it. Either nothing else is written, or the row is held in a state from
    which it moves for certain.
    """
    results_stage = values.get("results_stage", job["results_stage"])
    values |= {"status": to, "stage": states.stage(to, results_stage)}
    progress = states.progress(to, results_stage)
    if progress is not None:
        values["progress_pct"] = progress
    columns, sent = assignments(values)
    row = await connection.row(_MOVE.format(columns), last=last, id=job["id"], sources=_SOURCES[to], **sent)
    if row is None:
        raise cannot_become(job, to)
    connection.afterwards(partial(metrics.moved, job, row))
    return row


def cannot_become(job: Row, to: str) -> errors.FailedPrecondition:
    return errors.FailedPrecondition(f"A job in status {job['status']} cannot become {to}", reason="WRONG_STATE")


_SOURCES = {to: sorted(sources) for to, sources in states.SOURCES.items()}
_MOVE = """
    UPDATE video_analysis_jobs SET {}
    WHERE id = %(id)s AND status = ANY (%(sources)s::video_analysis_job_status[]) RETURNING *
"""


async def write(connection: Connection, job: Row, **values: Any) -> Row:
    """Writes columns of a job that is held, which moves it nowhere."""
    columns, sent = assignments(values)
    [row] = await connection.rows(_WRITE.format(columns), id=job["id"], **sent)
    return row


_WRITE = "UPDATE video_analysis_jobs SET {} WHERE id = %(id)s RETURNING *"


def afresh(job: Row) -> dict[str, Any]:
    """What a failed job is queued again with: no fault and no delay, and every cause of failure has its tries anew."""
    cleared = {"failure_code": "", "error_message": "", "not_before": None, "memory_factor": 1.0}
    return cleared | {"retries_from_launch": job["launch_count"]}


def check_verified(job: Row) -> None:
    """Raises FailedPrecondition for a job whose video nobody has verified."""
    if not job["etag"]:
        message = "The job has no verified video: complete the upload with CompleteUpload"
        raise errors.FailedPrecondition(message, reason="UPLOAD_NOT_VERIFIED")


def check_open(job: Row) -> None:
    """Raises FailedPrecondition for a job that waits for no video."""
    if job["status"] not in (states.AWAITING_UPLOAD, states.FAILED):
        raise errors.FailedPrecondition(
            f"Cannot complete upload for job in status: {job['status']}", reason="WRONG_STATE"
        )
    if job["cleared_at"] is not None:
        message = "The upload was given up and what came of it was cleared away: initiate another"
        raise errors.FailedPrecondition(message, reason="UPLOAD_CLEARED")


_REANALYSIS = ("sample_fps", "include_frames", "accelerator", "anonymous")
_UPLOAD = (*_REANALYSIS, "athlete_box", "content_type", "content_length", "sha256")


async def create(connection: Connection, session: Row, values: dict[str, Any], *, last: bool = True) -> Row:
    """Adds a job that awaits its upload, or finds the one that the same person made with the same request_id.

    last: the transaction is committed with it. Raises AlreadyExists where that one has other content, FailedPrecondition where it
    is gone.
    """
    values = values | {"source_job_id": None}
    return await _create(connection, session, states.AWAITING_UPLOAD, values, _UPLOAD, last=last)


async def create_again(connection: Connection, session: Row, source: Row, values: dict[str, Any]) -> Row:
    """Adds a queued job on the pinned video of another, or finds the one made with the same request_id, as `create`."""
    pinned = ("s3_bucket", "s3_key", "content_type", "content_length", "etag", "version_id", "sha256")
    names = (*pinned, "part_bytes", "parts_sha256", "athlete_box", *_REANALYSIS)
    copied = {name: source[name] for name in names} | {"source_job_id": source["id"]}
    return await _create(connection, session, states.QUEUED, copied | values, _REANALYSIS)


async def _create(
    connection: Connection, session: Row, status: str, values: dict[str, Any], same: tuple[str, ...], last: bool = True
) -> Row:
    values |= {"session_id": session["id"], "status": status, "stage": states.STAGES[status]}
    values |= {"trace_parent": traces.traceparent()}
    columns = (", ".join(values), ", ".join(f"%({name})s" for name in values))
    row = await connection.row(_INSERT.format(*columns), last=last, **values)
    if row is not None:
        return row
    [row] = await connection.rows(_SAME_REQUEST, **values)
    if row["session_id"] != session["id"] or any(row[name] != values[name] for name in ("source_job_id", *same)):
        raise errors.AlreadyExists("request_id was used for another job", reason="REQUEST_ID_REUSED")
    if row["deleted_at"] is not None or row["cleared_at"] is not None:
        message = "The job of this request_id was given up or deleted: use another request_id"
        raise errors.FailedPrecondition(message, reason="UPLOAD_CLEARED")
    return row


_INSERT = """
    INSERT INTO video_analysis_jobs ({}) VALUES ({})
    ON CONFLICT (created_by, request_id) WHERE request_id IS NOT NULL DO NOTHING RETURNING *
"""
_SAME_REQUEST = "SELECT * FROM video_analysis_jobs WHERE created_by = %(created_by)s AND request_id = %(request_id)s"


def video_key(session: Row, video_id: UUID) -> str:
    """Where a video is put. Ids that hold more than letters, digits, - and _ are hashed: no user text enters a key."""
    owner = session["owner_id"]
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", owner):
        owner = "h-" + hashlib.sha256(owner.encode()).hexdigest()[:32]
    return f"{naming.VIDEOS_ROOT}{session['owner_type']}/{owner}/{session['id']}/{video_id}/original.mp4"


def artifact_prefix(job: Row, launch_no: int) -> str:
    """Where one launch's artifacts go: beside the video, under the job and the launch, so that no two share a key."""
    return naming.launch_artifacts_prefix(job["s3_key"], job["id"], launch_no)


async def list_for(
    connection: Connection, person: Person, *, session_id: str, status: str, size: int, page_token: str
) -> tuple[list[Row], str]:
    """A page of the jobs that a person may see, newest first, and the next page's token (empty at the end).

    Raises InvalidArgument for a page size or a token that is none of this filter.
    """
    columns = [column for column in jobs.c if column.name != "results"]
    statement = sa.select(*columns).join(sessions).where(authorization.sees(person), jobs.c.deleted_at.is_(None))
    if session_id:
        statement = statement.where(jobs.c.session_id == parse_id(session_id))
    if status:
        statement = statement.where(jobs.c.status == status)
    filtered = f"{person.subject} {session_id} {status}"
    return await pagination.read(connection, statement, jobs, size=size, token=page_token, filtered=filtered)
