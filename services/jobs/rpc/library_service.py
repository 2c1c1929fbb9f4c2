"""LibraryService: people look for their sessions and jobs, and at a player's numbers over time."""

import re
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from crease.jobs.v1 import job_pb2, library_pb2, library_pb2_grpc, session_pb2
from services import errors, naming
from services.authorization import user
from services.jobs.domain import trends
from services.jobs.domain.protobuf import enum_number, timestamp
from services.jobs.domain.records import Session
from services.jobs.domain.states import SessionStatus
from services.jobs.rpc import mapping, validation
from services.jobs.store.database import Database
from services.jobs.store.library import player_history, players, search
from services.jobs.store.library.search import Filter, FoundJob, FoundSession
from services.serving import Context

MAX_TEXT_CHARACTERS = 100
MIN_PREFIX_DIGITS, UUID_DIGITS = 4, 32


class LibraryService(library_pb2_grpc.LibraryServiceServicer):
    def __init__(self, database: Database) -> None:
        self._database = database

    async def SearchSessions(
        self, request: library_pb2.SearchSessionsRequest, context: Context
    ) -> library_pb2.SearchSessionsResponse:
        wanted = _filter(request.filter)
        async with self._database.transaction() as connection:
            page = await search.sessions_page(
                connection, user(), wanted, size=request.page_size, page_token=request.page_token
            )
            ids = {job_id for found in page.records for job_id in (found.shown_id, found.report_id) if job_id}
            jobs = await search.jobs_by_id(connection, ids)
        listed, token = page.messages(lambda found: _session_entry(found, jobs))
        return library_pb2.SearchSessionsResponse(sessions=listed, next_page_token=token)

    async def SearchJobs(
        self, request: library_pb2.SearchJobsRequest, context: Context
    ) -> library_pb2.SearchJobsResponse:
        wanted = _filter(request.filter)
        statuses = {validation.enum("statuses", job_pb2.JobStatus, number) for number in request.statuses} - {""}
        first_id, last_id = _id_range(request.id_prefix)
        async with self._database.transaction() as connection:
            page = await search.jobs_page(
                connection,
                user(),
                wanted,
                statuses=statuses,
                first_id=first_id,
                last_id=last_id,
                size=request.page_size,
                page_token=request.page_token,
            )
            sessions = await search.sessions_by_id(connection, {found.job.session_id for found in page.records})
        listed, token = page.messages(lambda found: _job_entry(found, *sessions[found.job.session_id]))
        return library_pb2.SearchJobsResponse(jobs=listed, next_page_token=token)

    async def GetTrends(self, request: library_pb2.GetTrendsRequest, context: Context) -> library_pb2.GetTrendsResponse:
        discipline = validation.enum("discipline", session_pb2.Discipline, request.discipline)
        async with self._database.transaction() as connection:
            player = await players.get_visible(connection, request.player_id, user())
            discipline = discipline or await player_history.newest_discipline(connection, player)
            history = await player_history.films(connection, player, discipline)
        return library_pb2.GetTrendsResponse(
            discipline=enum_number(session_pb2.Discipline, discipline), trends=trends.trends(history)
        )


def _filter(request: library_pb2.LibraryFilter) -> Filter:
    return Filter(
        text=validation.text("filter.text", request.text, MAX_TEXT_CHARACTERS).strip(),
        player_id=validation.text("filter.player_id", request.player_id, MAX_TEXT_CHARACTERS),
        discipline=validation.enum("filter.discipline", session_pb2.Discipline, request.discipline),
        created_from=_moment("created_from", request),
        created_before=_moment("created_before", request),
    )


def _moment(field: str, request: library_pb2.LibraryFilter) -> datetime | None:
    if not request.HasField(field):  # type: ignore[arg-type] # a name of a field
        return None
    moment: Timestamp = getattr(request, field)
    try:
        return moment.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise errors.InvalidArgument(f"filter.{field}", "must be a time of the years 1 to 9999") from None


def _id_range(prefix: str) -> tuple[UUID, UUID] | tuple[None, None]:
    """The lowest and the highest UUID that begins with a prefix; (None, None) without a prefix."""
    if not prefix:
        return None, None
    digits = prefix.replace("-", "").lower()
    if not re.fullmatch(f"[0-9a-f]{{{MIN_PREFIX_DIGITS},{UUID_DIGITS}}}", digits):
        message = f"must be {MIN_PREFIX_DIGITS} to {UUID_DIGITS} hexadecimal digits"
        raise errors.InvalidArgument("id_prefix", message)
    return UUID(digits.ljust(UUID_DIGITS, "0")), UUID(digits.ljust(UUID_DIGITS, "f"))


def _session_entry(found: FoundSession, jobs: dict[UUID, FoundJob]) -> library_pb2.SessionEntry:
    shown = jobs.get(found.shown_id) if found.shown_id else None
    report = jobs.get(found.report_id) if found.report_id else None
    entry = library_pb2.SessionEntry(
        session=mapping.session(found.session, found.status),
        job=mapping.job(shown.job) if shown else None,
        discipline=_discipline(report, found.session),
        newest_time=timestamp(shown.job.status_since if shown else found.session.created_at),
        job_count=found.job_count,
    )
    if report:
        entry.report_job_id = str(report.id)
        entry.level = enum_number(library_pb2.Level, report.level)
        entry.thumbnail = _thumbnail(report)
    return entry


def _job_entry(found: FoundJob, session: Session, status: SessionStatus) -> library_pb2.JobEntry:
    return library_pb2.JobEntry(
        job=mapping.job(found.job),
        session=mapping.session(session, status),
        level=enum_number(library_pb2.Level, found.level),
        thumbnail=_thumbnail(found),
        discipline=_discipline(found, session),
        newest_time=timestamp(found.job.status_since),
    )


def _thumbnail(found: FoundJob) -> str:
    return naming.THUMBNAIL if found.has_thumbnail else ""


def _discipline(found: FoundJob | None, session: Session) -> "session_pb2.Discipline.ValueType":
    stated = found.job.discipline if found else ""
    number: session_pb2.Discipline.ValueType = enum_number(session_pb2.Discipline, stated or session.discipline)
    return number
