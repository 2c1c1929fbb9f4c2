"""The library: every session, newest first, by what a coach looks for."""

from starlette.requests import Request
from starlette.responses import Response

from crease.jobs.v1.library_pb2 import Level, LibraryFilter, SearchSessionsRequest
from crease.jobs.v1.session_pb2 import Discipline
from services import naming
from services.web import html, visit

PAGE_SIZE = 50
LONGEST_SEARCH = 100
LEVELS = {"LEVEL_LOW": "low", "LEVEL_MEDIUM": "medium", "LEVEL_HIGH": "high", "LEVEL_NOT_ASSESSED": "not assessed"}


async def library(request: Request) -> Response:
    """One page of sessions that match."""
    visiting = await visit.begin(request)
    calls, asked = visiting.calls, request.query_params
    text, discipline = asked.get("text", "")[:LONGEST_SEARCH], asked.get("discipline", "")
    wanted = LibraryFilter(text=text)
    if discipline in naming.DISCIPLINES:
        wanted.discipline = Discipline.Value(f"DISCIPLINE_{discipline.upper()}")
    found = await calls.call(
        calls.stubs.library.SearchSessions,
        SearchSessionsRequest(filter=wanted, page_size=PAGE_SIZE, page_token=asked.get("after", "")),
    )
    return html.page(
        "library.html",
        entries=[(entry, LEVELS.get(Level.Name(entry.level), "")) for entry in found.sessions],
        text=text,
        discipline=discipline,
        disciplines=naming.DISCIPLINES,
        next=found.next_page_token,
    )
