"""The players that a message lists: the name of each id, and an age by the year of birth."""

from collections.abc import Iterable

from crease.jobs.v1.player_pb2 import Player


def player_names(player_ids: Iterable[str], players: Iterable[Player]) -> tuple[str, ...]:
    """A name for each id, in order. An id of none of the players is a text of the client's own: it names itself."""
    names = {player.player_id: player.name for player in players}
    return tuple(names.get(player_id, player_id) for player_id in player_ids)


def may_be_under_18(birth_year: int, year: int) -> bool:
    """Whether a player born in `birth_year` is under 18 on some day of `year`; 0 means that the year is not known."""
    return birth_year > 0 and year - birth_year <= 18
