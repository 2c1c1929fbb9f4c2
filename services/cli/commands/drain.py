"""`crease drain`: stops new launches, while running analyses continue; `--undo` allows new launches again."""

import os
import socket
from datetime import UTC, datetime

from services.cli.commands.options import Arguments, Commands, add_command, find_runtime
from services.cli.runtime.interface import Runtime
from services.cli.ui import console


def add_to(commands: Commands) -> None:
    summary = "stop new launches, while running analyses continue"
    command = add_command(commands, "drain", _run, summary, calls_services=False)
    command.add_argument("--undo", action="store_true", help="allow new launches again")


def _run(arguments: Arguments) -> int:
    drain(find_runtime(arguments), undo=arguments.undo)
    return 0


def drain(runtime: Runtime, *, undo: bool) -> None:
    """Drains the controller, or undoes a drain. Raises CommandError."""
    if undo:
        runtime.undo_drain()
        console.print_line("The controller launches new analyses again within seconds.")
        return
    user = os.environ.get("USER") or "an unknown user"
    runtime.drain(f"by {user} on {socket.gethostname()} at {console.format_time(datetime.now(UTC))}")
    console.print_line(
        "Within seconds the controller launches nothing new. Running analyses continue; new jobs are accepted and wait."
    )
    console.print_line("`drain --undo` allows new launches again.")
