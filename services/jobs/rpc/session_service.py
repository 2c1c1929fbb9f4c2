"""SessionService: what coaches file videos under."""

from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf import empty_pb2

from crease.jobs.v1 import session_pb2, session_pb2_grpc
from services import errors
from services.auth import Person
from services.authorization import caller_as
from services.jobs.domain import authorization
from services.jobs.notifier import Bell
from services.jobs.rpc import mapping
from services.jobs.store import sessions
from services.jobs.store.database import Database
from services.serving import Context

MAX_TITLE = 200
MAX_NOTES = 5000
MAX_PLAYERS = 50
MAX_PLAYER = 100
# What a client may set; the rest is ours to say.
SETTABLE = ("title", "player_ids", "notes", "discipline", "camera_view")


class SessionService(session_pb2_grpc.SessionServiceServicer):
    def __init__(self, database: Database, bell: Bell) -> None:
        self._database = database
        self._bell = bell

    async def CreateSession(self, request: session_pb2.CreateSessionRequest, context: Context) -> session_pb2.Session:
        person = caller_as(Person)
        authorization.check_uploader(person)
        values = _values(request, SETTABLE)
        async with self._database.transaction() as connection:
            row = await sessions.create(connection, person, values)
        return mapping.session(row, "pending")

    async def GetSession(self, request: session_pb2.GetSessionRequest, context: Context) -> session_pb2.Session:
        async with self._database.transaction() as connection:
            row = await sessions.get_for(connection, request.session_id, caller_as(Person))
            return mapping.session(*await sessions.shown(connection, row["id"], last=True))

    async def ListSessions(
        self, request: session_pb2.ListSessionsRequest, context: Context
    ) -> session_pb2.ListSessionsResponse:
        async with self._database.transaction() as connection:
            rows, token = await sessions.list_for(
                connection, caller_as(Person), size=request.page_size, page_token=request.page_token
            )
            shown = await sessions.statuses(connection, [row["id"] for row in rows])
        listed = [mapping.session(row, shown[row["id"]]) for row in rows]
        return session_pb2.ListSessionsResponse(sessions=listed, next_page_token=token)

    async def UpdateSession(self, request: session_pb2.UpdateSessionRequest, context: Context) -> session_pb2.Session:
        async with self._database.transaction() as connection:
            row = await sessions.get_for(connection, request.session.session_id, caller_as(Person))
            values = _values(request.session, _masked(request), "session.")
            if values:
                await sessions.update(connection, row, values)
            return mapping.session(*await sessions.shown(connection, row["id"], last=True))

    async def DeleteSession(self, request: session_pb2.DeleteSessionRequest, context: Context) -> empty_pb2.Empty:
        async with self._database.transaction() as connection:
            row = await sessions.get_for(connection, request.session_id, caller_as(Person))
            await sessions.delete(connection, await sessions.lock(connection, row["id"]))
        self._bell.ring()
        return empty_pb2.Empty()


def _masked(request: session_pb2.UpdateSessionRequest) -> Sequence[str]:
    """The fields to write (AIP-134): those of the mask; without one, those that are populated."""
    paths = list(request.update_mask.paths)
    if paths == ["*"]:
        return SETTABLE
    for path in paths:
        if path not in SETTABLE:
            raise errors.InvalidArgument("update_mask", f"{path[:100]!r} cannot be set; {', '.join(SETTABLE)} can")
    return paths or [field.name for field, _ in request.session.ListFields() if field.name in SETTABLE]


def _values(
    message: session_pb2.CreateSessionRequest | session_pb2.Session, fields: Iterable[str], path: str = ""
) -> dict[str, Any]:
    """Fields of a message as columns hold them; `path` is where in the request the message stands. Raises InvalidArgument."""
    columns: dict[str, Any] = {}
    for field in fields:
        value = getattr(message, field)
        match field:
            case "title":
                columns[field] = _text(path + field, value, MAX_TITLE)
            case "notes":
                columns[field] = _text(path + field, value, MAX_NOTES)
            case "player_ids":
                columns[field] = _players(path + field, value)
            case "discipline":
                columns[field] = _word(path + field, session_pb2.Discipline, value) or "batting"
            case "camera_view":
                columns[field] = _word(path + field, session_pb2.CameraView, value)
    return columns


def _text(field: str, text: str, most: int) -> str:
    if len(text) > most:
        raise errors.InvalidArgument(field, f"at most {most} characters")
    if "\0" in text:
        raise errors.InvalidArgument(field, "must not hold a NUL character")
    return text


def _players(field: str, players: Sequence[str]) -> list[str]:
    if len(players) > MAX_PLAYERS:
        raise errors.InvalidArgument(field, f"at most {MAX_PLAYERS} players")
    return [_text(field, player, MAX_PLAYER) for player in players]


def _word(field: str, enum: Any, number: int) -> str:
    if number not in enum.values():
        raise errors.InvalidArgument(field, f"must be one of {', '.join(enum.keys())}")
    return mapping.word(enum, number)
