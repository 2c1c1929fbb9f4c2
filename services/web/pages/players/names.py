"""Players by their names, as a visitor types them."""

from collections.abc import Sequence
from uuid import UUID

from crease.jobs.v1.player_pb2 import CreatePlayerRequest, ListPlayersRequest, Player
from services.web.calls import Calls

# As many as a list to choose from offers.
MOST_OFFERED = 200


async def find_or_create(calls: Calls, name: str, request_id: UUID) -> str:
    """The id of the player of that name, who is made if there is none. Raises PageError."""
    known = await calls.call(calls.stubs.players.ListPlayers, ListPlayersRequest(name_prefix=name))
    for player in known.players:
        if player.name.casefold() == name.casefold():
            return player.player_id
    request = CreatePlayerRequest(name=name, request_id=str(request_id))
    return (await calls.call(calls.stubs.players.CreatePlayer, request)).player_id


async def list_known(calls: Calls) -> Sequence[Player]:
    """The players to choose from. Raises PageError."""
    return (await calls.call(calls.stubs.players.ListPlayers, ListPlayersRequest(page_size=MOST_OFFERED))).players


async def list_names(calls: Calls) -> list[str]:
    """The names to choose from. Raises PageError."""
    return [player.name for player in await list_known(calls)]
