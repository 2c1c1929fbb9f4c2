"""`crease share`: makes, lists and ends shares of a report or a comparison."""

from google.protobuf.duration_pb2 import Duration

from crease.jobs.v1.share_pb2 import CreateShareRequest, ListSharesRequest, RevokeShareRequest, Share
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
            made = services.call(services.shares.CreateShare, request)
            console.print_line(f"Readers need this secret, until {_end(made.share)}:")
            console.print_line(made.secret, whole=True)
            console.print_line(f"crease share --revoke {made.share.share_id}", whole=True)
        else:
            for share in services.call(services.shares.ListShares, ListSharesRequest()).shares:
                jobs = ", ".join(map(shorten, share.job_ids))
                console.print_line(f"{share.share_id}  {jobs}  until {_end(share)}", whole=True)
    return 0


def _end(share: Share) -> str:
    return console.format_time(share.expires_at.ToDatetime())
