"""SessionService: people and services create, read, change, list and delete the sessions of their videos."""

from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf import empty_pb2

from crease.jobs.v1 import session_pb2, session_pb2_grpc
from services import errors
from services.authorization import user
from services.jobs.domain import authorization
from services.jobs.domain.limits import Quotas
from services.jobs.domain.states import SessionStatus
from services.jobs.notifier import Notifier
from services.jobs.rpc import mapping, validation
from services.jobs.store import sessions
from services.jobs.store.database import Database
from services.jobs.store.library import undo
from services.serving import Context

MAX_TITLE_CHARACTERS = 200
MAX_NOTES_CHARACTERS = 5000
MAX_PLAYERS = 50
MAX_PLAYER_CHARACTERS = 100
# The fields that a client may set.
SETTABLE = ("title", "player_ids", "notes", "discipline", "camera_view")


class SessionService(session_pb2_grpc.SessionServiceServicer):
    def __init__(self, database: Database, notifier: Notifier, quotas: Quotas) -> None:
        self._database = database
        self._notifier = notifier
        self._quotas = quotas

    async def CreateSession(self, request: session_pb2.CreateSessionRequest, context: Context) -> session_pb2.Session:
        authorization.check_uploader(user())
        values = _columns(request, SETTABLE)
        values |= {"request_id": validation.request_id(request.request_id), "request_sha256": validation.digest(values)}
        async with self._database.transaction() as connection:
            session = await sessions.create(connection, user(), values)
        return mapping.session(session, SessionStatus.PENDING)

    async def GetSession(self, request: session_pb2.GetSessionRequest, context: Context) -> session_pb2.Session:
        async with self._database.transaction() as connection:
            session = await sessions.get_visible(connection, request.session_id, user())
            return mapping.session(*await sessions.get_with_status(connection, session.id, commit=True))

    async def ListSessions(
        self, request: session_pb2.ListSessionsRequest, context: Context
    ) -> session_pb2.ListSessionsResponse:
        async with self._database.transaction() as connection:
            page = await sessions.list_visible(
                connection, user(), size=request.page_size, page_token=request.page_token
            )
            statuses = await sessions.statuses(connection, [session.id for session in page.records])
        listed, token = page.messages(lambda session: mapping.session(session, statuses[session.id]))
        return session_pb2.ListSessionsResponse(sessions=listed, next_page_token=token)

    async def UpdateSession(self, request: session_pb2.UpdateSessionRequest, context: Context) -> session_pb2.Session:
        async with self._database.transaction() as connection:
            session = await sessions.get_visible(connection, request.session.session_id, user())
            if request.session.etag:
                # Another caller's update waits until this one is committed.
                session = await sessions.get_for_update(connection, session.id)
                validation.check_etag(request.session.etag, session)
            fields = validation.masked(request.session, request.update_mask, SETTABLE)
            values = _columns(request.session, fields, "session.")
            if values:
                values["acted_by"] = authorization.actor(user())
                await sessions.update(connection, session, values)
            return mapping.session(*await sessions.get_with_status(connection, session.id, commit=True))

    async def DeleteSession(self, request: session_pb2.DeleteSessionRequest, context: Context) -> empty_pb2.Empty:
        async with self._database.transaction() as connection:
            session = await sessions.get_visible(connection, request.session_id, user())
            locked = await sessions.get_for_update(connection, session.id)
            await sessions.delete(connection, locked, authorization.actor(user()), undoable=request.undoable)
        self._notifier.notify()
        return empty_pb2.Empty()

    async def UndeleteSession(
        self, request: session_pb2.UndeleteSessionRequest, context: Context
    ) -> session_pb2.Session:
        async with self._database.transaction() as connection:
            await undo.undelete_session(connection, request.session_id, user(), self._quotas)
            session = await sessions.get_visible(connection, request.session_id, user())
            return mapping.session(*await sessions.get_with_status(connection, session.id, commit=True))


def _columns(
    message: session_pb2.CreateSessionRequest | session_pb2.Session, fields: Iterable[str], path: str = ""
) -> dict[str, Any]:
    """The columns of a message's fields. Raises InvalidArgument.

    path: the path of the message in the request, for errors.
    """
    columns: dict[str, Any] = {}
    for field in fields:
        value = getattr(message, field)
        match field:
            case "title":
                columns[field] = validation.text(path + field, value, MAX_TITLE_CHARACTERS)
            case "notes":
                columns[field] = validation.text(path + field, value, MAX_NOTES_CHARACTERS)
            case "player_ids":
                columns[field] = _players(path + field, value)
            case "discipline":
                columns[field] = validation.enum(path + field, session_pb2.Discipline, value) or "batting"
            case "camera_view":
                columns[field] = validation.enum(path + field, session_pb2.CameraView, value)
    return columns


def _players(field: str, players: Sequence[str]) -> list[str]:
    if len(players) > MAX_PLAYERS:
        raise errors.InvalidArgument(field, f"at most {MAX_PLAYERS} players")
    return [validation.text(field, player, MAX_PLAYER_CHARACTERS) for player in players]
