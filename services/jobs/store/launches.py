"""Launches in the database: offered, confirmed, started by one pod, ended once.

    (none) ──open──▶ offered ──confirm──▶ confirmed ──end──▶ ended
                        │  └───────start──────┴─▶ started ──end──▶ ended

Whoever writes a launch holds its job's row first, so that everything said of one job happens one after the other. One
exception: offering and confirming touch launches alone.
"""

import hashlib
import hmac
import secrets
from functools import partial
from typing import Any
from uuid import UUID

from services import errors, naming
from services.auth import Pod
from services.jobs import metrics
from services.jobs.domain import retry_policy, states
from services.jobs.store import fair_queue, jobs
from services.jobs.store.database import Connection, Now, Row, assignments, parse_id
from services.jobs.store.schema import launches as table

# What a controller is told of a launch comes partly from its job; whether its lease lives, the database's clock says.
_TOLD = f"""
    launches.*, {fair_queue.TOLD_OF_JOB},
    launches.lease_expires_at > clock_timestamp() AS is_leased
"""
_GET = f"""
    SELECT {_TOLD} FROM launches JOIN video_analysis_jobs AS job ON job.id = launches.job_id
    WHERE launches.job_id = %(job_id)s AND launches.launch_no = %(launch_no)s
"""
_UPDATE = f"""
    UPDATE launches SET {{}} FROM video_analysis_jobs AS job
    WHERE launches.job_id = %(job_id)s AND launches.launch_no = %(launch_no)s AND job.id = launches.job_id {{}}
    RETURNING {_TOLD}
"""
_OPEN = "AND launches.ended_at IS NULL"


def lease_lost() -> errors.PermissionDenied:
    """The refusal of every caller whose lease is not the living one."""
    return errors.PermissionDenied(
        "This lease has ended: the launch is over or belongs to another pod", reason="LEASE_LOST"
    )


async def list_open(connection: Connection, cluster: str, size: int, after: tuple[UUID, int] | None) -> list[Row]:
    """A page of a cluster's open launches, by job and number; who asks for it is heard of."""
    connection.later(_HEARD, cluster=cluster)
    job_id, launch_no = after or (UUID(int=0), 0)
    return [*await connection.rows(_LIST_OPEN, cluster=cluster, size=size, job_id=job_id, launch_no=launch_no)]


# Written down every five seconds at most: a list that writes nothing waits for no disk and holds no event back.
_HEARD = """
    INSERT INTO clusters (name, seen_at) SELECT %(cluster)s, clock_timestamp()
    WHERE NOT EXISTS (
        SELECT FROM clusters WHERE name = %(cluster)s AND seen_at > clock_timestamp() - interval '5 seconds')
    ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at
"""
_LIST_OPEN = f"""
    SELECT {_TOLD} FROM launches JOIN video_analysis_jobs AS job ON job.id = launches.job_id
    WHERE launches.ended_at IS NULL AND launches.cluster = %(cluster)s
      AND (launches.job_id, launches.launch_no) > (%(job_id)s, %(launch_no)s)
    ORDER BY launches.job_id, launches.launch_no LIMIT %(size)s
"""


async def list_of(connection: Connection, job_id: UUID) -> list[Row]:
    """All launches of a job, the first one first."""
    return [
        *await connection.rows("SELECT * FROM launches WHERE job_id = %(job_id)s ORDER BY launch_no", job_id=job_id)
    ]


async def get(connection: Connection, job_id: str | UUID, launch_no: int) -> Row:
    """One launch. Raises NotFound."""
    key = job_id if isinstance(job_id, UUID) else parse_id(job_id)
    row = await connection.row(_GET, job_id=key, launch_no=launch_no)
    if row is None:
        raise errors.NotFound("Launch not found", reason="LAUNCH_NOT_FOUND")
    return row


async def lock(connection: Connection, job_id: str, launch_no: int) -> tuple[Row, Row]:
    """A job and one of its launches, both held and as they are now. Raises NotFound."""
    row = await connection.row(_LOCK, job_id=parse_id(job_id), launch_no=launch_no)
    if row is None:
        job = await jobs.get(connection, job_id)
        return job, await get(connection, job["id"], launch_no)
    return row, {name: row[alias] for name, alias in _ALIASES.items()}


