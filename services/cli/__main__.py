"""`crease`: runs everything on a laptop, and is the client of a cluster.

crease up                 runs all services here, until Ctrl-C, and prints the address of the page
crease open               opens the page of `crease up` in the browser
crease analyze VIDEO      sends a video, follows its analysis, prints the findings and fetches the report
crease reanalyze JOB      measures a job's video again from a moved moment, or for another player or discipline
crease report JOB         prints the findings of an earlier job and fetches its report
crease compare JOB JOB…   shows what changed between analyses of one player, as one page
crease jobs [TEXT]        lists the newest jobs, with short ids that every command takes for JOB
crease sessions [TEXT]    lists the newest sessions
crease players [NAME]     lists your players; --add, --change, --delete NAME; --undo ID
crease edit JOB           renames the session of a job, or moves it to another player
crease delete JOB         deletes a job, or its session; --undo brings it back within a minute
crease share JOB…         shares a report or a comparison by a link; --revoke ends a share
crease demo VIDEO         does all of it once, in a state folder of its own
crease admin orphans      lists the objects and rows without a counterpart; for superusers

For operators, also as `kubectl crease …`, which finds the services in a namespace of the cluster:

crease status             counts, ages, failures, free GPUs and the controller's state, on one screen
crease why JOB            why the job is not done yet, its runs, and the events recorded about them
crease launches JOB       every launch, and how it ended
crease logs JOB           the log of the job's newest run
crease cancel JOB         cancels the job
crease retry JOB…         queues failed jobs again; --code IMAGE: every job that failed with this code
crease drain              stops new launches, while running analyses continue; --undo allows them again
crease forget-cluster NAME  ends the launches of a cluster that does not come back; for superusers
crease doctor             checks database, S3, SQS, rights, clocks, image, GPUs and the next launch, and gives advice

Exit codes: 0 done, 1 an orphan or a fault was found, 2 usage, 65 bad video, 69 services unavailable, 70 anything else,
75 the analysis lost its lease. services/rules/failure_codes.py has the exit code of each failure code.
"""

import argparse
import errno
import os
import sys
from collections.abc import Sequence

from services import VERSION
from services.cli.api import endpoints
from services.cli.commands import (
    analyze,
    compare,
    demo,
    doctor,
    drain,
    explain,
    jobs,
    options,
    orphans,
    reports,
    status,
    up,
)
from services.cli.commands.library import changing, listing, players, share, short_ids
from services.cli.errors import INTERNAL, INTERRUPTED, CommandError
from services.cli.runtime.kubectl import forward_services
from services.cli.ui import console

FULL = (errno.ENOSPC, errno.EDQUOT)


def kubectl() -> int:
    """`kubectl crease`: the same commands, for the services of a namespace."""
    return main(prog="kubectl crease")


def main(arguments: Sequence[str] | None = None, prog: str = "crease") -> int:
    """Runs one command; returns the exit code. Prints a traceback only if CREASE_DEBUG=1."""
    console.accept_any_encoding()
    try:
        try:
            parsed = _parser(prog).parse_args(arguments)
            parsed.in_cluster = prog != "crease"
            return _run(parsed)
        finally:
            # A full disk is found here, also after --help.
            sys.stdout.flush()
    except CommandError as error:
        console.print_error(error.sentence)
        return error.exit_code
    except KeyboardInterrupt:
        console.print_error(
            "Interrupted. Queued jobs continue: see `crease jobs`. "
            "If an upload was interrupted, run the same command again: it resumes the upload."
        )
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has closed it.
        _discard_output()
        return INTERNAL
    except OSError as error:
        console.print_write_error(error)
        if error.errno in FULL:
            _discard_output()
        return INTERNAL
    except Exception as error:
        console.print_unexpected(error)
        return INTERNAL


def _discard_output() -> None:
    """Sends what is still buffered nowhere: it must not raise again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(parsed: options.Arguments) -> int:
    run: options.Run = parsed.run
    if parsed.in_cluster and not parsed.calls_services:
        return run(parsed)
    if not parsed.in_cluster or endpoints.are_named(os.environ):
        short_ids.expand(parsed)
        return run(parsed)
    with forward_services(options.find_kubectl(parsed)) as variables:
        os.environ.update(variables)
        short_ids.expand(parsed)
        return run(parsed)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="Turns a video of a cricketer into a report.")
    parser.add_argument("--version", action="version", version=f"crease {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up.add_to(commands)
    up.add_open_to(commands)
    analyze.add_to(commands)
    analyze.add_reanalyze_to(commands)
    reports.add_to(commands)
    compare.add_to(commands)
    listing.add_to(commands)
    players.add_to(commands)
    changing.add_to(commands)
    share.add_to(commands)
    admin = commands.add_parser("admin", help="commands for superusers")
    orphans.add_to(admin.add_subparsers(required=True, metavar="COMMAND"))
    status.add_to(commands)
    explain.add_to(commands)
    jobs.add_to(commands)
    drain.add_to(commands)
    doctor.add_to(commands)
    demo.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
