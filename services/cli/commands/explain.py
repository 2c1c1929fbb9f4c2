"""`crease why`, `launches` and `logs`: what happened to one job, and why it is not done yet."""

from crease.jobs.v1.job_pb2 import (
    Accelerator,
    ExplainJobRequest,
    ExplainJobResponse,
    LaunchEnding,
    PastLaunch,
    WaitingFor,
)
from services.cli.api.client import Services
from services.cli.commands.options import Arguments, Commands, add_command, connect_as_operator, find_runtime
from services.cli.runtime.interface import Runtime
from services.cli.ui import console

WAITS = {
    WaitingFor.WAITING_FOR_UPLOAD: "its video",
    WaitingFor.WAITING_FOR_LEASE: "its running launch",
    WaitingFor.WAITING_FOR_CAPACITY: "room to run",
    WaitingFor.WAITING_FOR_BACKOFF: "the end of its backoff",
    WaitingFor.WAITING_FOR_LIMITS: "another launch to end",
}


def add_to(commands: Commands) -> None:
    why = add_command(commands, "why", _run_why, "explain why a job is not done yet")
    launches = add_command(commands, "launches", _run_launches, "list the launches of a job, and how each ended")
    logs = add_command(commands, "logs", _run_logs, "show the log of a job's newest run", calls_services=False)
    for command in (why, launches, logs):
        command.add_argument("job", metavar="JOB")
    logs.add_argument("-f", "--follow", action="store_true", help="continue with new lines as they are written")


def _run_why(arguments: Arguments) -> int:
    with connect_as_operator(arguments.state) as services:
        show_why(services, find_runtime(arguments), arguments.job)
    return 0


def _run_launches(arguments: Arguments) -> int:
    with connect_as_operator(arguments.state) as services:
        show_launches(services, arguments.job)
    return 0


def _run_logs(arguments: Arguments) -> int:
    find_runtime(arguments).show_logs(arguments.job, follow=arguments.follow)
    return 0


def show_why(services: Services, runtime: Runtime, job_id: str) -> None:
    """Prints the explanation of `jobs`, then the runs and the events of the runtime. Raises CommandError."""
    explained = _explain(services, job_id)
    console.print_line(f"{explained.sentence}.")
    if waiting_for := WAITS.get(explained.waiting_for):
        console.print_line(f"It waits for {waiting_for}, since {console.format_time(explained.since.ToDatetime())}.")
    if drained_by := runtime.drained_by():
        console.print_line(
            f"The controller launches nothing new: drained {drained_by}. `drain --undo` allows new launches."
        )
    for past in explained.launches:
        if past.launch_ending:
            message = f": {past.ending_message}" if past.ending_message else "."
            console.print_line(f"Launch {past.launch_no} ended as {_ending(past)}{message}")
    for run in runtime.list_runs(job_id):
        console.print_line(f"{run.name}  {run.state}  {run.detail}".rstrip(), whole=True)
    for event in runtime.list_events(job_id):
        console.print_line(f"{console.format_recorded(event.at)}  {event.reason}  {event.message}", whole=True)


def show_launches(services: Services, job_id: str) -> None:
    """Prints one line per launch, oldest first, with its reasons below. Raises CommandError."""
    explained = _explain(services, job_id)
    if not explained.launches:
        console.print_line("The job has no launch yet.")
    for launch in explained.launches:
        accelerator = Accelerator.Name(launch.placed_on).removeprefix("ACCELERATOR_").lower()
        started = (
            console.format_time(launch.started_at.ToDatetime()) if launch.HasField("started_at") else "never started"
        )
        ended = (
            f"{_ending(launch)}, {console.format_time(launch.ended_at.ToDatetime())}"
            if launch.launch_ending
            else "open"
        )
        line = f"{launch.launch_no:>3}  {launch.cluster}  {accelerator:<11}  {started}  {ended}  {launch.pod_name}"
        console.print_line(line.rstrip(), whole=True)
        for reason in filter(None, (launch.placement_reason, launch.ending_message)):
            console.print_line(f"     {reason}")


def _explain(services: Services, job_id: str) -> ExplainJobResponse:
    return services.call(services.jobs.ExplainJob, ExplainJobRequest(job_id=job_id))


def _ending(launch: PastLaunch) -> str:
    """`out of memory` of LAUNCH_ENDING_OUT_OF_MEMORY."""
    return LaunchEnding.Name(launch.launch_ending).removeprefix("LAUNCH_ENDING_").lower().replace("_", " ")
