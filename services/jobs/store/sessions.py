"""Sessions in the database. A session's status is never stored: it follows from its jobs.

A deleted session reads as not found; its row stays a while, without what people wrote. A transaction that adds a job
to a session, or queues one of its jobs, locks the session FOR SHARE first: a deletion waits for it, or it finds the
session deleted.
"""

from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from services import errors
from services.auth import User
from services.jobs.domain import authorization, states
from services.jobs.domain.records import Owner, Session
from services.jobs.domain.states import SessionStatus
from services.jobs.store import jobs as job_store
from services.jobs.store import pagination
from services.jobs.store.database import Connection, Now, Record, Row, assignments, parse_id
from services.jobs.store.rows import read_job, read_owner, read_session
from services.jobs.store.schema import sessions


def _quoted(texts: Iterable[str]) -> str:
    return ", ".join(f"'{text}'" for text in sorted(texts))


async def create(connection: Connection, user: User, values: dict[str, Any]) -> Session:
    """Adds a session with these columns; an `org_pro`'s belongs to their organisation.

    Returns the session that the same user made with the same request_id. Raises AlreadyExists if that request_id was
    used with other content, FailedPrecondition if its session is deleted.
    """
    owner, actor = authorization.owner_of_new_session(user), authorization.actor(user)
    values |= {"id": uuid4(), "owner_type": owner.type, "owner_id": owner.id, "created_by": actor, "acted_by": actor}
    columns = (", ".join(values), ", ".join(f"%({name})s" for name in values))
    session = await connection.record(read_session, _INSERT.format(*columns), commit=True, **values)
    if session is not None:
        return session
    [row] = await connection.rows(_SAME_REQUEST, **values)
    if row["deleted_at"] is not None:
        message = "The session of this request_id was deleted: use another request_id"
        raise errors.FailedPrecondition(message, reason="SESSION_DELETED")
    if row["request_sha256"] != values["request_sha256"] or read_owner(row) != owner:
        raise errors.AlreadyExists("request_id was used for another session", reason="REQUEST_ID_REUSED")
    return read_session(row)


# The owner's players whom the session names, in its order.
PLAYERS = """(
    SELECT json_agg(player ORDER BY array_position(video_sessions.player_ids, player.id)) FROM players AS player
    WHERE player.id = ANY (video_sessions.player_ids)
      AND player.owner_type = video_sessions.owner_type AND player.owner_id = video_sessions.owner_id) AS players"""
_INSERT = f"""
    INSERT INTO video_sessions ({{}}) VALUES ({{}})
    ON CONFLICT (created_by, request_id) WHERE request_id IS NOT NULL DO NOTHING RETURNING *, {PLAYERS}
"""
_SAME_REQUEST = f"""
    SELECT *, {PLAYERS} FROM video_sessions WHERE created_by = %(created_by)s AND request_id = %(request_id)s
"""
_EXISTS = "id = %(id)s AND deleted_at IS NULL"
_GET = f"SELECT *, {PLAYERS} FROM video_sessions WHERE {_EXISTS}"
# The status of the job that decides for its session: the newest live one, else the newest done one, else the newest
# failed one.
DECIDING = f"""(
    SELECT status FROM video_analysis_jobs
    WHERE session_id = video_sessions.id AND video_analysis_jobs.deleted_at IS NULL
      AND status IN ({_quoted(states.SESSION_STATUSES)})
    ORDER BY CASE WHEN status IN ({_quoted(states.LAUNCHED)}) THEN 0 WHEN status = '{states.DONE}' THEN 1 ELSE 2 END,
        created_at DESC LIMIT 1) AS deciding"""
_GET_WITH_STATUS = f"SELECT *, {PLAYERS}, {DECIDING} FROM video_sessions WHERE {_EXISTS}"
_DESCRIBED = f"SELECT *, {PLAYERS}, {DECIDING} FROM video_sessions WHERE id = ANY (%(ids)s)"
_STATUSES = f"SELECT id, {DECIDING} FROM video_sessions WHERE id = ANY (%(ids)s)"


async def get(connection: Connection, session_id: str | UUID) -> Session:
    """One session. Raises NotFound."""
    return _found(await connection.record(read_session, _GET, id=_key(session_id)))


async def get_for_share(connection: Connection, session_id: str | UUID) -> Session:
    """One session, which cannot be deleted until the transaction ends. Raises NotFound."""
    return _found(await connection.record(read_session, f"{_GET} FOR SHARE", id=_key(session_id)))


async def get_for_update(connection: Connection, session_id: str | UUID) -> Session:
    """One session, locked against changes and against `get_for_share` until the transaction ends. Raises NotFound.

    The lock is NO KEY UPDATE. PostgreSQL checks a job's foreign key if the job is written twice in a transaction; the
    transaction that ends a launch holds the job by then, and a stronger lock would make it wait here.
    """
    return _found(await connection.record(read_session, f"{_GET} FOR NO KEY UPDATE", id=_key(session_id)))


def _key(session_id: str | UUID) -> UUID | None:
    return session_id if isinstance(session_id, UUID) else parse_id(session_id)


def _found(found: Record | None) -> Record:
    if found is None:
        raise not_found()
    return found


def not_found() -> errors.NotFound:
    """The error for a session that does not exist or is deleted."""
    return errors.NotFound("Video session not found", reason="SESSION_NOT_FOUND")


