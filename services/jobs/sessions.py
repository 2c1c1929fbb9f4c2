"""Sessions in the database. Their status is never stored: it is read from their jobs.

A deleted session keeps its row and reads as if it were not there. Whoever adds a job to a session, or queues one of
its jobs, holds the session first: deleting it waits for them, or they find it gone.
"""

from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services import errors
from services.auth import Person
from services.jobs import jobs as job_rows
from services.jobs import pages, rights, states
from services.jobs.database import parse_id
from services.jobs.schema import jobs, sessions

Row = sa.RowMapping
_now = sa.func.clock_timestamp()

# What a session shows for its deciding job.
_SHOWS = {
    states.QUEUED: "uploaded",
    states.QUICK_RUNNING: "processing",
    states.QUICK_DONE: "processing",
    states.DEEP_RUNNING: "processing",
    states.DONE: "ready",
    states.FAILED: "failed",
}


async def create(connection: AsyncConnection, person: Person, values: dict[str, Any]) -> Row:
    """Adds a session; an `org_pro`'s belongs to their organisation."""
    org = person.role == "org_pro" and person.organisation_id != ""
    owner = ("org", person.organisation_id) if org else ("coach", person.subject)
    ids = {"id": uuid4(), "owner_type": owner[0], "owner_id": owner[1], "created_by": person.subject}
    result = await connection.execute(sa.insert(sessions).values(**ids, **values).returning(*sessions.c))
    return result.mappings().one()


async def get(connection: AsyncConnection, session_id: str | UUID) -> Row:
    """One session. Raises NotFound."""
    return await _one(connection, _living(session_id))


async def hold(connection: AsyncConnection, session_id: str | UUID) -> Row:
    """One session, which can't be deleted until the transaction ends. Raises NotFound."""
    return await _one(connection, _living(session_id).with_for_update(read=True, key_share=True))


async def lock(connection: AsyncConnection, session_id: str | UUID) -> Row:
    """One session, which nobody else can change or hold until the transaction ends. Raises NotFound."""
    return await _one(connection, _living(session_id).with_for_update())


def _living(session_id: str | UUID) -> sa.Select[Any]:
    key = session_id if isinstance(session_id, UUID) else parse_id(session_id)
    return sa.select(sessions).where(sessions.c.id == key, sessions.c.deleted_at.is_(None))


async def _one(connection: AsyncConnection, statement: sa.Executable) -> Row:
    row = (await connection.execute(statement)).mappings().one_or_none()
    if row is None:
        raise errors.NotFound("Video session not found", reason="SESSION_NOT_FOUND")
    return row


async def get_for(connection: AsyncConnection, session_id: str, person: Person) -> Row:
    """One session that a person may see. Raises NotFound, Denied."""
    return _seen(await get(connection, session_id), person)


async def hold_for(connection: AsyncConnection, session_id: str, person: Person) -> Row:
    """One session that a person may see, held. Raises NotFound, Denied."""
    return _seen(await hold(connection, session_id), person)


def _seen(row: Row, person: Person) -> Row:
    if not rights.may_see(person, row["owner_type"], row["owner_id"]):
        raise errors.Denied("You don't have access to this session", reason="SESSION_ACCESS_DENIED")
    return row


async def list_for(connection: AsyncConnection, person: Person, *, size: int, page_token: str) -> tuple[list[Row], str]:
    """A page of the sessions that a person may see, newest first, and the next page's token (empty at the end).

    Raises Invalid for a page size or a token that is none of this list.
    """
    statement = sa.select(sessions).where(rights.sees(person))
    filtered = f"{person.subject} sessions"
    return await pages.read(connection, statement, sessions, size=size, token=page_token, filtered=filtered)


async def update(connection: AsyncConnection, session: Row, values: dict[str, Any]) -> Row:
    """Writes columns of a session. Raises NotFound where it was deleted meanwhile."""
    statement = (
        sa.update(sessions)
        .where(sessions.c.id == session["id"], sessions.c.deleted_at.is_(None))
        .values(updated_at=_now, **values)
        .returning(*sessions.c)
    )
    return await _one(connection, statement)


async def delete(connection: AsyncConnection, session: Row) -> None:
    """Deletes a session that is locked, with its jobs. Raises Refused while one of them is queued or runs."""
    owned_by = jobs.c.session_id == session["id"]
    owned = sa.select(jobs).where(owned_by).order_by(jobs.c.id).with_for_update()
    rows = list((await connection.execute(owned)).mappings())
    if any(row["status"] in states.LAUNCHED for row in rows):
        message = "The session has an analysis that is queued or running: cancel it first, or wait"
        raise errors.Refused(message, reason="SESSION_HAS_LIVE_JOBS")
    for row in rows:
        if row["status"] == states.AWAITING_UPLOAD:
            await job_rows.move(connection, row, states.CANCELLED)
    await connection.execute(sa.update(jobs).where(owned_by, jobs.c.deleted_at.is_(None)).values(deleted_at=_now))
    await connection.execute(sa.update(sessions).where(sessions.c.id == session["id"]).values(deleted_at=_now))


async def hold_job(connection: AsyncConnection, job_id: str, person: Person) -> Row:
    """One job that a person may change, locked, in a session that is held. Raises NotFound, Denied."""
    job = await job_rows.get_for(connection, job_id, person)
    try:
        await hold(connection, job["session_id"])
    except errors.NotFound:
        raise errors.NotFound("Analysis job not found", reason="JOB_NOT_FOUND") from None
    job = await job_rows.get(connection, job["id"], lock=True)
    if job["deleted_at"] is not None:
        raise errors.NotFound("Analysis job not found", reason="JOB_NOT_FOUND")
    return job


async def status(connection: AsyncConnection, session_id: UUID) -> str:
    """What one session shows."""
    return (await statuses(connection, [session_id]))[session_id]


async def statuses(connection: AsyncConnection, session_ids: Iterable[UUID]) -> dict[UUID, str]:
    """What sessions show: the newest live job decides, else the newest done, else the newest failed; else pending."""
    ids = list(session_ids)
    rank = sa.case((jobs.c.status.in_(states.LAUNCHED), 0), (jobs.c.status == states.DONE, 1), else_=2)
    statement = (
        sa.select(jobs.c.session_id, jobs.c.status)
        .distinct(jobs.c.session_id)
        .where(jobs.c.session_id.in_(ids), jobs.c.status.in_(_SHOWS), jobs.c.deleted_at.is_(None))
        .order_by(jobs.c.session_id, rank, jobs.c.created_at.desc())
    )
    rows = (await connection.execute(statement)).all()
    return dict.fromkeys(ids, "pending") | {session_id: _SHOWS[decides] for session_id, decides in rows}
