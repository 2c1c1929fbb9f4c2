"""`crease cancel` and `retry`: cancel a job, queue failed ones again."""

from collections.abc import Iterator, Sequence

from crease.jobs.v1.job_pb2 import JOB_STATUS_FAILED, CancelJobRequest, ListJobsRequest, RetryJobRequest
from services.cli.api.client import Services
from services.cli.commands.options import Arguments, Commands, add_command, connect_as_operator
from services.cli.ui import console
from services.rules import failure_codes

PAGE_SIZE = 200


def add_to(commands: Commands) -> None:
    cancel = add_command(commands, "cancel", _run_cancel, "cancel a job")
    cancel.add_argument("job", metavar="JOB")
    retry = add_command(commands, "retry", _run_retry, "queue failed jobs again")
    selection = retry.add_mutually_exclusive_group(required=True)
    selection.add_argument("job", metavar="JOB", nargs="*", default=[])
    selection.add_argument(
        "--code", default="", metavar="CODE", help="every job that failed with this code: IMAGE, DEADLINE, …"
    )


def _run_cancel(arguments: Arguments) -> int:
    with connect_as_operator(arguments.state) as services:
        cancel(services, arguments.job)
    return 0


def _run_retry(arguments: Arguments) -> int:
    with connect_as_operator(arguments.state) as services:
        retry(services, arguments.job, arguments.code)
    return 0


def cancel(services: Services, job_id: str) -> None:
    """Requests the cancellation; the job is cancelled when its runs are confirmed stopped. Raises CommandError."""
    job = services.call(services.jobs.CancelJob, CancelJobRequest(job_id=job_id))
    is_pending = job.HasField("cancel_requested_at")
    state = f"being cancelled: `why {job_id}` shows when it is done" if is_pending else console.describe_stage(job)
    console.print_line(f"The job is {state}.")


def retry(services: Services, job_ids: Sequence[str], code: str) -> None:
    """Queues failed jobs again: the named ones, or all that failed with a code. Raises CommandError."""
    if code and failure_codes.find(code).fault == failure_codes.Fault.INPUT:
        console.print_line(
            f"The videos of these jobs are at fault ({code}): a retry fails again unless the video was replaced."
        )
    for job_id in job_ids or list(_failed_with(services, code)):
        job = services.call(services.jobs.RetryJob, RetryJobRequest(job_id=job_id))
        console.print_line(f"{job_id}  {console.describe_stage(job)}", whole=True)


def _failed_with(services: Services, code: str) -> Iterator[str]:
    token = ""
    while True:
        request = ListJobsRequest(status=JOB_STATUS_FAILED, page_size=PAGE_SIZE, page_token=token)
        page = services.call(services.jobs.ListJobs, request)
        yield from (job.job_id for job in page.jobs if job.failure_code == code)
        token = page.next_page_token
        if not token:
            return
