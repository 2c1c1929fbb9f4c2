"""Players: the list, and one player with each number over time."""

import asyncio
from datetime import datetime
from http import HTTPStatus
from typing import Literal
from uuid import uuid4

from google.protobuf.field_mask_pb2 import FieldMask
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from crease.jobs.v1.library_pb2 import GetTrendsRequest, LibraryFilter, SearchSessionsRequest
from crease.jobs.v1.player_pb2 import (
    DeletePlayerRequest,
    GetPlayerRequest,
    Hand,
    ListPlayersRequest,
    Player,
    UndeletePlayerRequest,
    UpdatePlayerRequest,
)
from crease.jobs.v1.session_pb2 import Discipline
from services import naming
from services.web import html, visit
from services.web.faults import PageError
from services.web.pages.players import trends
from services.web.pages.players.names import find_or_create

PAGE_SIZE = 100
HANDS = ("left", "right")
# Of these the page knows the disciplines and the newest film.
NEWEST_FILMS = 50


class PlayerForm(BaseModel):
    """What a visitor says of a player. Empty: not given."""

    player: str = Field(default="", max_length=100)
    height_cm: int | Literal[""] = ""
    birth_year: int | Literal[""] = ""
    hand: Literal["left", "right", ""] = ""
    notes: str = ""
    # Of the player that the form showed.
    etag: str = Field(default="", max_length=200)


async def players(request: Request) -> Response:
    """The players by name."""
    visiting = await visit.begin(request)
    asked = request.query_params
    prefix = asked.get("player", "")[:100]
    listed = await visiting.calls.call(
        visiting.calls.stubs.players.ListPlayers,
        ListPlayersRequest(page_size=PAGE_SIZE, name_prefix=prefix, page_token=asked.get("after", "")),
    )
    deleted = asked.get("deleted", "")
    return html.page(
        "players.html",
        players=listed.players,
        prefix=prefix,
        next=listed.next_page_token,
        deleted=visit.as_id(deleted) if deleted else "",
    )


async def create(request: Request) -> Response:
    """Adds a player, if none has this name; goes to the player."""
    visiting = await visit.begin(request)
    form = await visit.read_form(request, PlayerForm)
    player_id = await find_or_create(visiting.calls, _name(form), uuid4())
    return html.go_to(request, f"/players/{player_id}")


async def player(request: Request) -> Response:
    """One player: each number over time in one discipline, and the form."""
    visiting = await visit.begin(request)
    calls, player_id = visiting.calls, visit.path_id(request)
    chosen = request.query_params.get("discipline", "")
    wanted = GetTrendsRequest(player_id=player_id)
    if chosen in naming.DISCIPLINES:
        wanted.discipline = Discipline.Value(f"DISCIPLINE_{chosen.upper()}")
    films = SearchSessionsRequest(filter=LibraryFilter(player_id=player_id), page_size=NEWEST_FILMS)
    found, measured, films_found = await asyncio.gather(
        calls.call(calls.stubs.players.GetPlayer, GetPlayerRequest(player_id=player_id)),
        calls.call(calls.stubs.library.GetTrends, wanted),
        calls.call(calls.stubs.library.SearchSessions, films),
    )
    shown = html.discipline(measured.discipline)
    known = {html.discipline(film.discipline) for film in films_found.sessions if film.report_job_id} | {shown}
    return html.page(
        "player.html",
        player=found,
        hand=Hand.Name(found.hand).removeprefix("HAND_").lower(),
        hands=HANDS,
        this_year=datetime.now().astimezone().year,
        discipline=shown,
        disciplines=[each for each in naming.DISCIPLINES if each in known],
        trends=trends.draw(measured.trends),
        view=trends.view_to_keep(measured.trends),
        width=trends.WIDTH,
        height=trends.HEIGHT,
        has_films=bool(films_found.sessions),
    )


async def save(request: Request) -> Response:
    """Writes what the form says of a player; shows the player again."""
    visiting = await visit.begin(request)
    player_id = visit.path_id(request)
    form = await visit.read_form(request, PlayerForm)
    changed = Player(
        player_id=player_id,
        name=_name(form),
        height_cm=form.height_cm or 0,
        birth_year=form.birth_year or 0,
        hand=Hand.Value(f"HAND_{form.hand.upper() or 'UNSPECIFIED'}"),
        # A browser ends the lines of a text field with two characters, and counts one.
        notes=form.notes.replace("\r\n", "\n"),
        etag=form.etag,
    )
    mask = FieldMask(paths=["name", "height_cm", "birth_year", "hand", "notes"])
    asked = UpdatePlayerRequest(player=changed, update_mask=mask)
    await visiting.calls.call(visiting.calls.stubs.players.UpdatePlayer, asked)
    return html.go_to(request, f"/players/{player_id}")


async def delete(request: Request) -> Response:
    """Deletes a player, whose films stay; goes to the list, which offers to undo it."""
    visiting = await visit.begin(request)
    player_id = visit.path_id(request)
    asked = DeletePlayerRequest(player_id=player_id, undoable=True)
    await visiting.calls.call(visiting.calls.stubs.players.DeletePlayer, asked)
    visiting.live.wake(visiting.visitor)
    return html.go_to(request, f"/players?deleted={player_id}")


async def undo(request: Request) -> Response:
    """Undoes the deletion of a player; goes to the player."""
    visiting = await visit.begin(request)
    player_id = visit.path_id(request)
    await visiting.calls.undo(visiting.calls.stubs.players.UndeletePlayer, UndeletePlayerRequest(player_id=player_id))
    visiting.live.wake(visiting.visitor)
    return html.go_to(request, f"/players/{player_id}")


def _name(form: PlayerForm) -> str:
    if not form.player.strip():
        raise PageError(HTTPStatus.BAD_REQUEST, "A player needs a name.")
    return form.player.strip()
