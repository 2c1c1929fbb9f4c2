"""`crease doctor`: checks the services and the runtime, one line per check, with advice for each fault."""

import time
from collections.abc import Iterator

from crease.jobs.v1.job_pb2 import JOB_STATUS_DONE, JOB_STATUS_FAILED, Job, ListJobsRequest
from crease.upload.v1.upload_pb2 import ListOrphansRequest
from crease_client.errors import DeadlineExceeded, RpcError, Unavailable
from services.cli.api import client
from services.cli.api.client import Services
from services.cli.commands.options import Arguments, Commands, add_command, connect_as_operator, find_runtime
from services.cli.errors import UNHEALTHY, CommandError
from services.cli.runtime.interface import Check, Runtime
from services.cli.runtime.prometheus import Samples
from services.cli.ui import console

CALL_SECONDS = 10.0
MOST_RELAY_LAG_SECONDS = 60
DAY_SECONDS = 86400
# A certificate with less time than this is a fault.
LEAST_DAYS = 7
# Failure codes of jobs whose analyzer never ran.
NOT_STARTED = frozenset({"IMAGE", "UNSCHEDULABLE"})


def add_to(commands: Commands) -> None:
    add_command(commands, "doctor", _run, "check everything that Crease depends on")


def _run(arguments: Arguments) -> int:
    with connect_as_operator(arguments.state, retries=False) as services:
        return UNHEALTHY if show_checks(services, find_runtime(arguments)) else 0


def show_checks(services: Services, runtime: Runtime) -> int:
    """Prints every check; returns the number of faults. Raises CommandError."""
    faults = not_made = 0
    for check in run_checks(services, runtime):
        faults += not check.ok
        not_made += not check.made
        console.print_check(check.name, check.detail, ok=check.ok, advice=check.advice, made=check.made)
    rest = f" Not checked: {not_made}." if not_made else ""
    console.print_line((f"Faults found: {faults}." if faults else "No fault found.") + rest)
    return faults


def run_checks(services: Services, runtime: Runtime) -> Iterator[Check]:
    """All checks, in the order in which they are printed."""
    yield _check_database(services)
    yield _check_s3(services)
    samples = Samples(runtime.read_metrics())
    yield _check_sqs(samples)
    yield from _check_certificates(samples)
    yield _check_last_launches(services)
    for metric, name in (("crease_ghosts", "ghosts"), ("crease_orphans", "lost launches")):
        count = samples.get(metric) or 0
        yield Check(name, not count, f"{count:.0f}", f"docs/operating.md#{metric.replace('_', '')}")
    yield from runtime.run_checks()
    drained_by = runtime.drained_by()
    detail = f"drained {drained_by}" if drained_by else "the controller launches new analyses"
    yield Check("launching", not drained_by, detail, "drain --undo")


def _check_database(services: Services) -> Check:
    """Whether `jobs` answers from its database."""
    advice = (
        "Check that PostgreSQL is up, has free sessions, and that CREASE_DATABASE_URL names it; see the log of jobs."
    )
    try:
        services.jobs.ListJobs(ListJobsRequest(page_size=1), timeout=CALL_SECONDS)
    except RpcError as error:
        if isinstance(error, Unavailable) and not error.reason:
            return _unreachable(error)
        return Check("database", False, client.to_command_error(error).sentence, advice)
    return Check("database", True, "jobs answers from its database")


def _unreachable(error: RpcError) -> Check:
    """Of a service that sent no answer, so that its database is unknown. The details are gRPC's own."""
    details = error.message
    if "handshake" in details.lower() or "certificate" in details.lower():
        advice = "Check the certificate's expiry and names (tls.secret), and the authority (tls.caConfigMap)."
        return Check("tls", False, f"the connection to jobs is refused: {details}", advice)
    advice = "Check that the pods of jobs are ready and that its endpoint is right."
    return Check("jobs", False, f"jobs does not answer: {details}", advice)


def _check_certificates(samples: Samples) -> Iterator[Check]:
    """The days until each server's certificate expires; nothing without TLS."""
    expiries = samples.by_program("crease_certificate_expires_timestamp_seconds")
    if not expiries:
        return
    program, expires = min(expiries.items(), key=lambda one: one[1])
    days = (expires - time.time()) / DAY_SECONDS
    ends = f"expires in {days:.1f} days" if days > 0 else "has expired"
    detail = f"the certificate of {program} {ends}"
    advice = "Renew the Secret of tls.secret; the programs read it without a restart."
    yield Check("certificates", days > LEAST_DAYS, detail, advice)


def _check_last_launches(services: Services) -> Check:
    """Whether the newest job that ended could not be started: its Kubernetes Job is deleted by then."""
    name, good = "last launches", "the newest job that ended was started"
    newest: list[Job] = []
    for status in (JOB_STATUS_FAILED, JOB_STATUS_DONE):
        try:
            request = ListJobsRequest(status=status, page_size=1)
            newest += services.call(services.jobs.ListJobs, request, seconds=CALL_SECONDS).jobs
        except CommandError as error:
            return Check(name, True, f"not checked: {error}", made=False)
    last = max(newest, key=lambda job: job.updated_at.ToNanoseconds(), default=None)
    if last is None or last.failure_code not in NOT_STARTED:
        return Check(name, True, good)
    detail = f"job {last.job_id} could not be started ({last.failure_code}): {last.error_message}"
    return Check(name, False, detail, f"Repair the cause, then `retry --code {last.failure_code}`.")


def _check_s3(services: Services) -> Check:
    """Whether `upload` can list the bucket. A large bucket may exceed the deadline, which is no fault."""
    advice = "Check that S3 is up and that its endpoint, bucket and keys are right; see the log of upload."
    try:
        services.orphans.ListOrphans(ListOrphansRequest(page_size=1), timeout=CALL_SECONDS)
    except DeadlineExceeded:
        pass
    except RpcError as error:
        return Check("s3", False, client.to_command_error(error).sentence, advice)
    return Check("s3", True, "upload lists the bucket")


def _check_sqs(samples: Samples) -> Check:
    lag = samples.get("crease_relay_lag_seconds")
    if not samples.by_label("outcome", "crease_sqs_messages_total") and not lag:
        return Check("sqs", True, "no relay has a message to send")
    detail = f"the oldest message has waited for {lag or 0:.0f} s"
    advice = "Check that the queue exists and that the relay may send to it; see the log of the relay."
    return Check("sqs", (lag or 0) <= MOST_RELAY_LAG_SECONDS, detail, advice)
