"""The library: every session, newest first, by what a coach looks for."""

import asyncio
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from crease.jobs.v1.library_pb2 import Level, LibraryFilter, SearchSessionsRequest
from crease.jobs.v1.session_pb2 import Discipline
from services import naming
from services.web import html, visit
from services.web.pages.players.names import list_known

PAGE_SIZE = 50
LONGEST_SEARCH = 100
# The times to choose from, by their days.
SPANS = {"7": "The last week", "30": "The last 30 days", "365": "The last year"}
LEVELS = {"LEVEL_LOW": "low", "LEVEL_MEDIUM": "medium", "LEVEL_HIGH": "high", "LEVEL_NOT_ASSESSED": "not assessed"}


async def library(request: Request) -> Response:
    """One page of sessions that match."""
    visiting = await visit.begin(request)
    calls, asked = visiting.calls, request.query_params
    text, discipline = asked.get("text", "")[:LONGEST_SEARCH], asked.get("discipline", "")
    player_id, days = asked.get("player", ""), asked.get("days", "")
    wanted = LibraryFilter(text=text, player_id=visit.as_id(player_id) if player_id else "")
    if days in SPANS:
        wanted.created_from.FromDatetime(datetime.now(UTC) - timedelta(days=int(days)))
    if discipline in naming.DISCIPLINES:
        wanted.discipline = Discipline.Value(f"DISCIPLINE_{discipline.upper()}")
    found, known = await asyncio.gather(
        calls.call(
            calls.stubs.library.SearchSessions,
            SearchSessionsRequest(filter=wanted, page_size=PAGE_SIZE, page_token=asked.get("after", "")),
        ),
        list_known(calls),
    )
    deleted = asked.get("deleted", "")
    chosen = {"text": text, "player": player_id, "discipline": discipline, "days": days}
    return html.page(
        "library.html",
        entries=[(entry, LEVELS.get(Level.Name(entry.level), "")) for entry in found.sessions],
        chosen=chosen,
        disciplines=naming.DISCIPLINES,
        players_known=known,
        spans=SPANS,
        deleted=visit.as_id(deleted) if deleted else "",
        older=urlencode(chosen | {"after": found.next_page_token}) if found.next_page_token else "",
    )
