"""`crease edit` and `delete`: change a job's session, and delete a job or its session, with a minute to undo."""

from google.protobuf.field_mask_pb2 import FieldMask

from crease.jobs.v1.job_pb2 import DeleteJobRequest, GetJobRequest, UndeleteJobRequest
from crease.jobs.v1.session_pb2 import DeleteSessionRequest, Session, UndeleteSessionRequest, UpdateSessionRequest
from services.cli.commands.library import players
from services.cli.commands.options import Arguments, Commands, add_command, connect
from services.cli.errors import USAGE, CommandError
from services.cli.ui import console


def add_to(commands: Commands) -> None:
    edit = add_command(commands, "edit", _run_edit, "rename the session of a job, or move it to another player")
    edit.add_argument("job", metavar="JOB")
    edit.add_argument("--title")
    edit.add_argument("--player", action="append", metavar="NAME", help="instead of those before; may be repeated")
    edit.add_argument("--notes")
    delete = add_command(commands, "delete", _run_delete, "delete a job; within a minute --undo brings it back")
    delete.add_argument("job", metavar="JOB")
    delete.add_argument("--session", action="store_true", help="delete its session with all its jobs")
    delete.add_argument("--undo", action="store_true", help="undo the deletion; takes the whole id")


def _run_edit(arguments: Arguments) -> int:
    given = {"title": arguments.title, "player_ids": arguments.player, "notes": arguments.notes}
    paths = [name for name, value in given.items() if value is not None]
    if not paths:
        raise CommandError("Nothing to change: give --title, --player or --notes.", USAGE)
    with connect(arguments) as services:
        job = services.call(services.jobs.GetJob, GetJobRequest(job_id=arguments.job))
        session = Session(
            session_id=job.session_id,
            title=arguments.title or "",
            player_ids=players.find_or_create(services, arguments.player or []),
            notes=arguments.notes or "",
        )
        request = UpdateSessionRequest(session=session, update_mask=FieldMask(paths=paths))
        services.call(services.sessions.UpdateSession, request)
    console.print_line("Changed. The report keeps the words that it was made with.")
    return 0


def _run_delete(arguments: Arguments) -> int:
    with connect(arguments) as services:
        if arguments.undo:
            if arguments.session:
                request = UndeleteSessionRequest(session_id=arguments.job)
                services.call(services.sessions.UndeleteSession, request)
            else:
                services.call(services.jobs.UndeleteJob, UndeleteJobRequest(job_id=arguments.job))
            console.print_line("The deletion is undone.")
            return 0
        undo = f"crease delete --undo {arguments.job}"
        if arguments.session:
            session_id = services.call(services.jobs.GetJob, GetJobRequest(job_id=arguments.job)).session_id
            services.call(services.sessions.DeleteSession, DeleteSessionRequest(session_id=session_id, undoable=True))
            undo = f"crease delete --undo --session {session_id}"
        else:
            services.call(services.jobs.DeleteJob, DeleteJobRequest(job_id=arguments.job, undoable=True))
    console.print_line("Deleted. Within a minute this brings it back:")
    console.print_line(undo, whole=True)
    return 0
