"""`crease players`: lists, adds, changes and deletes players; and the players whom a name stands for."""

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import uuid4

from google.protobuf.field_mask_pb2 import FieldMask

from crease.jobs.v1.player_pb2 import (
    CreatePlayerRequest,
    DeletePlayerRequest,
    Hand,
    ListPlayersRequest,
    Player,
    UndeletePlayerRequest,
    UpdatePlayerRequest,
)
from services.cli.api.client import Services
from services.cli.commands.options import Arguments, Commands, add_command, connect
from services.cli.errors import USAGE, CommandError
from services.cli.ui import console

PAGE_SIZE = 200


def add_to(commands: Commands) -> None:
    command = add_command(commands, "players", _run, "list your players; add, change or delete one")
    command.add_argument(
        "prefix", metavar="NAME", nargs="?", default="", help="only names that begin so, with their notes"
    )
    change = command.add_mutually_exclusive_group()
    change.add_argument("--add", default="", metavar="NAME", help="add a player")
    change.add_argument("--change", default="", metavar="NAME", help="change a player's facts by the options below")
    change.add_argument("--delete", default="", metavar="NAME", help="delete a player; sessions and reports stay")
    change.add_argument("--undo", default="", metavar="ID", help="undo the deletion of a player, within a minute")
    command.add_argument("--height-cm", "--height", type=int, metavar="CM", help="0: not given")
    command.add_argument("--born", type=int, metavar="YEAR", help="0: not given")
    command.add_argument("--hand", choices=("left", "right"), help="the hand that bats or throws")
    command.add_argument("--notes", metavar="TEXT", help="your own notes, for no report")


def _run(arguments: Arguments) -> int:
    with connect(arguments) as services:
        if arguments.add:
            facts = _facts(arguments)
            notes = facts.pop("notes", "")
            request = CreatePlayerRequest(name=arguments.add, request_id=str(uuid4()), **facts)
            player_id = services.call(services.players.CreatePlayer, request).player_id
            if notes:
                _update(services, player_id, {"notes": notes})
            console.print_line(f"Added {arguments.add}.")
        elif arguments.change:
            facts = _facts(arguments)
            if not facts:
                raise CommandError("Nothing to change: give --height-cm, --born, --hand or --notes.", USAGE)
            player_id = resolve(services, arguments.change, must_exist=True)
            _update(services, player_id, facts)
            console.print_line(f"Changed {arguments.change}. Finished reports stay as they are.")
        elif arguments.delete:
            player_id = resolve(services, arguments.delete, must_exist=True)
            services.call(services.players.DeletePlayer, DeletePlayerRequest(player_id=player_id, undoable=True))
            console.print_line(f"Deleted {arguments.delete}. The sessions stay and no longer name the player.")
            console.print_line("Within a minute this brings the player back:")
            console.print_line(f"crease players --undo {player_id}", whole=True)
        elif arguments.undo:
            services.call(services.players.UndeletePlayer, UndeletePlayerRequest(player_id=arguments.undo))
            console.print_line("The deletion is undone.")
        else:
            _print(list(_listed(services, arguments.prefix)), arguments.prefix)
    return 0


def _facts(arguments: Arguments) -> dict[str, Any]:
    """The fields of a player that the options give."""
    options = {
        "height_cm": arguments.height_cm,
        "birth_year": arguments.born,
        "hand": None if arguments.hand is None else Hand.Value(f"HAND_{arguments.hand.upper()}"),
        "notes": arguments.notes,
    }
    return {name: value for name, value in options.items() if value is not None}


def _update(services: Services, player_id: str, facts: dict[str, Any]) -> None:
    mask = FieldMask(paths=list(facts))
    request = UpdatePlayerRequest(player=Player(player_id=player_id, **facts), update_mask=mask)
    services.call(services.players.UpdatePlayer, request)


def resolve(services: Services, name: str, *, must_exist: bool = False) -> str:
    """The id of the player with this name; a name of no player stands for itself, unless it must exist.

    Raises CommandError for a name of several players.
    """
    player_id = _find(services, name)
    if not player_id and must_exist:
        raise CommandError(f"No player is called {name}: `crease players` lists them.", is_refusal=True)
    return player_id or name


def find_or_create(services: Services, names: Iterable[str], height_cm: int = 0) -> list[str]:
    """The ids of the players with these names, who are made if there are none, as the page makes them.

    height_cm: of each of them; 0: as it is known. Raises CommandError.
    """
    found = []
    for name in names:
        request = CreatePlayerRequest(name=name, request_id=str(uuid4()))
        player_id = _find(services, name) or services.call(services.players.CreatePlayer, request).player_id
        if height_cm:
            _update(services, player_id, {"height_cm": height_cm})
        found.append(player_id)
    return found


def _find(services: Services, name: str) -> str:
    """The id of the player with this name; empty if there is none. Raises CommandError for several."""
    same = [each.player_id for each in _listed(services, name) if each.name.casefold() == name.casefold()]
    if len(same) > 1:
        raise CommandError(f"Several players are called {name}: give them different names first.", USAGE)
    return same[0] if same else ""


def _listed(services: Services, prefix: str) -> Iterator[Player]:
    token = ""
    while True:
        request = ListPlayersRequest(name_prefix=prefix, page_size=PAGE_SIZE, page_token=token)
        page = services.call(services.players.ListPlayers, request)
        yield from page.players
        token = page.next_page_token
        if not token:
            return


def _print(listed: list[Player], prefix: str) -> None:
    if not listed:
        missing = f"No player's name begins with {prefix}" if prefix else "No player yet"
        console.print_line(f"{missing}: `crease players --add NAME` adds one.")
        return
    rows = [
        [
            player.name,
            f"{player.height_cm} cm" if player.height_cm else "",
            str(player.birth_year or ""),
            Hand.Name(player.hand).removeprefix("HAND_").lower() if player.hand else "",
        ]
        for player in listed
    ]
    console.print_table(("Player", "Height", "Born", "Hand"), rows, folded=("Player",))
    for player in listed if prefix else ():
        if player.notes:
            console.print_line()
            console.print_line(f"{player.name}: {player.notes}")
