"""Jobs in the database: reading them, and the one function that moves them from state to state."""

import hashlib
import re
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services import errors
from services.auth import Person
from services.jobs import pages, rights, states
from services.jobs.database import parse_id
from services.jobs.schema import jobs, sessions

Row = sa.RowMapping


async def get(connection: AsyncConnection, job_id: str | UUID, *, lock: bool = False) -> Row:
    """One job. `lock` holds its row until the transaction ends: whoever changes a job or its launches holds it first.

    Raises NotFound.
    """
    key = job_id if isinstance(job_id, UUID) else parse_id(job_id)
    statement = sa.select(jobs).where(jobs.c.id == key)
    row = (await connection.execute(statement.with_for_update() if lock else statement)).mappings().one_or_none()
    if row is None:
        raise errors.NotFound("Analysis job not found", reason="JOB_NOT_FOUND")
    return row


async def get_for(connection: AsyncConnection, job_id: str, person: Person) -> Row:
    """One job that a person may see. Raises NotFound, Denied."""
    owner = (sessions.c.owner_type, sessions.c.owner_id)
    living = sessions.c.deleted_at.is_(None) & jobs.c.deleted_at.is_(None)
    statement = sa.select(jobs, *owner).join(sessions).where(jobs.c.id == parse_id(job_id), living)
    row = (await connection.execute(statement)).mappings().one_or_none()
    if row is None:
        raise errors.NotFound("Analysis job not found", reason="JOB_NOT_FOUND")
    if not rights.may_see(person, row["owner_type"], row["owner_id"]):
        raise errors.Denied("You don't have access to this job", reason="JOB_ACCESS_DENIED")
    return row


async def move(connection: AsyncConnection, job: Row, to: str, **values: Any) -> Row:
    """Moves a job to a state that the table allows from where it is. Raises Refused where no row moved."""
    results_stage = values.get("results_stage", job["results_stage"])
    values["stage"] = states.stage(to, results_stage)
    progress = states.progress(to, results_stage)
    if progress is not None:
        values["progress_pct"] = progress
    statement = (
        sa.update(jobs)
        .where(jobs.c.id == job["id"], jobs.c.status.in_(states.SOURCES[to]))
        .values(status=to, **values)
        .returning(*jobs.c)
    )
    row = (await connection.execute(statement)).mappings().one_or_none()
    if row is None:
        raise errors.Refused(f"A job in status {job['status']} cannot become {to}", reason="WRONG_STATE")
    return row


def afresh(job: Row) -> dict[str, Any]:
    """What a failed job is queued again with: no fault and no delay, and every cause of failure has its tries anew."""
    cleared = {"failure_code": "", "error_message": "", "not_before": None, "memory_factor": 1.0}
    return cleared | {"retries_from_launch": job["launch_count"]}


def check_verified(job: Row) -> None:
    """Raises Refused for a job whose video nobody has verified."""
    if not job["etag"]:
        message = "The job has no verified video: complete the upload with CompleteUpload"
        raise errors.Refused(message, reason="UPLOAD_NOT_VERIFIED")


def check_open(job: Row) -> None:
    """Raises Refused for a job that waits for no video."""
    if job["status"] not in (states.AWAITING_UPLOAD, states.FAILED):
        raise errors.Refused(f"Cannot complete upload for job in status: {job['status']}", reason="WRONG_STATE")
    if job["cleared_at"] is not None:
        message = "The upload was given up and what came of it was cleared away: initiate another"
        raise errors.Refused(message, reason="UPLOAD_CLEARED")


_UPLOAD = ("sample_fps", "include_frames", "accelerator", "athlete_box", "content_type", "content_length", "sha256")
_REANALYSIS = ("sample_fps", "include_frames", "accelerator")


async def create(connection: AsyncConnection, session: Row, values: dict[str, Any]) -> Row:
    """Adds a job that awaits its upload, or finds the one that the same person made with the same request_id.

    Raises Exists where that one has other content.
    """
    return await _create(connection, session, states.AWAITING_UPLOAD, values | {"source_job_id": None}, _UPLOAD)


async def create_again(connection: AsyncConnection, session: Row, source: Row, values: dict[str, Any]) -> Row:
    """Adds a queued job on the pinned video of another, or finds the one made with the same request_id, as `create`."""
    pinned = ("s3_bucket", "s3_key", "content_type", "content_length", "etag", "version_id", "sha256")
    in_parts = ("part_bytes", "parts_sha256")
    names = (*pinned, *in_parts, "athlete_box", *_REANALYSIS)
    copied = {name: source[name] for name in names} | {"source_job_id": source["id"]}
    return await _create(connection, session, states.QUEUED, copied | values, _REANALYSIS)


async def _create(
    connection: AsyncConnection, session: Row, status: str, values: dict[str, Any], same: tuple[str, ...]
) -> Row:
    statement = (
        sa.dialects.postgresql.insert(jobs)
        .values(session_id=session["id"], status=status, stage=states.STAGES[status], **values)
        .on_conflict_do_nothing(index_elements=["created_by", "request_id"], index_where=jobs.c.request_id.is_not(None))
        .returning(*jobs.c)
    )
    row = (await connection.execute(statement)).mappings().one_or_none()
    if row is not None:
        return row
    again = (jobs.c.created_by == values["created_by"]) & (jobs.c.request_id == values["request_id"])
    row = (await connection.execute(sa.select(jobs).where(again))).mappings().one()
    if row["session_id"] != session["id"] or any(row[name] != values[name] for name in ("source_job_id", *same)):
        raise errors.Exists("request_id was used for another job", reason="REQUEST_ID_REUSED")
    if row["deleted_at"] is not None or row["cleared_at"] is not None:
        message = "The job of this request_id was given up or deleted: use another request_id"
        raise errors.Refused(message, reason="UPLOAD_CLEARED")
    return row


async def record_multipart(connection: AsyncConnection, job: Row, upload_id: str) -> Row:
    """Notes which upload in parts brings the video of a job whose row is held."""
    statement = sa.update(jobs).where(jobs.c.id == job["id"]).values(upload_id=upload_id).returning(*jobs.c)
    return (await connection.execute(statement)).mappings().one()


def video_key(session: Row, video_id: UUID) -> str:
    """Where a video is put. Ids that hold more than letters, digits, - and _ are hashed: no user text enters a key."""
    owner = session["owner_id"]
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", owner):
        owner = "h-" + hashlib.sha256(owner.encode()).hexdigest()[:32]
    return f"coach_plus/{session['owner_type']}/{owner}/{session['id']}/{video_id}/original.mp4"


def artifact_prefix(job: Row, launch_no: int) -> str:
    """Where one launch's artifacts go: beside the video, under the job and the launch, so that no two share a key."""
    return f"{job['s3_key'].rpartition('/')[0]}/analysis/{job['id']}/{launch_no}/"


async def list_for(
    connection: AsyncConnection, person: Person, *, session_id: str, status: str, size: int, page_token: str
) -> tuple[list[Row], str]:
    """A page of the jobs that a person may see, newest first, and the next page's token (empty at the end).

    Raises Invalid for a page size or a token that is none of this filter.
    """
    columns = [column for column in jobs.c if column.name != "results"]
    statement = sa.select(*columns).join(sessions).where(rights.sees(person), jobs.c.deleted_at.is_(None))
    if session_id:
        statement = statement.where(jobs.c.session_id == parse_id(session_id))
    if status:
        statement = statement.where(jobs.c.status == status)
    filtered = f"{person.subject} {session_id} {status}"
    return await pages.read(connection, statement, jobs, size=size, token=page_token, filtered=filtered)