# Of both in one: a row says what holds when its lock is had, also where that was waited for.
_ALIASES = {column.name: f"launch_{column.name}" for column in table.c} | {
    name: name
    for name in (
        "session_id",
        "accelerator",
        "cancel_requested_at",
        "owner",
        "job_status",
        "job_queued_at",
        "trace_parent",
        "unscheduled_reason",
        "is_leased",
    )
}
_LOCK = f"""
    SELECT job.*, {", ".join(f"launch.{column.name} AS {_ALIASES[column.name]}" for column in table.c)},
        launch.lease_expires_at > clock_timestamp() AS is_leased, {fair_queue.TOLD_OF_JOB}
    FROM video_analysis_jobs AS job JOIN launches AS launch ON launch.job_id = job.id
    WHERE job.id = %(job_id)s AND launch.launch_no = %(launch_no)s FOR UPDATE OF job, launch
"""


async def _update(
    connection: Connection, launch: Row, where: str = "", *, last: bool = False, **values: Any
) -> Row | None:
    columns, sent = assignments(values)
    key = {"job_id": launch["job_id"], "launch_no": launch["launch_no"]}
    return await connection.row(_UPDATE.format(columns, where), last=last, **key, **sent)


async def confirm(connection: Connection, job_id: str, launch_no: int, uid: str, placed_on: str, reason: str) -> Row:
    """Records what runs for an open launch; with an empty UID, why nothing does, which leaves it unconfirmed.

    The same UID again is success. Raises NotFound, FailedPrecondition.
    """
    values = {"kubernetes_uid": uid, "placed_on": placed_on, "placement_reason": reason}
    row = await connection.row(_CONFIRM, last=True, job_id=parse_id(job_id), launch_no=launch_no, **values)
    if row is None:
        await get(connection, job_id, launch_no)
        raise errors.FailedPrecondition("The launch has ended or was confirmed for another UID", reason="WRONG_STATE")
    return row


_CONFIRM = _UPDATE.format(
    """kubernetes_uid = %(kubernetes_uid)s, placed_on = %(placed_on)s, placement_reason = %(placement_reason)s,
    confirmed_at = coalesce(launches.confirmed_at, CASE WHEN %(kubernetes_uid)s <> '' THEN clock_timestamp() END)""",
    f"{_OPEN} AND launches.kubernetes_uid IN ('', %(kubernetes_uid)s)",
)


async def start(connection: Connection, job: Row, launch: Row, pod: Pod, lease_seconds: float) -> tuple[Row, str]:
    """Binds an open launch, held with its job, to the first pod that asks; returns the job, moved, and a fresh lease.

    Raises PermissionDenied for a pod of another launch or a second pod, FailedPrecondition where the launch or its job is over or shall end.
    """
    if not pod.name.startswith(f"{naming.launch_name(job['id'], launch['launch_no'])}-"):
        raise errors.PermissionDenied(f"Pod {pod.name} does not belong to this launch", reason="OTHER_POD")
    if launch["ended_at"] is not None or job["status"] not in states.LAUNCHED:
        raise errors.FailedPrecondition("The launch has ended", reason="LAUNCH_ENDED")
    if job["cancel_requested_at"] is not None:
        raise errors.FailedPrecondition("The job is being cancelled", reason="JOB_CANCELLING")
    if launch["pod_uid"] not in ("", pod.uid):
        raise errors.PermissionDenied(f"The launch belongs to pod {launch['pod_name']}", reason="OTHER_POD")
    secret = secrets.token_urlsafe(32)
    bound = {"pod_name": pod.name, "pod_uid": pod.uid, "lease_hash": _hash(secret), "lease_seconds": lease_seconds}
    connection.later(_START, job_id=job["id"], launch_no=launch["launch_no"], **bound)
    if job["status"] == states.QUEUED:
        to = states.DEEP_RUNNING if job["results_stage"] == "quick" else states.QUICK_RUNNING
        job = await jobs.move(connection, job, to, started_at=Now())
    return job, secret


_START = """
    UPDATE launches SET pod_name = %(pod_name)s, pod_uid = %(pod_uid)s, lease_hash = %(lease_hash)s,
        lease_expires_at = clock_timestamp() + %(lease_seconds)s * interval '1 second',
        started_at = coalesce(started_at, clock_timestamp())
    WHERE job_id = %(job_id)s AND launch_no = %(launch_no)s AND ended_at IS NULL
"""