async def get_visible(connection: Connection, session_id: str, user: User) -> Session:
    """One session that a user may see. Raises NotFound, PermissionDenied."""
    return _visible(await get(connection, session_id), user)


async def get_visible_for_share(connection: Connection, session_id: str, user: User) -> Session:
    """One session that a user may see, locked against deletion. Raises NotFound, PermissionDenied."""
    return _visible(await get_for_share(connection, session_id), user)


def _visible(session: Session, user: User) -> Session:
    check_visible(user, session.owner)
    return session


def check_visible(user: User, owner: Owner) -> None:
    """Raises PermissionDenied if a user may not see the sessions of an owner."""
    if not authorization.may_see(user, owner):
        raise errors.PermissionDenied("You don't have access to this session", reason="SESSION_ACCESS_DENIED")


async def list_visible(connection: Connection, user: User, *, size: int, page_token: str) -> pagination.Page[Session]:
    """A page of the sessions that a user may see, newest first.

    Raises InvalidArgument for a negative page size or the token of another list.
    """
    statement = sa.select(sessions, sa.literal_column(PLAYERS)).where(sessions.c.deleted_at.is_(None))
    owned = pagination.visible_to(user, sessions)
    filtered = f"{authorization.actor(user)} sessions"
    return await pagination.read_page(
        connection,
        read_session,
        statement,
        owned,
        pagination.newest(sessions),
        size=size,
        token=page_token,
        filtered=filtered,
    )


async def update(connection: Connection, session: Session, values: dict[str, Any]) -> Session:
    """Writes columns of a session. Raises NotFound if it was deleted in the meantime."""
    columns, sent = assignments(values | {"updated_at": Now()})
    statement = f"UPDATE video_sessions SET {columns} WHERE {_EXISTS} RETURNING *"
    return _found(await connection.record(read_session, statement, id=session.id, **sent))


async def delete(connection: Connection, session: Session, actor: str, *, undoable: bool = False) -> None:
    """Deletes a session that is locked for update, with its jobs. `actor`: the user who deletes it.

    undoable: hides both for UNDO_SECONDS first.

    Raises FailedPrecondition while one of its jobs is queued or runs.
    """
    jobs = await connection.records(read_job, _LOCK_JOBS, id=session.id)
    if any(job.status in states.LAUNCHED for job in jobs):
        message = "The session has an analysis that is queued or running: cancel it first, or wait"
        raise errors.FailedPrecondition(message, reason="SESSION_HAS_LIVE_JOBS")
    for job in jobs:
        if job.status == states.AWAITING_UPLOAD:
            await job_store.move(connection, job, states.CANCELLED)
    if undoable:
        undo_until = await connection.value(_HIDE, id=session.id, acted_by=actor, seconds=job_store.UNDO_SECONDS)
        changed: dict[str, Any] = {"undo_until": undo_until}
    else:
        await connection.run(_DELETE, id=session.id, acted_by=actor)
        changed = job_store.FORGOTTEN
    columns, sent = assignments(changed | {"acted_by": actor})
    await connection.run(_DELETE_JOBS.format(columns), id=session.id, **sent)


_DELETE_JOBS = """
    UPDATE video_analysis_jobs SET deleted_at = clock_timestamp(), {} WHERE session_id = %(id)s AND deleted_at IS NULL
"""
# A deleted session keeps nothing that people wrote.
FORGOTTEN = "title = '', notes = '', player_ids = '{}', request_sha256 = ''"
_DELETE = f"""
    UPDATE video_sessions SET deleted_at = clock_timestamp(), acted_by = %(acted_by)s, {FORGOTTEN} WHERE id = %(id)s
"""
_HIDE = """
    UPDATE video_sessions SET deleted_at = clock_timestamp(), acted_by = %(acted_by)s,
        undo_until = clock_timestamp() + %(seconds)s * interval '1 second'
    WHERE id = %(id)s RETURNING undo_until
"""
_LOCK_JOBS = "SELECT * FROM video_analysis_jobs WHERE session_id = %(id)s ORDER BY id FOR UPDATE"


async def get_with_status(
    connection: Connection, session_id: UUID, *, commit: bool = False
) -> tuple[Session, SessionStatus]:
    """One session and its status. Raises NotFound."""
    row = _found(await connection.row(_GET_WITH_STATUS, id=session_id, commit=commit))
    return read_session(row), read_status(row)


async def statuses(connection: Connection, session_ids: Iterable[UUID]) -> dict[UUID, SessionStatus]:
    """The statuses of sessions, by their ids."""
    return {row["id"]: read_status(row) for row in await connection.rows(_STATUSES, ids=list(session_ids))}


async def described(connection: Connection, session_ids: Iterable[UUID]) -> list[tuple[Session, SessionStatus]]:
    """Sessions, in any order, each with its status; the last query of a transaction."""
    rows = await connection.rows(_DESCRIBED, commit=True, ids=list(session_ids))
    return [(read_session(row), read_status(row)) for row in rows]


def read_status(row: Row) -> SessionStatus:
    """The status of a session, from a row with DECIDING."""
    deciding = row["deciding"]
    return states.SESSION_STATUSES[deciding] if deciding else SessionStatus.PENDING
