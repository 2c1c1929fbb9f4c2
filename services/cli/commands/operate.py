"""What an operator asks: `status`, `why`, `launches`, `logs`, `cancel`, `retry`, `drain`, `doctor`.

What was decided is asked of `jobs`, as a superuser; what is there now, of the place where analyses run.
"""

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import grpc

from crease.jobs.v1.job_pb2 import (
    JOB_STATUS_FAILED,
    Accelerator,
    CancelJobRequest,
    ExplainJobRequest,
    ExplainJobResponse,
    LaunchEnding,
    ListJobsRequest,
    PastLaunch,
    RetryJobRequest,
    WaitingFor,
)
from crease.upload.v1.upload_pb2 import ListOrphansRequest
from services.cli.api import client
from services.cli.api.client import Services
from services.cli.errors import Trouble
from services.cli.runtime.interface import Check, Place
from services.cli.runtime.kubernetes import ClusterPlace, Kubectl
from services.cli.runtime.laptop import Machine
from services.cli.runtime.prometheus import Numbers
from services.cli.ui import console

UNWELL = 1
DOCTOR_SECONDS = 10.0
NEWEST_FAILED = 5
STATUSES = ("awaiting_upload", "queued", "quick_running", "quick_done", "deep_running", "done", "failed", "cancelled")


@contextlib.contextmanager
def as_operator(folder: Path) -> Iterator[Services]:
    """The services, as a superuser. Raises Trouble."""
    with client.connect(client.as_admin(client.find(os.environ, folder))) as services:
        yield services


def find_place(folder: Path, kubectl: Sequence[str] | None) -> Place:
    """Where analyses run: by kubectl with these arguments; without any, where the services are found."""
    found = None if kubectl is not None else client.find(os.environ, folder)
    if found and found.state_folder:
        return Machine(Path(found.state_folder), found.metrics)
    return ClusterPlace(Kubectl(*kubectl or ()))


def status(services: Services, place: Place) -> None:
    """One screen: what there is, what waits, what fails, what the controller sees."""
    numbers = Numbers(place.metrics())
    _line("Jobs", _jobs(numbers))
    _line("Waiting", _waiting(numbers))
    _line("Failing", _failing(services, numbers))
    _line("Events", _events(numbers))
    _line("GPUs", "nobody counts them" if (free := numbers.get("crease_gpus_free")) is None else f"{free:.0f} free")
    _line("Controller", _controller(place, numbers))
    _line("It sees", _views(numbers))


def why(services: Services, place: Place, job_id: str) -> None:
    """The sentence, what waits for what, and what the place has to say."""
    explained = _explain(services, job_id)
    console.line(f"{explained.sentence}.")
    waiting_for = WaitingFor.Name(explained.waiting_for).removeprefix("WAITING_FOR_").lower()
    if waiting_for != "nothing":
        console.line(f"It waits for: {waiting_for}, since {_moment(explained.since.ToDatetime())}.")
    if drained := place.drained():
        console.line(f"Nothing new is launched: {drained}. `drain --undo` ends that.")
    for past in explained.launches:
        if past.launch_ending:
            console.line(
                f"Launch {past.launch_no} ended as {_ending(past)}: {past.ending_message or 'nothing was said'}"
            )
    for run in place.runs(job_id):
        console.line(f"{run.name}  {run.state}  {run.words}".rstrip())
    for told in place.told(job_id):
        console.line(f"{told.at}  {told.reason}  {told.words}")


def launches(services: Services, job_id: str) -> None:
    """One line a launch, the first one first."""
    explained = _explain(services, job_id)
    if not explained.launches:
        console.line("It was never launched.")
    for one in explained.launches:
        placed = Accelerator.Name(one.placed_on).removeprefix("ACCELERATOR_").lower()
        began = _moment(one.started_at.ToDatetime()) if one.HasField("started_at") else "never started"
        ended = f"{_ending(one)}, {_moment(one.ended_at.ToDatetime())}" if one.launch_ending else "open"
        console.line(f"{one.launch_no:>3}  {one.cluster}  {placed:<11}  {began}  {ended}  {one.pod_name}".rstrip())
        for words in filter(None, (one.placement_reason, one.ending_message)):
            console.line(f"     {words}")


def cancel(services: Services, job_id: str) -> None:
    """Asks for it; the job is cancelled once what ran is proved gone."""
    job = services.call(services.jobs.CancelJob, CancelJobRequest(job_id=job_id))
    asked = job.HasField("cancel_requested_at")
    console.line("It is being cancelled: `why` tells when it is." if asked else f"It is {console.stage_words(job)}.")


def retry(services: Services, job_ids: Sequence[str], code: str) -> None:
    """Queues failed jobs again: those named, or all that failed with a code."""
    for job_id in job_ids or list(_failed_with(services, code)):
        job = services.call(services.jobs.RetryJob, RetryJobRequest(job_id=job_id))
        console.line(f"{job_id}  {console.stage_words(job)}", whole=True)


def drain(place: Place, *, undo: bool) -> None:
    """Stops launching, and lets run what runs; or launches again."""
    if undo:
        place.drain("")
        console.line("New analyses are launched again, in some seconds.")
        return
    who = os.environ.get("USER") or "somebody"
    place.drain(f"by {who} on {socket.gethostname()} at {_moment(datetime.now(UTC))}")
    console.line(
        "In some seconds nothing new is launched any more; what runs goes on. Jobs can still be sent, and wait."
    )
    console.line("`drain --undo` ends that.")


