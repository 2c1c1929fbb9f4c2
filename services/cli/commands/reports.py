"""`crease report`: prints the findings of a job, fetches its artifacts into a folder and opens the report."""

import os
import sys
import webbrowser
from pathlib import Path

from google.protobuf import json_format

from crease.jobs.v1.job_pb2 import JOB_STATUS_CANCELLED, JOB_STATUS_FAILED, GetJobRequest, Job
from services.cli.api.client import Services
from services.cli.commands.options import Arguments, Commands, add_command, add_output, connect
from services.cli.errors import INTERNAL, USAGE, CommandError
from services.cli.ui import console, job_results
from services.rules import failure_codes

REPORT = "report.html"
ARTIFACTS = (REPORT, "results.json", "overlay.mp4", "frames.parquet")


def add_to(commands: Commands) -> None:
    command = add_command(commands, "report", _run, "print the findings of a job and fetch its report")
    command.add_argument("job", metavar="JOB")
    add_output(command)


def _run(arguments: Arguments) -> int:
    with connect(arguments) as services:
        job = services.call(services.jobs.GetJob, GetJobRequest(job_id=arguments.job))
        check_has_results(job)
        show(services, job, arguments)
    return 0


def show(services: Services, job: Job, arguments: Arguments) -> None:
    """Prints the results, fetches the artifacts and opens the report; with --json, prints one object instead.

    Raises CommandError.
    """
    folder = arguments.out or Path(f"crease-report-{job.job_id}")
    if arguments.json:
        report = fetch(services, job, folder)
        console.print_json({"job_id": job.job_id, "report": str(report), **json_format.MessageToDict(job.results)})
        return
    job_results.print_results(job)
    report = fetch(services, job, folder)
    console.print_report_path(report)
    open_page(report)


def open_page(page: Path) -> None:
    """Opens a page in the browser if the user sits at a graphical terminal."""
    if sys.stdout.isatty() and any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
        webbrowser.open(page.resolve().as_uri())


def check_has_results(job: Job) -> None:
    """Raises CommandError for a job without results."""
    if not job.results.fields:
        if job.status in (JOB_STATUS_FAILED, JOB_STATUS_CANCELLED):
            raise to_command_error(job)
        raise CommandError(f"Job {job.job_id} has no results yet: {console.describe_stage(job)}, {job.progress_pct} %.")


def to_command_error(job: Job) -> CommandError:
    """The error of a failed or cancelled job: the job's message, and the advice and exit code of its failure code."""
    if job.status == JOB_STATUS_CANCELLED:
        return CommandError(f"Job {job.job_id} was cancelled.", INTERNAL)
    code = failure_codes.find(job.failure_code)
    message = job.error_message.rstrip(".") or f"Job {job.job_id} failed without a message"
    return CommandError(f"{message}. {code.advise(job.job_id)}", code.exit_code)


def fetch(services: Services, job: Job, folder: Path) -> Path:
    """Fetches all artifacts of a job; returns the path of the report. Raises CommandError."""
    existing = {artifact.name for artifact in job.artifacts}
    if REPORT not in existing:
        raise CommandError(f"Job {job.job_id} has results but no {REPORT}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{folder} cannot be used: {error.strerror}.", USAGE) from None
    for name in filter(existing.__contains__, ARTIFACTS):
        fetch_artifact(services, job, name, folder / name)
    return folder / REPORT


def fetch_artifact(services: Services, job: Job, name: str, file: Path) -> None:
    """Fetches one artifact of a job into a file. Raises CommandError."""
    with services.translated():
        services.download(job.job_id, name, file)
