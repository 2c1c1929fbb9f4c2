"""`crease jobs` and `sessions`: lists with title, player, discipline and level."""

import argparse
from collections.abc import Iterable
from datetime import UTC
from typing import Any

from crease.jobs.v1.job_pb2 import JOB_STATUS_DONE, JOB_STATUS_FAILED, Job
from crease.jobs.v1.library_pb2 import (
    JobEntry,
    Level,
    LibraryFilter,
    SearchJobsRequest,
    SearchSessionsRequest,
    SessionEntry,
)
from crease.jobs.v1.session_pb2 import Discipline, Session
from services import naming
from services.cli.api.client import Services
from services.cli.commands.library import players
from services.cli.commands.library.short_ids import shorten
from services.cli.commands.options import Arguments, Commands, add_command, connect
from services.cli.ui import console
from services.rules.players import player_names


def add_to(commands: Commands) -> None:
    _add_filter(add_command(commands, "jobs", _run_jobs, "list the newest jobs"))
    _add_filter(add_command(commands, "sessions", _run_sessions, "list the newest sessions"))


def _add_filter(command: argparse.ArgumentParser) -> None:
    command.add_argument("text", metavar="TEXT", nargs="?", default="", help="in the title, the notes or a name")
    command.add_argument("--player", default="", metavar="NAME")
    command.add_argument("--discipline", choices=[each.value for each in naming.DISCIPLINES], default="")


def _run_jobs(arguments: Arguments) -> int:
    with connect(arguments) as services:
        request = SearchJobsRequest(filter=_filter(services, arguments))
        print_jobs(services.call(services.library.SearchJobs, request).jobs)
    return 0


def _run_sessions(arguments: Arguments) -> int:
    with connect(arguments) as services:
        request = SearchSessionsRequest(filter=_filter(services, arguments))
        _print([_session_row(entry) for entry in services.call(services.library.SearchSessions, request).sessions])
    return 0


def _filter(services: Services, arguments: Arguments) -> LibraryFilter:
    player_id = players.resolve(services, arguments.player) if arguments.player else ""
    stated = f"DISCIPLINE_{arguments.discipline.upper() or 'UNSPECIFIED'}"
    return LibraryFilter(text=arguments.text, player_id=player_id, discipline=Discipline.Value(stated))


def print_jobs(entries: Iterable[JobEntry]) -> None:
    """Prints one line per job."""
    _print([_job_row(entry) for entry in entries])


def _job_row(entry: JobEntry) -> list[str]:
    return _row(entry.job, entry.session, entry.discipline, entry.level, entry.job.created_at)


def _session_row(entry: SessionEntry) -> list[str]:
    return _row(entry.job, entry.session, entry.discipline, entry.level, entry.newest_time)


def _row(job: Job, session: Session, discipline: int, level: int, at: Any) -> list[str]:
    names = ("Anonymous",) if job.anonymous else player_names(session.player_ids, session.players)
    return [
        shorten(job.job_id),
        f"{at.ToDatetime(UTC).astimezone():%d %b %H:%M}",
        session.title,
        ", ".join(names),
        _word(Discipline, discipline),
        _word(Level, level),
        console.describe_stage(job) if job.job_id else "no video",
        _progress(job),
    ]


def _word(enum: Any, number: int) -> str:
    """The last word of an enum's name; empty for the zero value."""
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    return str(enum.Name(number).removeprefix(prefix).lower().replace("_", " ")) if number else ""


def _progress(job: Job) -> str:
    if job.status == JOB_STATUS_FAILED:
        # `crease report` prints the whole message.
        return job.failure_code
    return "" if job.status == JOB_STATUS_DONE or not job.job_id else f"{job.progress_pct} %"


def _print(rows: list[list[str]]) -> None:
    if not rows:
        console.print_line("Nothing found: `crease analyze VIDEO` makes the first one.")
        return
    titles = ("Job", "Newest", "Title", "Player", "Discipline", "Level", "State", "")
    console.print_table(titles, rows, folded=("Title", "Player", "Level", "State"))
