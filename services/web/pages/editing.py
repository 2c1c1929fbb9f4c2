"""Renames a film, gives it to other players, and deletes it, or one of its analyses, with a minute to undo.

A film of the page is a session with its analyses.
"""

import asyncio
from uuid import uuid4

from google.protobuf.field_mask_pb2 import FieldMask
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from crease.jobs.v1.job_pb2 import DeleteJobRequest, GetJobRequest, UndeleteJobRequest
from crease.jobs.v1.session_pb2 import (
    DeleteSessionRequest,
    GetSessionRequest,
    Session,
    UndeleteSessionRequest,
    UpdateSessionRequest,
)
from services.web import html, visit
from services.web.calls import Calls
from services.web.live import FINAL
from services.web.pages.players.names import find_or_create, list_names
from services.web.pages.session import list_analyses


class Edit(BaseModel):
    """The form of a film. Empty names of players are left out."""

    title: str = Field(default="", max_length=200)
    notes: str = Field(default="", max_length=5000)
    player: list[str] = Field(default=[], max_length=50)
    # Of the session that the form showed.
    etag: str = Field(default="", max_length=200)


async def edit(request: Request) -> Response:
    """The form of a film, and its analyses."""
    visiting = await visit.begin(request)
    calls, session_id = visiting.calls, visit.path_id(request)
    session, analyses, names = await asyncio.gather(
        calls.call(calls.stubs.sessions.GetSession, GetSessionRequest(session_id=session_id)),
        list_analyses(calls, session_id),
        list_names(calls),
    )
    deleted = request.query_params.get("deleted", "")
    return html.page(
        "edit.html",
        session=session,
        analyses=analyses,
        running=any(job.status not in FINAL for job in analyses),
        final=FINAL,
        players_known=names,
        deleted=visit.as_id(deleted) if deleted else "",
    )


async def save(request: Request) -> Response:
    """Writes the form; goes to the film's newest analysis, or to the library without one."""
    visiting = await visit.begin(request)
    calls, session_id = visiting.calls, visit.path_id(request)
    form = await visit.read_form(request, Edit)
    session = await calls.call(calls.stubs.sessions.GetSession, GetSessionRequest(session_id=session_id))
    changed = Session(
        session_id=session_id,
        title=form.title.strip(),
        notes=form.notes.replace("\r\n", "\n"),
        player_ids=await _player_ids(calls, session, form.player),
        etag=form.etag,
    )
    mask = FieldMask(paths=["title", "player_ids", "notes"])
    request_to_jobs = UpdateSessionRequest(session=changed, update_mask=mask)
    await calls.call(calls.stubs.sessions.UpdateSession, request_to_jobs)
    visiting.live.wake(visiting.visitor)
    analyses = await list_analyses(calls, session_id)
    return html.go_to(request, f"/jobs/{analyses[-1].job_id}" if analyses else "/library")


async def _player_ids(calls: Calls, session: Session, names: list[str]) -> list[str]:
    """The ids of these names. A name that the session had keeps its id, which may be a text of another client."""
    had = {
        name.casefold(): player_id for name, player_id in zip(html.players(session), session.player_ids, strict=True)
    }
    wanted = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    return list(
        dict.fromkeys([had.get(name.casefold()) or await find_or_create(calls, name, uuid4()) for name in wanted])
    )


async def delete(request: Request) -> Response:
    """Deletes a film with its analyses; goes to the library, which offers to undo it."""
    visiting = await visit.begin(request)
    session_id = visit.path_id(request)
    asked = DeleteSessionRequest(session_id=session_id, undoable=True)
    await visiting.calls.call(visiting.calls.stubs.sessions.DeleteSession, asked)
    visiting.live.wake(visiting.visitor)
    return html.go_to(request, f"/library?deleted={session_id}")


async def undo(request: Request) -> Response:
    """Undoes the deletion of a film; goes to its form."""
    visiting = await visit.begin(request)
    session_id = visit.path_id(request)
    asked = UndeleteSessionRequest(session_id=session_id)
    await visiting.calls.undo(visiting.calls.stubs.sessions.UndeleteSession, asked)
    visiting.live.wake(visiting.visitor)
    return html.go_to(request, f"/sessions/{session_id}/edit")


async def delete_analysis(request: Request) -> Response:
    """Deletes one analysis of a film; goes to the film's form, which offers to undo it."""
    visiting = await visit.begin(request)
    calls, job_id = visiting.calls, visit.job_id(request)
    job = await calls.call(calls.stubs.jobs.GetJob, GetJobRequest(job_id=job_id))
    await calls.call(calls.stubs.jobs.DeleteJob, DeleteJobRequest(job_id=job_id, undoable=True))
    visiting.live.wake(visiting.visitor)
    return html.go_to(request, f"/sessions/{job.session_id}/edit?deleted={job_id}")


async def undo_analysis(request: Request) -> Response:
    """Undoes the deletion of an analysis; goes to it."""
    visiting = await visit.begin(request)
    job_id = visit.job_id(request)
    await visiting.calls.undo(visiting.calls.stubs.jobs.UndeleteJob, UndeleteJobRequest(job_id=job_id))
    visiting.live.wake(visiting.visitor)
    return html.go_to(request, f"/jobs/{job_id}")