async def hold(connection: Connection, job_id: str, launch_no: int, secret: str) -> tuple[Row, Row]:
    """The job and the launch, locked, that a living lease proves. Raises PermissionDenied where it proves none."""
    try:
        job, launch = await lock(connection, job_id, launch_no)
    except errors.NotFound:
        raise lease_lost() from None
    check_lease(job, launch, secret)
    return job, launch


def check_lease(job: Row, launch: Row, secret: str) -> None:
    """Raises PermissionDenied where a secret is not the living lease of a launch that shall go on."""
    wanted = launch["ended_at"] is None and job["cancel_requested_at"] is None
    if not (launch["is_leased"] and wanted and is_lease_of(launch, secret)):
        raise lease_lost()


def is_lease_of(launch: Row, secret: str) -> bool:
    """Whether a secret is the launch's newest lease, living or not; compared in constant time."""
    return hmac.compare_digest(launch["lease_hash"] or b"", _hash(secret))


async def renew(connection: Connection, launch: Row, lease_seconds: float) -> Row:
    """Extends the lease of a launch that is held, from now, by the database's clock; with it the transaction ends."""
    row = await _update(connection, launch, _OPEN, last=True, lease_expires_at=Now(lease_seconds))
    if row is None:
        raise lease_lost()
    return row


def succeed(connection: Connection, launch: Row) -> None:
    """Ends a launch that is held and open, whose job is done with the next statement."""
    connection.later(_SUCCEED, job_id=launch["job_id"], launch_no=launch["launch_no"])
    connection.afterwards(partial(metrics.ended, launch, "succeeded"))


_SUCCEED = """
    UPDATE launches SET ending = 'succeeded', ended_at = clock_timestamp()
    WHERE job_id = %(job_id)s AND launch_no = %(launch_no)s AND ended_at IS NULL
"""


async def end(
    connection: Connection, job: Row, launch: Row, ending: str, message: str, failure_code: str = ""
) -> tuple[Row, Row]:
    """Ends an open launch and does with its job, both of which are held, what the table of endings says.

    An ended launch stays as it ended. Returns the job and the launch. Raises FailedPrecondition for `cancelled` where nobody asked
    for it, for any other ending where somebody did (it does not prove that nothing runs), and for `unschedulable` where
    a pod has started.
    """
    if launch["ended_at"] is not None:
        return job, launch
    cancelling = job["cancel_requested_at"] is not None
    if cancelling and ending != states.CANCELLED:
        raise errors.FailedPrecondition("The job is being cancelled", reason="JOB_CANCELLING")
    if ending == states.CANCELLED and not cancelling:
        raise errors.FailedPrecondition("Nobody asked to cancel this job", reason="CANCEL_NOT_REQUESTED")
    if ending == "unschedulable" and launch["started_at"] is not None:
        raise errors.FailedPrecondition("A pod of this launch has started: it was scheduled", reason="LAUNCH_STARTED")
    ended = await _update(connection, launch, _OPEN, ending=ending, ending_message=message, ended_at=Now())
    if ended is None:
        return job, await get(connection, job["id"], launch["launch_no"])
    connection.afterwards(partial(metrics.ended, launch, ending))
    if cancelling and job["status"] != states.CANCELLED:
        job = await jobs.move(connection, job, states.CANCELLED)
    elif job["status"] in states.LAUNCHED and ending in retry_policy.RULES:
        job = await _follow(connection, job, ending, message, failure_code)
    return job, ended


async def _follow(connection: Connection, job: Row, ending: str, message: str, failure_code: str) -> Row:
    since = job["retries_from_launch"]
    before = await connection.value(_SAME_ENDING, job_id=job["id"], ending=ending, since=since) - 1
    follows = retry_policy.following(ending, before)
    if not follows.again:
        code = failure_code or follows.failure_code
        return await jobs.move(connection, job, states.FAILED, failure_code=code, error_message=message)
    values = {
        "not_before": Now(follows.delay_seconds),
        "memory_factor": job["memory_factor"] * follows.memory_factor,
    }
    if job["status"] != states.QUEUED:
        return await jobs.move(connection, job, states.QUEUED, **values)
    return await jobs.write(connection, job, **values)


_SAME_ENDING = """
    SELECT count(*) FROM launches WHERE job_id = %(job_id)s AND ending = %(ending)s AND launch_no > %(since)s
"""


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
