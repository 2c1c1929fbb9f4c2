"""Lists of sessions and jobs as people look for them. A page takes two queries, whatever its size."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services import naming
from services.auth import User
from services.jobs.domain import authorization, states
from services.jobs.domain.levels import Level, level_of_findings
from services.jobs.domain.records import Job, Session
from services.jobs.domain.states import SessionStatus
from services.jobs.store import pagination
from services.jobs.store import sessions as session_store
from services.jobs.store.database import Connection, Row
from services.jobs.store.rows import read_job, read_session
from services.jobs.store.schema import jobs, players, sessions


@dataclass(frozen=True, slots=True)
class Filter:
    """What a user looks for; an empty field selects all. `player_id` may be a free text."""

    text: str = ""
    player_id: str = ""
    discipline: str = ""
    created_from: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job without its results, with its level. `has_thumbnail`: whether it stored one."""

    job: Job
    level: Level
    has_thumbnail: bool

    @property
    def id(self) -> UUID:
        return self.job.id

    @property
    def created_at(self) -> datetime:
        return self.job.created_at


@dataclass(frozen=True, slots=True)
class FoundSession:
    """A session with the number of its jobs, and the ids of the job to show and of the newest one with a result."""

    session: Session
    status: SessionStatus
    job_count: int
    shown_id: UUID | None
    report_id: UUID | None

    @property
    def id(self) -> UUID:
        return self.session.id

    @property
    def created_at(self) -> datetime:
        return self.session.created_at


_OF_SESSION = "FROM video_analysis_jobs WHERE session_id = video_sessions.id AND video_analysis_jobs.deleted_at IS NULL"
_COUNT = f"(SELECT count(*) {_OF_SESSION}) AS job_count"
# An anonymous copy is for readers of a share; its owner reads the original.
_NAMED_FIRST = "coalesce(video_analysis_jobs.anonymous, false)"
_LIVE = ", ".join(f"'{status}'" for status in sorted(states.LAUNCHED))
_SHOWN = f"""(
    SELECT id {_OF_SESSION} ORDER BY CASE WHEN status IN ({_LIVE}) THEN 0 WHEN status = '{states.DONE}' THEN 1
        WHEN status = '{states.FAILED}' THEN 2 ELSE 3 END, {_NAMED_FIRST}, created_at DESC LIMIT 1) AS shown_id"""
_NEWEST_REPORT = f"{_OF_SESSION} AND results_stage IS NOT NULL ORDER BY {_NAMED_FIRST}, created_at DESC LIMIT 1"
_REPORT = f"(SELECT id {_NEWEST_REPORT}) AS report_id"
_REPORT_DISCIPLINE = f"coalesce(nullif((SELECT video_analysis_jobs.discipline {_NEWEST_REPORT}), ''), discipline)"
_JOB_DISCIPLINE = "coalesce(nullif(video_analysis_jobs.discipline, ''), video_sessions.discipline)"
# Results from before the column `level`; such a list has to read them.
_FINDINGS = "CASE WHEN level = '' THEN results -> 'findings' END AS findings"
_JOB_COLUMNS = [column for column in jobs.c if column.name != "results"]


async def sessions_page(
    connection: Connection, user: User, wanted: Filter, *, size: int, page_token: str
) -> pagination.Page[FoundSession]:
    """A page of the sessions that a user may see, newest first. Raises InvalidArgument."""
    columns = (session_store.PLAYERS, session_store.DECIDING, _COUNT, _SHOWN, _REPORT)
    shown: list[sa.ColumnElement[Any]] = [sa.literal_column(column) for column in columns]
    statement = sa.select(sessions, *shown).where(*_conditions(user, wanted, sessions, _REPORT_DISCIPLINE))
    return await pagination.read_page(
        connection,
        _read_session,
        statement,
        pagination.visible_to(user, sessions),
        pagination.newest(sessions),
        size=size,
        token=page_token,
        filtered=f"{authorization.actor(user)} search sessions {wanted}",
    )


async def jobs_page(
    connection: Connection,
    user: User,
    wanted: Filter,
    *,
    statuses: Collection[str],
    first_id: UUID | None,
    last_id: UUID | None,
    size: int,
    page_token: str,
) -> pagination.Page[FoundJob]:
    """A page of the jobs that a user may see, newest first. Raises InvalidArgument.

    first_id, last_id: the range of ids, or None.
    """
    statement = sa.select(*_JOB_COLUMNS, sa.literal_column(_FINDINGS)).join(sessions)
    statement = statement.where(jobs.c.deleted_at.is_(None), *_conditions(user, wanted, jobs, _JOB_DISCIPLINE))
    if statuses:
        statement = statement.where(jobs.c.status.in_(sorted(statuses)))
    if first_id and last_id:
        statement = statement.where(jobs.c.id.between(first_id, last_id))
    return await pagination.read_page(
        connection,
        _read_job,
        statement,
        pagination.visible_to(user, jobs),
        pagination.newest(jobs),
        size=size,
        token=page_token,
        filtered=f"{authorization.actor(user)} search jobs {wanted} {sorted(statuses)} {first_id}",
    )


async def jobs_by_id(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, FoundJob]:
    """Jobs by their ids; the last query of a transaction."""
    statement = sa.select(*_JOB_COLUMNS, sa.literal_column(_FINDINGS)).where(jobs.c.id.in_(list(ids)))
    return {found.id: found for found in await connection.records(_read_job, statement, commit=True)}


async def sessions_by_id(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, tuple[Session, SessionStatus]]:
    """Sessions with their statuses, by their ids; the last query of a transaction."""
    return {session.id: (session, status) for session, status in await session_store.described(connection, ids)}


def _conditions(user: User, wanted: Filter, listed: sa.Table, discipline: str) -> list[sa.ColumnElement[bool]]:
    """The conditions of a list on `listed`. discipline: the SQL of the discipline that the list shows."""
    found: list[sa.ColumnElement[bool]] = [sessions.c.deleted_at.is_(None)]
    if wanted.text:
        named = sa.select(players.c.id).where(
            sa.or_(*pagination.visible_to(user, players)),
            players.c.name_key.contains(pagination.name_key(wanted.text), autoescape=True),
        )
        free_texts = sa.func.array_to_string(sessions.c.player_ids, " ")
        texts = [
            column.icontains(wanted.text, autoescape=True)
            for column in (sessions.c.title, sessions.c.notes, free_texts)
        ]
        found.append(sa.or_(*texts, sessions.c.player_ids.overlap(sa.func.array(named.scalar_subquery()))))
    if wanted.player_id:
        found.append(sessions.c.player_ids.contains([wanted.player_id]))
    if wanted.discipline:
        found.append(sa.literal_column(discipline, sa.Text) == wanted.discipline)
    if wanted.created_from is not None:
        found.append(listed.c.created_at >= wanted.created_from)
    if wanted.created_before is not None:
        found.append(listed.c.created_at < wanted.created_before)
    return found


def _read_session(row: Row) -> FoundSession:
    status = session_store.read_status(row)
    return FoundSession(read_session(row), status, row["job_count"], row["shown_id"], row["report_id"])


def _read_job(row: Row) -> FoundJob:
    job = read_job(row)
    level = Level(row["level"]) or level_of_findings(row["findings"])
    return FoundJob(job, level, any(artifact.name == naming.THUMBNAIL for artifact in job.artifacts))
