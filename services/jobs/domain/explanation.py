"""One sentence for ExplainJob: why a job is not done yet, or how it ended, from records alone.

    final or failed ──▶ how it ended                         nothing
    awaiting_upload ──▶ the upload is missing                upload
    a launch is open ──▶ being cancelled, silent, running    lease
                    └──▶ not started yet                     capacity
    queued ──▶ its backoff has not ended                     backoff
          ├──▶ as many launches are open as the limit allows limits
          └──▶ no cluster has room                           capacity

Pure: the same records at the same time give the same sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from services.jobs.domain import states
from services.jobs.domain.limits import LaunchLimits, OpenLaunches
from services.jobs.domain.records import Job, Launch
from services.naming import SERVICE_ACTOR
from services.rules import stages

# The ending message of a cancelled launch begins with this if nothing proved that its workload had ended.
UNPROVED = "Nothing proves that its workload has ended"


class WaitingFor(StrEnum):
    """The enum WaitingFor of the protos."""

    NOTHING = "nothing"
    UPLOAD = "upload"
    LEASE = "lease"
    CAPACITY = "capacity"
    BACKOFF = "backoff"
    LIMITS = "limits"


@dataclass(frozen=True, slots=True)
class Explanation:
    """`since`: when the wait for `waiting_for` began."""

    sentence: str
    waiting_for: WaitingFor
    since: datetime


def explain(
    job: Job, launches: Sequence[Launch], now: datetime, opened: OpenLaunches, limits: LaunchLimits
) -> Explanation:
    """The explanation of a job. `launches` are its newest launches, in order."""
    explained = _explain(job, launches, now, opened, limits)
    return replace(explained, sentence=explained.sentence + _request_of_service(job))


def _request_of_service(job: Job) -> str:
    """Names the service that made the last request, and the owner for whom; empty for a person."""
    if not job.acted_by.startswith(SERVICE_ACTOR):
        return ""
    name, _, owner = job.acted_by.removeprefix(SERVICE_ACTOR).partition(" for ")
    on_behalf = f", on behalf of {owner}" if owner else ""
    return f". The last request came from the service {name}{on_behalf}"


def _explain(
    job: Job, launches: Sequence[Launch], now: datetime, opened: OpenLaunches, limits: LaunchLimits
) -> Explanation:
    if job.status in states.SETTLED:
        return Explanation(_ended(job, launches), WaitingFor.NOTHING, job.completed_at or job.updated_at)
    if launches and launches[-1].ended_at is None:
        return _launched(job, launches[-1], now)
    if job.status == states.AWAITING_UPLOAD:
        sentence = "The video has not arrived: the client has not uploaded it, or has not called CompleteUpload"
        return Explanation(sentence, WaitingFor.UPLOAD, job.created_at)
    if job.status == states.QUEUED:
        return _queued(job, launches, now, opened, limits)
    sentence = f"The job has the status {job.status} but no open launch: an operator changed its row by hand"
    return Explanation(sentence, WaitingFor.NOTHING, job.updated_at)


def _ended(job: Job, launches: Sequence[Launch]) -> str:
    tries = _count(max(job.launch_count, len(launches)), "launch", "launches")
    match job.status:
        case states.Status.DONE:
            return f"The job is done, after {tries}{_duration(job, launches)}"
        case states.Status.FAILED:
            code = f" ({job.failure_code})" if job.failure_code else ""
            return f"The job failed after {tries}{code}: {job.error_message or 'no reason was recorded'}"
        case _:
            kept = f"; its {job.results_stage} result can still be read" if job.results_stage else ""
            last = launches[-1].ending_message if launches else ""
            unproved = f". {last}" if last.startswith(UNPROVED) else ""
            return f"The job was cancelled after {tries}{kept}{unproved}"


def _launched(job: Job, launch: Launch, now: datetime) -> Explanation:
    name = f"Launch {launch.launch_no} in {launch.cluster}"
    if job.cancel_requested_at is not None:
        where = f" ({launch.placement_reason})" if launch.placement_reason else ""
        sentence = f"The job is being cancelled: the controller is deleting {name}, which may still run{where}"
        return Explanation(sentence, WaitingFor.LEASE, job.cancel_requested_at)
    if launch.started_at is None or launch.lease_expires_at is None:
        return _starting(name, launch)
    if launch.lease_expires_at < now:
        silence = _span((now - launch.lease_expires_at).total_seconds())
        sentence = f"{name} sends no heartbeat: the lease of {launch.pod_name} expired {silence} ago"
        return Explanation(sentence, WaitingFor.LEASE, launch.lease_expires_at)
    where = f" on the {launch.placed_on.upper()}" if launch.placed_on else ""
    sentence = f"{name} is running{where}: {stages.describe(job.stage)}, {job.progress_pct} %"
    return Explanation(sentence, WaitingFor.LEASE, launch.started_at)


def _starting(name: str, launch: Launch) -> Explanation:
    if launch.confirmed_at is None and launch.placement_reason:
        sentence = f"{name} cannot be created yet: {launch.placement_reason}"
        return Explanation(sentence, WaitingFor.CAPACITY, launch.opened_at)
    if launch.confirmed_at is None:
        sentence = f"{name} was handed to the controller, which has not confirmed it yet"
        return Explanation(sentence, WaitingFor.CAPACITY, launch.opened_at)
    reason = f": {launch.placement_reason}" if launch.placement_reason else ""
    return Explanation(f"{name} was created and has not started yet{reason}", WaitingFor.CAPACITY, launch.confirmed_at)


def _queued(
    job: Job, launches: Sequence[Launch], now: datetime, opened: OpenLaunches, limits: LaunchLimits
) -> Explanation:
    queued_at = job.queued_at or job.created_at
    since = max(queued_at, job.not_before) if job.not_before else queued_at
    again = f" again (launch {launches[-1].launch_no} ended: {_ending(launches[-1])})" if launches else ""
    if since > now:
        sentence = f"The job is launched{again} in {_span((since - now).total_seconds())}"
        return Explanation(sentence, WaitingFor.BACKOFF, queued_at)
    waits = f"The job waits to be launched{again}"
    if limits.total and opened.total >= limits.total:
        sentence = f"{waits}: {opened.total} launches are open, and the limit is {limits.total}"
        return Explanation(sentence, WaitingFor.LIMITS, since)
    if limits.per_owner and opened.of_owner >= limits.per_owner:
        sentence = f"{waits}: its owner has {opened.of_owner} open launches, and the limit is {limits.per_owner}"
        return Explanation(sentence, WaitingFor.LIMITS, since)
    return Explanation(f"{waits}: no cluster has had room for it yet", WaitingFor.CAPACITY, since)


def _duration(job: Job, launches: Sequence[Launch]) -> str:
    # Each launch after the first queues the job anew. A row that an operator changed may lack its times.
    began = min([job.queued_at or job.created_at, *(launch.opened_at for launch in launches)])
    ended = job.completed_at
    return f", {_span((ended - began).total_seconds())} after it was queued" if ended else ""


def _ending(launch: Launch) -> str:
    words = str(launch.ending or "").replace("_", " ")
    return f"{words}, {launch.ending_message}" if launch.ending_message else words


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _span(seconds: float) -> str:
    """A duration in its largest unit of which it has at least two."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return _count(int(seconds // size), unit, f"{unit}s")
    return _count(max(round(seconds), 0), "second", "seconds")
