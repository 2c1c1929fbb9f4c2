"""The names of the players that a message lists by id."""

from collections.abc import Iterable

from crease.jobs.v1.player_pb2 import Player


def player_names(player_ids: Iterable[str], players: Iterable[Player]) -> tuple[str, ...]:
    """A name for each id, in order. An id of none of the players is a text of the client's own: it names itself."""
    names = {player.player_id: player.name for player in players}
    return tuple(names.get(player_id, player_id) for player_id in player_ids)