def doctor(services: Services, place: Place) -> int:
    """Looks at everything that must be well; returns how many things are not."""
    unwell = 0
    for check in _checks(services, place):
        unwell += not check.well
        console.check(check.what, check.words, well=check.well, advice=check.advice)
    console.line(f"{unwell} things are not well." if unwell else "All is well.")
    return unwell


def _checks(services: Services, place: Place) -> Iterator[Check]:
    yield _answers(services)
    yield _s3(services)
    numbers = Numbers(place.metrics())
    yield _sqs(numbers)
    for name, label in (("crease_ghosts", "ghosts"), ("crease_orphans", "orphans")):
        count = numbers.get(name) or 0
        yield Check(label, not count, f"{count:.0f}", f"docs/operating.md#crease{label}")
    yield from place.checks()
    drained = place.drained()
    yield Check("launching", not drained, drained or "new analyses are launched", "drain --undo")


def _answers(services: Services) -> Check:
    """`jobs` answers from its database."""
    advice = "Is PostgreSQL up, with sessions to spare, and does CREASE_DATABASE_URL lead there? See the log of jobs."
    try:
        services.call(services.jobs.ListJobs, ListJobsRequest(page_size=1), seconds=DOCTOR_SECONDS, patience_seconds=0)
    except Trouble as trouble:
        return Check("database", False, trouble.sentence, advice)
    return Check("database", True, "jobs answers from it")


def _s3(services: Services) -> Check:
    """`upload` reads from S3, with its own keys; a bucket takes longer to read than we wait."""
    advice = "Is S3 up, and do its endpoint, bucket and keys hold? See the log of upload."
    try:
        listing = services.uploads.ListOrphans(ListOrphansRequest(), timeout=DOCTOR_SECONDS, metadata=services.proof())
        next(iter(listing), None)
        listing.cancel()
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
            return Check("s3", False, client.meaning(error).sentence, advice)
    return Check("s3", True, "upload reads the bucket")


def _sqs(numbers: Numbers) -> Check:
    lag = numbers.get("crease_relay_lag_seconds")
    if not numbers.by("outcome", "crease_sqs_messages_total") and not lag:
        return Check("sqs", True, "no relay has anything to tell")
    words = f"the oldest message has been waiting for {lag or 0:.0f} s"
    return Check("sqs", (lag or 0) <= 60, words, "Is the queue there, and may the relay send? See the relay's log.")


def _jobs(numbers: Numbers) -> str:
    by_status = numbers.by("status", "crease_jobs")
    if not by_status:
        return "nobody counts them: jobs or its database is away, or CREASE_METRICS_LISTEN is not set"
    return ", ".join(f"{by_status.get(name, 0):.0f} {name}" for name in STATUSES)


def _waiting(numbers: Numbers) -> str:
    ages, jobs = numbers.by("status", "crease_oldest_job_age_seconds"), numbers.by("status", "crease_jobs")
    oldest = ", ".join(f"{name} {ages[name]:.0f} s" for name in STATUSES if name in ages and jobs.get(name))
    overdue = numbers.get("crease_awaiting_upload_overdue") or 0
    late = f"; {overdue:.0f} uploads over 5 min" if overdue else ""
    return f"oldest: {oldest}{late}" if oldest else "nothing"


def _failing(services: Services, numbers: Numbers) -> str:
    request = ListJobsRequest(status=JOB_STATUS_FAILED, page_size=NEWEST_FAILED)
    try:
        newest = services.call(services.jobs.ListJobs, request, patience_seconds=0).jobs
    except Trouble as trouble:
        return trouble.sentence
    listed = "; newest: " + ", ".join(f"{job.job_id} {job.failure_code}" for job in newest) if newest else ""
    return f"{numbers.get('crease_failures_last_hour') or 0:.0f} within an hour{listed}"


def _events(numbers: Numbers) -> str:
    held, unsent = (numbers.get(f"crease_{name}_lag_seconds") or 0 for name in ("outbox", "relay"))
    words = f"events held back for {held:.0f} s by a transaction that stays open" if held >= 1 else "none held back"
    return f"{words}; SQS {unsent:.0f} s behind"


def _controller(place: Place, numbers: Numbers) -> str:
    leaders = ", ".join(numbers.holders("crease_leader"))
    words = f"{leaders} works" if leaders else "nobody works"
    try:
        drained = place.drained()
    except Trouble as trouble:
        return f"{words}; whether it is drained cannot be read: {trouble}"
    return words + (f", but launches nothing new: drained {drained}" if drained else "")


def _views(numbers: Numbers) -> str:
    ages = numbers.by("kind", "crease_view_age_seconds")
    views = ", ".join(f"{kind} {seconds:.1f} s old" for kind, seconds in ages.items()) or "its own processes"
    ghosts, orphans = (numbers.get(f"crease_{name}") or 0 for name in ("ghosts", "orphans"))
    return f"{views}; {ghosts:.0f} ghosts, {orphans:.0f} orphans"


def _explain(services: Services, job_id: str) -> ExplainJobResponse:
    return services.call(services.jobs.ExplainJob, ExplainJobRequest(job_id=job_id))


def _failed_with(services: Services, code: str) -> Iterator[str]:
    token = ""
    while True:
        request = ListJobsRequest(status=JOB_STATUS_FAILED, page_size=200, page_token=token)
        page = services.call(services.jobs.ListJobs, request)
        yield from (job.job_id for job in page.jobs if job.failure_code == code)
        token = page.next_page_token
        if not token:
            return


def _line(what: str, words: str) -> None:
    console.line(f"{what:<12}{words}", whole=True)


def _ending(launch: PastLaunch) -> str:
    return LaunchEnding.Name(launch.launch_ending).removeprefix("LAUNCH_ENDING_").lower()


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
