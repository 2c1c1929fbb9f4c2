"""`crease share`: makes, lists and ends shares of a report or a comparison."""

import os

from google.protobuf.duration_pb2 import Duration

from crease.jobs.v1.share_pb2 import (
    CreateShareRequest,
    CreateShareResponse,
    ListSharesRequest,
    RevokeShareRequest,
    Share,
)
from crease_client.reasons import Reason
from services.cli.api import endpoints
from services.cli.api.client import Services
from services.cli.commands.library.short_ids import shorten
from services.cli.commands.options import Arguments, Commands, add_command, connect
from services.cli.errors import USAGE, CommandError
from services.cli.ui import console

DAY_SECONDS = 86400


def add_to(commands: Commands) -> None:
    command = add_command(commands, "share", _run, "share a report, or a comparison of several jobs")
    command.add_argument("job", metavar="JOB", nargs="*", default=[])
    command.add_argument("--days", type=int, default=7, metavar="N", help="until the share ends (default: %(default)s)")
    command.add_argument("--with-names", action="store_true", help="readers see titles, names and faces")
    command.add_argument("--revoke", default="", metavar="SHARE", help="end a share; without JOB all are listed")


def _run(arguments: Arguments) -> int:
    if arguments.revoke and arguments.job:
        raise CommandError("Name the jobs to share, or a share to revoke.", USAGE)
    with connect(arguments) as services:
        if arguments.revoke:
            services.call(services.shares.RevokeShare, RevokeShareRequest(share_id=arguments.revoke))
            console.print_line("The share has ended.")
        elif arguments.job:
            request = CreateShareRequest(
                job_ids=arguments.job,
                valid_for=Duration(seconds=arguments.days * DAY_SECONDS),
                with_names=arguments.with_names,
            )
            made = _create(services, request)
            page = endpoints.find(os.environ, arguments.state).page
            needed = "can open this link, while `crease up` runs," if page else "need this secret,"
            console.print_line(f"Readers {needed} until {_end(made.share)}:")
            console.print_line(f"{page}/s/{made.secret}" if page else made.secret, whole=True)
            console.print_line(f"crease share --revoke {made.share.share_id}", whole=True)
        else:
            listed = services.call(services.shares.ListShares, ListSharesRequest()).shares
            if not listed:
                console.print_line("Nothing is shared: `crease share JOB` shares a report.")
            for share in listed:
                jobs = ", ".join(map(shorten, share.job_ids))
                console.print_line(f"{share.share_id}  {jobs}  until {_end(share)}", whole=True)
    return 0


def _create(services: Services, request: CreateShareRequest) -> CreateShareResponse:
    """The new share. Raises CommandError, with the commands that help for a report that shows the player."""
    try:
        return services.call(services.shares.CreateShare, request)
    except CommandError as error:
        if getattr(error.__cause__, "reason", "") != Reason.JOB_NOT_ANONYMOUS:
            raise
        advice = "Run `crease reanalyze JOB --anonymous` and share the new job, or add --with-names."
        raise CommandError(f"{error.sentence} {advice}", error.exit_code) from error


def _end(share: Share) -> str:
    return console.format_time(share.expires_at.ToDatetime())
