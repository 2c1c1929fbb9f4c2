"""`crease drain`: stops new launches, while running analyses continue; `--undo` allows new launches again.

`crease forget-cluster NAME` declares that a cluster does not come back, so that its cancelled jobs end.
"""

import os
import socket
from datetime import UTC, datetime

from crease.jobs.v1.job_pb2 import ForgetClusterRequest
from services.cli.api.client import Services
from services.cli.commands.options import Arguments, Commands, add_command, connect_as_operator, find_runtime
from services.cli.runtime.interface import Runtime
from services.cli.ui import console


def add_to(commands: Commands) -> None:
    summary = "stop new launches, while running analyses continue"
    command = add_command(commands, "drain", _run, summary, calls_services=False)
    command.add_argument("--undo", action="store_true", help="allow new launches again")
    forget = add_command(
        commands, "forget-cluster", _run_forget, "end the launches of a cluster that does not come back"
    )
    forget.add_argument("cluster", metavar="NAME")


def _run(arguments: Arguments) -> int:
    drain(find_runtime(arguments), undo=arguments.undo)
    return 0


def _run_forget(arguments: Arguments) -> int:
    with connect_as_operator(arguments.state) as services:
        forget_cluster(services, arguments.cluster)
    return 0


def forget_cluster(services: Services, cluster: str) -> None:
    """Forgets a silent cluster. Raises CommandError."""
    services.call(services.jobs.ForgetCluster, ForgetClusterRequest(cluster=cluster))
    console.print_line(
        f"Within seconds jobs cancels the jobs of {cluster} that are being cancelled, and launches its unstarted ones "
        "elsewhere. Running analyses end with their lease."
    )


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
