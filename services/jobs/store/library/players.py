"""Players in the database. Sessions name them by their ids; a player's owner is the owner of these sessions."""

from typing import Any

import sqlalchemy as sa

from services import errors
from services.auth import User
from services.jobs.domain import authorization
from services.jobs.domain.records import Player
from services.jobs.store import pagination
from services.jobs.store.database import Connection, Now, assignments, parse_id
from services.jobs.store.jobs import UNDO_SECONDS
from services.jobs.store.pagination import name_key
from services.jobs.store.rows import read_owner, read_player
from services.jobs.store.schema import players

MOST_PLAYERS = 10_000
# Sorts after every name that begins with the same characters.
_LAST = "\U0010ffff"


async def create(connection: Connection, user: User, values: dict[str, Any]) -> Player:
    """Adds a player with these columns; an `org_pro`'s belongs to their organisation.

    Returns the player that the same user made with the same request_id. Raises AlreadyExists if that request_id was
    used with other content, InvalidArgument if the owner has MOST_PLAYERS.
    """
    owner = authorization.owner_of_new_session(user)
    values |= {"owner_type": owner.type, "owner_id": owner.id, "created_by": authorization.actor(user)}
    values |= {"name_key": name_key(values["name"])}
    columns = (", ".join(values), ", ".join(f"%({name})s" for name in values))
    player = await connection.record(read_player, _INSERT.format(*columns), most=MOST_PLAYERS, **values)
    if player is not None:
        return player
    row = await connection.row(_SAME_REQUEST, **values)
    if row is None:
        raise errors.InvalidArgument("name", f"the owner has {MOST_PLAYERS} players, and more are not allowed")
    if row["undo_until"] or row["request_sha256"] != values["request_sha256"] or read_owner(row) != owner:
        raise errors.AlreadyExists("request_id was used for another player", reason="REQUEST_ID_REUSED")
    return read_player(row)


_INSERT = """
    INSERT INTO players ({}) SELECT {}
    WHERE (SELECT count(*) FROM players WHERE owner_type = %(owner_type)s AND owner_id = %(owner_id)s) < %(most)s
    ON CONFLICT (created_by, request_id) WHERE request_id IS NOT NULL DO NOTHING RETURNING *
"""
_SAME_REQUEST = "SELECT * FROM players WHERE created_by = %(created_by)s AND request_id = %(request_id)s"
_GET = "SELECT * FROM players WHERE id = %(id)s AND undo_until IS NULL"


async def get_visible(connection: Connection, player_id: str, user: User, *, for_update: bool = False) -> Player:
    """One player that a user may see. `for_update`: locked. Raises NotFound, PermissionDenied."""
    statement = f"{_GET} FOR UPDATE" if for_update else _GET
    player = await connection.record(read_player, statement, id=str(parse_id(player_id)))
    if player is None:
        raise not_found()
    check_visible(user, player)
    return player


def not_found() -> errors.NotFound:
    return errors.NotFound("Player not found", reason="PLAYER_NOT_FOUND")


def check_visible(user: User, player: Player) -> None:
    """Raises PermissionDenied."""
    if not authorization.may_see(user, player.owner):
        raise errors.PermissionDenied("You don't have access to this player", reason="PLAYER_ACCESS_DENIED")


async def list_visible(
    connection: Connection, user: User, *, name_prefix: str, size: int, page_token: str
) -> pagination.Page[Player]:
    """A page of the players that a user may see, by name. Raises InvalidArgument."""
    statement = sa.select(players).where(players.c.undo_until.is_(None))
    if first := name_key(name_prefix):
        statement = statement.where(players.c.name_key >= first, players.c.name_key < first + _LAST)
    return await pagination.read_page(
        connection,
        read_player,
        statement,
        pagination.visible_to(user, players),
        pagination.by_name(),
        size=size,
        token=page_token,
        filtered=f"{authorization.actor(user)} players {first}",
    )


async def update(connection: Connection, player: Player, values: dict[str, Any]) -> Player:
    """Writes columns of a locked player."""
    if "name" in values:
        values |= {"name_key": name_key(values["name"])}
    columns, sent = assignments(values | {"updated_at": Now()})
    [updated] = await connection.records(read_player, _UPDATE.format(columns), id=player.id, **sent)
    return updated


_UPDATE = "UPDATE players SET {} WHERE id = %(id)s RETURNING *"


async def delete(connection: Connection, player: Player, *, undoable: bool = False) -> None:
    """Deletes a locked player, and its id from the sessions of its owner. undoable: hides it for UNDO_SECONDS first."""
    owner = player.owner
    named_by = await connection.rows(_FORGET, id=player.id, owner_type=owner.type, owner_id=owner.id)
    if undoable:
        sessions = [row["id"] for row in named_by]
        await connection.run(_HIDE, id=player.id, sessions=sessions, seconds=UNDO_SECONDS)
    else:
        await connection.run("DELETE FROM players WHERE id = %(id)s", id=player.id)


_HIDE = """
    UPDATE players SET undo_until = clock_timestamp() + %(seconds)s * interval '1 second', undo_sessions = %(sessions)s
    WHERE id = %(id)s
"""


# In the order of ids, so that two deletions never wait for each other.
_FORGET = """
    UPDATE video_sessions SET player_ids = array_remove(player_ids, %(id)s), updated_at = clock_timestamp()
    WHERE id IN (
        SELECT id FROM video_sessions WHERE player_ids @> ARRAY[%(id)s]
          AND owner_type = %(owner_type)s AND owner_id = %(owner_id)s ORDER BY id FOR NO KEY UPDATE)
    RETURNING id
"""
