"""`crease up`: runs all services on this machine, until Ctrl-C. `crease open`: opens their page in the browser."""

import os
import sys
import webbrowser
from pathlib import Path

from services.cli.api import endpoints
from services.cli.api.endpoints import StateDir
from services.cli.commands.options import Arguments, Commands, add_command
from services.cli.ui import console

# Below the ports that systems give to clients.
PORT_BASE = 7300


def add_to(commands: Commands) -> None:
    command = add_command(commands, "up", _run, "run all services here, until Ctrl-C", calls_services=False)
    command.add_argument(
        "--port-base",
        type=int,
        default=PORT_BASE,
        metavar="PORT",
        help="port of jobs, with upload on the next one; random where taken; 0: all random (default: %(default)s)",
    )
    command.add_argument(
        "--s3-endpoint",
        metavar="URL",
        help="another S3 server; its AWS_… keys and S3_COACH_VIDEOS_BUCKET come from the environment",
    )
    command.add_argument(
        "--lan",
        action="store_true",
        help="open the page and S3 to the devices of this network, unencrypted: a phone then films and uploads",
    )


def add_open_to(commands: Commands) -> None:
    add_command(commands, "open", _open, "open the page of `crease up`, signed in", calls_services=False)


def _open(arguments: Arguments) -> int:
    from services.cli.laptop import lan, state_dir

    state = StateDir(arguments.state.expanduser().resolve())
    page = state_dir.mint_sign_in(state, endpoints.read_announced(state).page)
    console.print_line(page, whole=True)
    if lan.is_open(page):
        lan.print_code(page)
    elif sys.stdout.isatty() and any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
        webbrowser.open(page)
    return 0


def _run(arguments: Arguments) -> int:
    return up(arguments.state, arguments.s3_endpoint, arguments.port_base, lan=arguments.lan)


def up(folder: Path, s3_endpoint: str | None, port_base: int, *, lan: bool = False) -> int:
    """Runs everything until a stop signal; returns the exit code. Raises CommandError if it cannot start."""
    # Imported here: a client's image has none of the laptop's packages.
    from services.cli.laptop import prerequisites, process_tree, stack

    prerequisites.check(own_s3=s3_endpoint is None)
    return process_tree.run(
        folder, lambda supervisor, state: stack.start(supervisor, state, s3_endpoint, port_base, is_open=lan)
    )
