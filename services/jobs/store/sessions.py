"""Sessions in the database. Their status is never stored: it is read from their jobs.

A deleted session keeps its row and reads as if it were not there. Whoever adds a job to a session, or queues one of
its jobs, holds the session first: deleting it waits for them, or they find it gone.
"""

from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from services import errors
from services.auth import Person
from services.jobs.domain import authorization, states
from services.jobs.store import jobs as job_rows
from services.jobs.store import pagination
from services.jobs.store.database import Connection, Now, Row, assignments, parse_id
from services.jobs.store.schema import sessions

# What a session shows for its deciding job.
_SHOWS = {
    states.QUEUED: "uploaded",
    states.QUICK_RUNNING: "processing",
    states.QUICK_DONE: "processing",
    states.DEEP_RUNNING: "processing",
    states.DONE: "ready",
    states.FAILED: "failed",
}


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in sorted(words))


async def create(connection: Connection, person: Person, values: dict[str, Any]) -> Row:
    """Adds a session; an `org_pro`'s belongs to their organisation."""
    org = person.role == "org_pro" and person.organisation_id != ""
    owner = ("org", person.organisation_id) if org else ("coach", person.subject)
    values |= {"id": uuid4(), "owner_type": owner[0], "owner_id": owner[1], "created_by": person.subject}
    columns = (", ".join(values), ", ".join(f"%({name})s" for name in values))
    [row] = await connection.rows(_INSERT.format(*columns), last=True, **values)
    return row


_INSERT = "INSERT INTO video_sessions ({}) VALUES ({}) RETURNING *"
_LIVING = "id = %(id)s AND deleted_at IS NULL"
_GET = f"SELECT * FROM video_sessions WHERE {_LIVING}"
# The status of the job that decides what its session shows: the newest live one, else the newest done, else the newest
# failed.
_DECIDING = f"""(
    SELECT status FROM video_analysis_jobs
    WHERE session_id = video_sessions.id AND video_analysis_jobs.deleted_at IS NULL AND status IN ({_listed(_SHOWS)})
    ORDER BY CASE WHEN status IN ({_listed(states.LAUNCHED)}) THEN 0 WHEN status = '{states.DONE}' THEN 1 ELSE 2 END,
        created_at DESC LIMIT 1) AS deciding"""
_SHOWN = f"SELECT *, {_DECIDING} FROM video_sessions WHERE {_LIVING}"
_STATUSES = f"SELECT id, {_DECIDING} FROM video_sessions WHERE id = ANY (%(ids)s)"


async def get(connection: Connection, session_id: str | UUID) -> Row:
    """One session. Raises NotFound."""
    return _found(await connection.row(_GET, id=_key(session_id)))


async def hold(connection: Connection, session_id: str | UUID) -> Row:
    """One session, which can't be deleted until the transaction ends. Raises NotFound."""
    return _found(await connection.row(f"{_GET} FOR SHARE", id=_key(session_id)))


async def lock(connection: Connection, session_id: str | UUID) -> Row:
    """One session, which nobody else can change or hold until the transaction ends. Raises NotFound.

    Its key stays as it is: PostgreSQL makes sure of a job's session where the job is written twice, when whoever ends
    its launch holds the job already and must not wait here.
    """
    return _found(await connection.row(f"{_GET} FOR NO KEY UPDATE", id=_key(session_id)))


def _key(session_id: str | UUID) -> UUID | None:
    return session_id if isinstance(session_id, UUID) else parse_id(session_id)


def _found(row: Row | None) -> Row:
    if row is None:
        raise errors.NotFound("Video session not found", reason="SESSION_NOT_FOUND")
    return row


async def get_for(connection: Connection, session_id: str, person: Person) -> Row:
    """One session that a person may see. Raises NotFound, PermissionDenied."""
    return _seen(await get(connection, session_id), person)


async def hold_for(connection: Connection, session_id: str, person: Person) -> Row:
    """One session that a person may see, held. Raises NotFound, PermissionDenied."""
    return _seen(await hold(connection, session_id), person)


def _seen(row: Row, person: Person) -> Row:
    if not authorization.may_see(person, row["owner_type"], row["owner_id"]):
        raise errors.PermissionDenied("You don't have access to this session", reason="SESSION_ACCESS_DENIED")
    return row


async def list_for(connection: Connection, person: Person, *, size: int, page_token: str) -> tuple[list[Row], str]:
    """A page of the sessions that a person may see, newest first, and the next page's token (empty at the end).

    Raises InvalidArgument for a page size or a token that is none of this list.
    """
    statement = sa.select(sessions).where(authorization.sees(person))
    filtered = f"{person.subject} sessions"
    return await pagination.read(connection, statement, sessions, size=size, token=page_token, filtered=filtered)


async def update(connection: Connection, session: Row, values: dict[str, Any]) -> Row:
    """Writes columns of a session. Raises NotFound where it was deleted meanwhile."""
    columns, sent = assignments(values | {"updated_at": Now()})
    statement = f"UPDATE video_sessions SET {columns} WHERE {_LIVING} RETURNING *"
    return _found(await connection.row(statement, id=session["id"], **sent))


async def delete(connection: Connection, session: Row) -> None:
    """Deletes a session that is locked, with its jobs. Raises FailedPrecondition while one of them is queued or runs."""
    rows = await connection.rows(_LOCK_JOBS, id=session["id"])
    if any(row["status"] in states.LAUNCHED for row in rows):
        message = "The session has an analysis that is queued or running: cancel it first, or wait"
        raise errors.FailedPrecondition(message, reason="SESSION_HAS_LIVE_JOBS")
    for row in rows:
        if row["status"] == states.AWAITING_UPLOAD:
            await job_rows.move(connection, row, states.CANCELLED)
    await connection.run(_DELETE_JOBS, id=session["id"])
    await connection.run("UPDATE video_sessions SET deleted_at = clock_timestamp() WHERE id = %(id)s", id=session["id"])


_DELETE_JOBS = """
    UPDATE video_analysis_jobs SET deleted_at = clock_timestamp() WHERE session_id = %(id)s AND deleted_at IS NULL
"""
_LOCK_JOBS = "SELECT * FROM video_analysis_jobs WHERE session_id = %(id)s ORDER BY id FOR UPDATE"


async def shown(connection: Connection, session_id: UUID, *, last: bool = False) -> tuple[Row, str]:
    """One session and its status. Raises NotFound."""
    row = _found(await connection.row(_SHOWN, id=session_id, last=last))
    return row, _status(row)


async def statuses(connection: Connection, session_ids: Iterable[UUID]) -> dict[UUID, str]:
    """What sessions show."""
    return {row["id"]: _status(row) for row in await connection.rows(_STATUSES, ids=list(session_ids))}


def _status(row: Row) -> str:
    return _SHOWS.get(row["deciding"], "pending")
