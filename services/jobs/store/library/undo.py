"""Deletions that can be undone for a while.

deleted, undoable ─▶ hidden: every call reads NOT_FOUND, nothing is removed ─┬─▶ undeleted: as before
                                                                             └─▶ `undo_until` has passed ─▶ erased

`sessions.delete`, `object_cleanup.delete` and `players.delete` hide. Expiry erases here what people wrote and what was
measured, and the cleanup then finds the S3 objects due. A row is brought back only under its lock and before
`undo_until`; expiry and cleanup take it only afterwards.
"""

from dataclasses import replace

from services.auth import User
from services.jobs.domain import authorization
from services.jobs.domain.limits import Quotas
from services.jobs.domain.records import Job, Player
from services.jobs.store import jobs, quotas, sessions
from services.jobs.store.database import Connection, Row, assignments, parse_id
from services.jobs.store.library import players
from services.jobs.store.rows import read_job, read_owner, read_player

BATCH = 100


async def undelete_session(connection: Connection, session_id: str, user: User, limits: Quotas) -> None:
    """Brings back a session with the jobs that were deleted with it; one that is not deleted stays as it is.

    Raises NotFound, PermissionDenied, and InvalidArgument if the videos would exceed the owner's quota of bytes.
    """
    row = await connection.row(_LOCK_SESSION, id=parse_id(session_id))
    if row is None or not _can_be_seen(row):
        raise sessions.not_found()
    sessions.check_visible(user, read_owner(row))
    if row["deleted_at"] is None:
        return
    locked = await connection.records(read_job, _LOCK_JOBS, session_id=row["id"], undo_until=row["undo_until"])
    if not await connection.value(_IS_OPEN, undo_until=row["undo_until"]):
        raise sessions.not_found()
    actor = authorization.actor(user)
    await connection.run(_UNDELETE_SESSION, id=row["id"], acted_by=actor)
    await connection.run(_UNDELETE_JOBS, ids=[job.id for job in locked], acted_by=actor)
    if locked:
        await _check_bytes(connection, locked[0], limits, "session_id")


async def undelete_job(connection: Connection, job_id: str, user: User, limits: Quotas) -> None:
    """Brings back a job of a session that is not deleted. Raises as `undelete_session`."""
    row = await connection.row(_LOCK_JOB, id=parse_id(job_id))
    if row is None or not _can_be_seen(row):
        raise jobs.not_found()
    jobs.check_visible(user, read_owner(row))
    if row["deleted_at"] is None:
        return
    if not await connection.value(_IS_OPEN, undo_until=row["undo_until"]):
        raise jobs.not_found()
    await connection.run(_UNDELETE_JOBS, ids=[row["id"]], acted_by=authorization.actor(user))
    await _check_bytes(connection, read_job(row), limits, "job_id")


async def undelete_player(connection: Connection, player_id: str, user: User) -> Player:
    """Brings back a player, and its id in the sessions that named it. Raises NotFound, PermissionDenied."""
    row = await connection.row(_LOCK_PLAYER, id=str(parse_id(player_id)))
    if row is None:
        raise players.not_found()
    player = read_player(row)
    players.check_visible(user, player)
    if row["undo_until"] is None:
        return player
    if not await connection.value(_IS_OPEN, undo_until=row["undo_until"]):
        raise players.not_found()
    await connection.run(_NAME_AGAIN, id=player.id, sessions=row["undo_sessions"])
    await connection.run(_UNDELETE_PLAYER, id=player.id)
    return player


def _can_be_seen(row: Row) -> bool:
    return row["deleted_at"] is None or row["undo_until"] is not None


async def _check_bytes(connection: Connection, job: Job, limits: Quotas, field: str) -> None:
    await quotas.check(connection, job, replace(limits, jobs_in_flight=0), bytes_field=field)


_LOCK_SESSION = "SELECT * FROM video_sessions WHERE id = %(id)s FOR NO KEY UPDATE"
_LOCK_JOBS = """
    SELECT * FROM video_analysis_jobs WHERE session_id = %(session_id)s AND undo_until = %(undo_until)s
    ORDER BY id FOR UPDATE
"""
_LOCK_JOB = """
    SELECT job.*, session.owner_type, session.owner_id FROM video_analysis_jobs AS job
    JOIN video_sessions AS session ON session.id = job.session_id
    WHERE job.id = %(id)s AND session.deleted_at IS NULL FOR SHARE OF session FOR UPDATE OF job
"""
_LOCK_PLAYER = "SELECT * FROM players WHERE id = %(id)s FOR UPDATE"
# Not in a session that was erased meanwhile. In the order of ids, as players.delete locks them.
_NAME_AGAIN = """
    UPDATE video_sessions SET player_ids = array_append(player_ids, %(id)s), updated_at = clock_timestamp()
    WHERE id IN (
        SELECT id FROM video_sessions WHERE id = ANY (%(sessions)s) AND NOT player_ids @> ARRAY[%(id)s]
          AND (deleted_at IS NULL OR undo_until IS NOT NULL) ORDER BY id FOR NO KEY UPDATE)
"""
_UNDELETE_PLAYER = "UPDATE players SET undo_until = NULL, undo_sessions = NULL WHERE id = %(id)s"
_IS_OPEN = "SELECT clock_timestamp() < %(undo_until)s"
_UNDELETE_SESSION = """
    UPDATE video_sessions SET deleted_at = NULL, undo_until = NULL, acted_by = %(acted_by)s WHERE id = %(id)s
"""
_UNDELETE_JOBS = """
    UPDATE video_analysis_jobs SET deleted_at = NULL, undo_until = NULL, acted_by = %(acted_by)s
    WHERE id = ANY (%(ids)s)
"""


async def erase(connection: Connection) -> int:
    """Erases at most BATCH sessions, jobs and players whose deletion cannot be undone any more; returns how many."""
    erased = await connection.run(_ERASE_SESSIONS) + await connection.run(_ERASE_PLAYERS)
    columns, sent = assignments(jobs.FORGOTTEN)
    return erased + await connection.run(_ERASE_JOBS.format(columns), commit=True, **sent)


_DUE = f"undo_until <= clock_timestamp() ORDER BY undo_until LIMIT {BATCH} FOR UPDATE SKIP LOCKED"
_ERASE_SESSIONS = f"""
    UPDATE video_sessions SET {sessions.FORGOTTEN}, undo_until = NULL
    WHERE id IN (SELECT id FROM video_sessions WHERE {_DUE})
"""
_ERASE_PLAYERS = f"DELETE FROM players WHERE id IN (SELECT id FROM players WHERE {_DUE})"
_ERASE_JOBS = f"""
    UPDATE video_analysis_jobs SET {{}}, undo_until = NULL
    WHERE id IN (SELECT id FROM video_analysis_jobs WHERE {_DUE})
"""
