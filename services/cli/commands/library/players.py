"""`crease players`: lists, adds and deletes players; and the players whom a name stands for."""

from collections.abc import Iterable, Iterator

from rich import box
from rich.table import Table

from crease.jobs.v1.player_pb2 import CreatePlayerRequest, DeletePlayerRequest, Hand, ListPlayersRequest, Player
from services.cli.api.client import Services
from services.cli.commands.options import Arguments, Commands, add_command, connect
from services.cli.errors import USAGE, CommandError
from services.cli.ui import console
from services.rules.printable import replace_unprintable

PAGE_SIZE = 200


def add_to(commands: Commands) -> None:
    command = add_command(commands, "players", _run, "list your players, add one, or delete one")
    command.add_argument("prefix", metavar="NAME", nargs="?", default="", help="only names that begin so")
    change = command.add_mutually_exclusive_group()
    change.add_argument("--add", default="", metavar="NAME", help="add a player")
    change.add_argument("--delete", default="", metavar="NAME", help="delete a player; sessions and reports stay")
    command.add_argument("--height", type=int, default=0, metavar="CM")
    command.add_argument("--born", type=int, default=0, metavar="YEAR")
    command.add_argument("--hand", choices=("left", "right"), default="", help="the hand that bats or throws")


def _run(arguments: Arguments) -> int:
    with connect(arguments) as services:
        if arguments.add:
            request = CreatePlayerRequest(
                name=arguments.add,
                height_cm=arguments.height,
                birth_year=arguments.born,
                hand=Hand.Value(f"HAND_{arguments.hand.upper() or 'UNSPECIFIED'}"),
            )
            services.call(services.players.CreatePlayer, request)
            console.print_line(f"Added {arguments.add}.")
        elif arguments.delete:
            [player_id] = resolve(services, [arguments.delete], must_exist=True)
            services.call(services.players.DeletePlayer, DeletePlayerRequest(player_id=player_id))
            console.print_line(f"Deleted {arguments.delete}. The sessions stay and no longer name the player.")
        else:
            _print(list(_listed(services, arguments.prefix)))
    return 0


def resolve(services: Services, names: Iterable[str], *, must_exist: bool = False) -> list[str]:
    """The ids of the players with these names; a name of no player stands for itself, unless it must exist.

    Raises CommandError for a name of several players.
    """
    found = []
    for name in names:
        same = [each for each in _listed(services, name) if each.name.casefold() == name.casefold()]
        if len(same) > 1:
            raise CommandError(f"Several players are called {name}: give them different names first.", USAGE)
        if not same and must_exist:
            raise CommandError(f"No player is called {name}: `crease players` lists them.", is_refusal=True)
        found.append(same[0].player_id if same else name)
    return found


def _listed(services: Services, prefix: str) -> Iterator[Player]:
    token = ""
    while True:
        request = ListPlayersRequest(name_prefix=prefix, page_size=PAGE_SIZE, page_token=token)
        page = services.call(services.players.ListPlayers, request)
        yield from page.players
        token = page.next_page_token
        if not token:
            return


def _print(listed: list[Player]) -> None:
    if not listed:
        console.print_line("No such player: `crease players --add NAME` adds one.")
        return
    table = Table("Player", "Height", "Born", "Hand", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for player in listed:
        table.add_row(
            replace_unprintable(player.name),
            f"{player.height_cm} cm" if player.height_cm else "",
            str(player.birth_year or ""),
            Hand.Name(player.hand).removeprefix("HAND_").lower() if player.hand else "",
        )
    console.print_table(table)
