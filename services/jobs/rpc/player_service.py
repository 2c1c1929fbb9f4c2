"""PlayerService: people create, read, list, change and delete players."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from google.protobuf import empty_pb2

from crease.jobs.v1 import player_pb2, player_pb2_grpc
from services import errors
from services.authorization import user
from services.jobs.domain import authorization
from services.jobs.rpc import mapping, validation
from services.jobs.store.database import Database
from services.jobs.store.library import players, undo
from services.serving import Context

MAX_NAME_CHARACTERS = 100
MIN_HEIGHT_CM, MAX_HEIGHT_CM = 50, 250
MIN_BIRTH_YEAR = 1900
MAX_NOTES_CHARACTERS = 5000
# The fields that a client may set as it creates a player, and later.
OF_NEW = ("name", "height_cm", "birth_year", "hand")
SETTABLE = (*OF_NEW, "notes")


class PlayerService(player_pb2_grpc.PlayerServiceServicer):
    def __init__(self, database: Database) -> None:
        self._database = database

    async def CreatePlayer(self, request: player_pb2.CreatePlayerRequest, context: Context) -> player_pb2.Player:
        authorization.check_uploader(user())
        values = _columns(request, OF_NEW)
        values |= {"request_id": validation.request_id(request.request_id), "request_sha256": validation.digest(values)}
        async with self._database.transaction() as connection:
            return mapping.player(await players.create(connection, user(), values))

    async def GetPlayer(self, request: player_pb2.GetPlayerRequest, context: Context) -> player_pb2.Player:
        async with self._database.transaction() as connection:
            return mapping.player(await players.get_visible(connection, request.player_id, user()))

    async def ListPlayers(
        self, request: player_pb2.ListPlayersRequest, context: Context
    ) -> player_pb2.ListPlayersResponse:
        prefix = validation.text("name_prefix", request.name_prefix, MAX_NAME_CHARACTERS)
        async with self._database.transaction() as connection:
            page = await players.list_visible(
                connection,
                user(),
                name_prefix=prefix,
                size=request.page_size,
                page_token=request.page_token,
            )
        listed, token = page.messages(mapping.player)
        return player_pb2.ListPlayersResponse(players=listed, next_page_token=token)

    async def UpdatePlayer(self, request: player_pb2.UpdatePlayerRequest, context: Context) -> player_pb2.Player:
        sent = request.player
        async with self._database.transaction() as connection:
            player = await players.get_visible(connection, sent.player_id, user(), for_update=True)
            if sent.etag:
                validation.check_etag(sent.etag, player)
            values = _columns(sent, validation.masked(sent, request.update_mask, SETTABLE), "player.")
            if values:
                player = await players.update(connection, player, values)
        return mapping.player(player)

    async def DeletePlayer(self, request: player_pb2.DeletePlayerRequest, context: Context) -> empty_pb2.Empty:
        async with self._database.transaction() as connection:
            player = await players.get_visible(connection, request.player_id, user(), for_update=True)
            await players.delete(connection, player, undoable=request.undoable)
        return empty_pb2.Empty()

    async def UndeletePlayer(self, request: player_pb2.UndeletePlayerRequest, context: Context) -> player_pb2.Player:
        async with self._database.transaction() as connection:
            return mapping.player(await undo.undelete_player(connection, request.player_id, user()))


def _columns(
    message: player_pb2.CreatePlayerRequest | player_pb2.Player, fields: Iterable[str], path: str = ""
) -> dict[str, Any]:
    """The columns of a message's fields. Raises InvalidArgument.

    path: the path of the message in the request, for errors.
    """
    columns: dict[str, Any] = {}
    for field in fields:
        value = getattr(message, field)
        match field:
            case "name":
                columns[field] = _name(path + field, value)
            case "height_cm":
                columns[field] = _number(path + field, value, MIN_HEIGHT_CM, MAX_HEIGHT_CM)
            case "birth_year":
                columns[field] = _number(path + field, value, MIN_BIRTH_YEAR, datetime.now(UTC).year)
            case "notes":
                columns[field] = validation.text(path + field, value, MAX_NOTES_CHARACTERS)
            case "hand":
                columns[field] = validation.enum(path + field, player_pb2.Hand, value)
    return columns


def _name(field: str, written: str) -> str:
    name = " ".join(validation.text(field, written, MAX_NAME_CHARACTERS).split())
    if not name:
        raise errors.InvalidArgument(field, "must not be empty")
    return name


def _number(field: str, given: int, least: int, most: int) -> int:
    if given and not least <= given <= most:
        raise errors.InvalidArgument(field, f"must be {least} to {most}, or 0 for not given")
    return given
