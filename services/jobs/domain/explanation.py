"""Why a job is not done yet, or how it ended: one sentence, from what was recorded and nothing else.

    final? ──▶ how it ended                    nothing to wait for
    awaiting_upload ──▶ upload
    a launch is open ──▶ being cancelled, silent or at work: lease;  not started yet: capacity
    queued ──▶ its time has not come: backoff;  as many are open as may be: limits;  else capacity

Pure: the same rows at the same time give the same words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.jobs.domain import states
from services.jobs.store.database import Row


@dataclass(frozen=True)
class Explanation:
    """`waiting_for` is a word of the enum WaitingFor; `since` is when that began."""

    sentence: str
    waiting_for: str
    since: datetime


@dataclass(frozen=True)
class Room:
    """How many launches are open, and how many may be (0: any number); of all owners and of the job's."""

    open: int = 0
    limit: int = 0
    open_of_owner: int = 0
    limit_of_owner: int = 0


ROOMY = Room()


def explain(job: Row, launches: Sequence[Row], now: datetime, room: Room = ROOMY) -> Explanation:
    """The answer for a job and all its launches, the first one first."""
    if job["status"] in (states.DONE, states.FAILED, states.CANCELLED):
        return Explanation(_ended(job, launches), "nothing", job["completed_at"] or job["updated_at"])
    if launches and launches[-1]["ended_at"] is None:
        return _launched(job, launches[-1], now)
    if job["status"] == states.AWAITING_UPLOAD:
        sentence = "The video has not arrived: it was not uploaded, or the upload was not said to be complete"
        return Explanation(sentence, "upload", job["created_at"])
    if job["status"] == states.QUEUED:
        return _queued(job, launches, now, room)
    sentence = f"Its status is {job['status']}, but no launch is open for it: somebody wrote into the database"
    return Explanation(sentence, "nothing", job["updated_at"])


def _ended(job: Row, launches: Sequence[Row]) -> str:
    tries = _count(len(launches), "launch", "launches")
    match job["status"]:
        case states.DONE:
            return f"It is done, after {tries}{_took(job)}"
        case states.FAILED:
            why = job["error_message"] or "nobody said why"
            return f"It failed after {tries}{_code(job['failure_code'])}: {why}"
        case _:
            kept = "; the quick result can still be read" if job["results_stage"] == "quick" else ""
            return f"It was cancelled after {tries}{kept}"


def _launched(job: Row, launch: Row, now: datetime) -> Explanation:
    name = f"Launch {launch['launch_no']} in {launch['cluster']}"
    if job["cancel_requested_at"] is not None:
        where = f" ({launch['placement_reason']})" if launch["placement_reason"] else ""
        sentence = f"It is being cancelled: {name} is deleted, and not yet proved gone{where}"
        return Explanation(sentence, "lease", job["cancel_requested_at"])
    if launch["started_at"] is None:
        return _starting(name, launch)
    if launch["lease_expires_at"] < now:
        silent = _span((now - launch["lease_expires_at"]).total_seconds())
        sentence = f"{name} has fallen silent: the lease of {launch['pod_name']} ran out {silent} ago"
        return Explanation(sentence, "lease", launch["lease_expires_at"])
    where = f" on the {launch['placed_on'].upper()}" if launch["placed_on"] in ("gpu", "cpu") else ""
    sentence = f"{name} is at work{where}: stage {job['stage']}, {job['progress_pct']} %"
    return Explanation(sentence, "lease", launch["started_at"])


def _starting(name: str, launch: Row) -> Explanation:
    if launch["confirmed_at"] is None and launch["placement_reason"]:
        sentence = f"{name} cannot be created yet: {launch['placement_reason']}"
        return Explanation(sentence, "capacity", launch["opened_at"])
    if launch["confirmed_at"] is None:
        sentence = f"{name} was handed to the controller, which has not said yet that anything runs for it"
        return Explanation(sentence, "capacity", launch["opened_at"])
    why = f": {launch['placement_reason']}" if launch["placement_reason"] else ""
    return Explanation(f"{name} was created and has not started yet{why}", "capacity", launch["confirmed_at"])


def _queued(job: Row, launches: Sequence[Row], now: datetime, room: Room) -> Explanation:
    since = max(filter(None, (job["queued_at"] or job["created_at"], job["not_before"])))
    last = launches[-1] if launches else None
    again = f" again (launch {last['launch_no']} ended: {_why(last)})" if last else ""
    if since > now:
        sentence = f"It is launched{again} in {_span((since - now).total_seconds())}"
        return Explanation(sentence, "backoff", job["queued_at"] or job["created_at"])
    waits = f"It waits to be launched{again}"
    if room.limit and room.open >= room.limit:
        return Explanation(f"{waits}: {room.open} launches are open, as many as may be", "limits", since)
    if room.limit_of_owner and room.open_of_owner >= room.limit_of_owner:
        sentence = f"{waits}: its owner has {room.open_of_owner} open launches, as many as may be"
        return Explanation(sentence, "limits", since)
    return Explanation(f"{waits}: no cluster has had room for it yet", "capacity", since)


def _took(job: Row) -> str:
    # Set by hand, it may lack its times.
    began, ended = job["queued_at"] or job["created_at"], job["completed_at"]
    return f", {_span((ended - began).total_seconds())} after it was queued" if ended else ""


def _why(launch: Row) -> str:
    words = str(launch["ending"]).replace("_", " ")
    return f"{words}, {launch['ending_message']}" if launch["ending_message"] else words


def _code(failure_code: str) -> str:
    return f" ({failure_code})" if failure_code else ""


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _span(seconds: float) -> str:
    """A time as people say it, in its largest unit."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return _count(int(seconds // size), unit, f"{unit}s")
    return _count(max(round(seconds), 0), "second", "seconds")
