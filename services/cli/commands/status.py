"""`crease status`: the jobs, the queue, the failures and the controller on one screen, from the programs' metrics."""

from crease.jobs.v1.job_pb2 import JOB_STATUS_FAILED, JobStatus, ListJobsRequest
from services.cli.api.client import Services
from services.cli.commands.options import Arguments, Commands, add_command, connect_as_operator, find_runtime
from services.cli.errors import CommandError
from services.cli.runtime.interface import Runtime
from services.cli.runtime.prometheus import Samples
from services.cli.ui import console

NEWEST_FAILED = 5
# The labels of the metrics by status, in the order of the enum.
STATUSES = tuple(
    name.removeprefix("JOB_STATUS_").lower() for name in JobStatus.keys() if JobStatus.Value(name)  # noqa: SIM118
)  # fmt: skip
NOT_COUNTED = "not counted"


def add_to(commands: Commands) -> None:
    add_command(commands, "status", _run, "show the state of everything on one screen")


def _run(arguments: Arguments) -> int:
    with connect_as_operator(arguments.state, retries=False) as services:
        show_status(services, find_runtime(arguments))
    return 0


def show_status(services: Services, runtime: Runtime) -> None:
    """Prints the screen. Raises CommandError."""
    samples = Samples(runtime.read_metrics())
    free_gpus = samples.get("crease_gpus_free")
    _print_line("Jobs", _describe_jobs(samples))
    _print_line("Waiting", _describe_waiting(samples))
    _print_line("Failing", _describe_failing(services, samples))
    _print_line("Events", _describe_events(samples))
    _print_line("GPUs", NOT_COUNTED if free_gpus is None else f"{free_gpus:.0f} free")
    _print_line("Controller", _describe_controller(runtime, samples))
    _print_line("Its cache", _describe_cache(samples))


def _print_line(label: str, text: str) -> None:
    console.print_line(f"{label:<12}{text}", whole=True)


def _describe_jobs(samples: Samples) -> str:
    by_status = samples.by_label("status", "crease_jobs")
    if not by_status:
        return f"{NOT_COUNTED}: jobs or its database is unavailable, or CREASE_METRICS_LISTEN is not set"
    counts = [f"{by_status[name]:.0f} {console.describe_status(name)}" for name in STATUSES if by_status.get(name)]
    return ", ".join(counts) or "none"


def _describe_waiting(samples: Samples) -> str:
    ages, jobs = samples.by_label("status", "crease_oldest_job_age_seconds"), samples.by_label("status", "crease_jobs")
    oldest = ", ".join(
        f"{console.describe_status(name)} {ages[name]:.0f} s" for name in STATUSES if name in ages and jobs.get(name)
    )
    overdue = samples.get("crease_awaiting_upload_overdue") or 0
    late = f"; {overdue:.0f} uploads over 5 min" if overdue else ""
    return f"oldest: {oldest}{late}" if oldest else "nothing"


def _describe_failing(services: Services, samples: Samples) -> str:
    request = ListJobsRequest(status=JOB_STATUS_FAILED, page_size=NEWEST_FAILED)
    try:
        newest = services.call(services.jobs.ListJobs, request).jobs
    except CommandError as error:
        return error.sentence
    listed = "; newest: " + ", ".join(f"{job.job_id} {job.failure_code}" for job in newest) if newest else ""
    return f"{samples.get('crease_failures_last_hour') or 0:.0f} within an hour{listed}"


def _describe_events(samples: Samples) -> str:
    held, unsent = (samples.get(f"crease_{name}_lag_seconds") or 0 for name in ("outbox", "relay"))
    text = f"events held back for {held:.0f} s by a transaction that stays open" if held >= 1 else "none held back"
    return f"{text}; SQS {unsent:.0f} s behind"


def _describe_controller(runtime: Runtime, samples: Samples) -> str:
    leaders = ", ".join(samples.programs_at_one("crease_leader"))
    text = f"{leaders} leads" if leaders else "no replica leads"
    if samples.get("crease_leader") is None:
        return "none answers: it is down, it is deployed elsewhere, or CREASE_METRICS_LISTEN is not set"
    try:
        drained_by = runtime.drained_by()
    except CommandError as error:
        return f"{text}; whether it is drained is unknown: {error}"
    return text + (f", but launches nothing new: drained {drained_by}" if drained_by else "")


def _describe_cache(samples: Samples) -> str:
    ages = samples.by_label("kind", "crease_view_age_seconds")
    text = ", ".join(f"{kind} {seconds:.1f} s old" for kind, seconds in ages.items()) or "none: it runs local processes"
    ghosts, orphans = (samples.get(f"crease_{name}") or 0 for name in ("ghosts", "orphans"))
    return f"{text}; {ghosts:.0f} ghosts, {orphans:.0f} lost launches"
