"""Launches in the database: opened, confirmed by the controller, started by one pod, ended once.

    (none) ──claim──▶ offered ──confirm──▶ confirmed ──end──▶ ended
                         │  └───────start──────┴─▶ started ──end──▶ ended

A transaction that writes a launch locks its job first, so that all changes of one job happen one after the other.
Claiming and confirming are exceptions: they lock no job that another transaction needs.
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
from services.jobs.domain.records import AssignedLaunch, Ending, Job, Launch
from services.jobs.store import jobs
from services.jobs.store.database import Connection, Now, assignments, parse_id
from services.jobs.store.rows import ASSIGNED, read_assigned_launch, read_job, read_launch
from services.jobs.store.schema import launches as table
from services.rules.limits import sentence

# A job that people retry again and again has any number of launches, and an answer has an upper bound.
MAX_LISTED = 100
_GET = f"""
    SELECT launch.*, {ASSIGNED} FROM launches AS launch JOIN video_analysis_jobs AS job ON job.id = launch.job_id
    WHERE launch.job_id = %(job_id)s AND launch.launch_no = %(launch_no)s
"""
_UPDATE = f"""
    UPDATE launches AS launch SET {{}} FROM video_analysis_jobs AS job
    WHERE launch.job_id = %(job_id)s AND launch.launch_no = %(launch_no)s AND job.id = launch.job_id
      AND launch.ended_at IS NULL {{}}
    RETURNING launch.*, {ASSIGNED}
"""


def lease_lost() -> errors.PermissionDenied:
    """The error for every caller whose lease is not the valid one."""
    return errors.PermissionDenied(
        "This lease has ended: the launch is over or belongs to another pod", reason="LEASE_LOST"
    )


def check_cluster(of_caller: str, cluster: str) -> None:
    """Raises PermissionDenied if the caller's token names another cluster than this one; empty: it names none."""
    if of_caller not in ("", cluster):
        message = f"A caller of the cluster {of_caller} may not act for the cluster {cluster}"
        raise errors.PermissionDenied(message, reason="OTHER_CLUSTER")


async def record_call(connection: Connection, cluster: str, owner: str) -> None:
    """Records that a cluster's controller has called, and at first use the owner of the cluster's name.

    Raises FailedPrecondition for a second owner. An empty owner is unknown and passes.
    """
    connection.pipeline(_SEEN, cluster=cluster, owner=owner)
    if not owner:
        return
    recorded = await connection.value("SELECT owner FROM clusters WHERE name = %(cluster)s", cluster=cluster)
    if recorded != owner:
        raise errors.FailedPrecondition(
            f"The cluster name {cluster} belongs to {recorded} (namespace UID/release), not to {owner}: "
            "give this release another value of `cluster`",
            reason="CLUSTER_TAKEN",
        )


# Written every five seconds at most: a transaction that writes nothing waits for no disk and delays no event.
_SEEN = """
    INSERT INTO clusters (name, seen_at, owner) SELECT %(cluster)s, clock_timestamp(), %(owner)s
    WHERE NOT EXISTS (
        SELECT FROM clusters WHERE name = %(cluster)s AND seen_at > clock_timestamp() - interval '5 seconds'
          AND (owner <> '' OR %(owner)s = ''))
    ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at, owner = greatest(clusters.owner, excluded.owner)
    WHERE clusters.owner = excluded.owner OR '' IN (clusters.owner, excluded.owner)
"""


async def list_open(
    connection: Connection, cluster: str, size: int, after: tuple[UUID, int] | None
) -> list[AssignedLaunch]:
    """A page of a cluster's open launches, by job and number. Commits."""
    job_id, launch_no = after or (UUID(int=0), 0)
    values = {"cluster": cluster, "size": size, "job_id": job_id, "launch_no": launch_no}
    return await connection.records(read_assigned_launch, _LIST_OPEN, commit=True, **values)


_LIST_OPEN = f"""
    SELECT launch.*, {ASSIGNED} FROM launches AS launch JOIN video_analysis_jobs AS job ON job.id = launch.job_id
    WHERE launch.ended_at IS NULL AND launch.cluster = %(cluster)s
      AND (launch.job_id, launch.launch_no) > (%(job_id)s, %(launch_no)s)
    ORDER BY launch.job_id, launch.launch_no LIMIT %(size)s
"""


async def list_of_job(connection: Connection, job_id: UUID) -> list[Launch]:
    """The newest launches of a job, at most MAX_LISTED, in the order of their numbers."""
    return await connection.records(read_launch, _LIST_OF_JOB, job_id=job_id)


_LIST_OF_JOB = f"""
    SELECT * FROM (
        SELECT * FROM launches WHERE job_id = %(job_id)s ORDER BY launch_no DESC LIMIT {MAX_LISTED}) AS newest
    ORDER BY launch_no
"""


async def get(connection: Connection, job_id: str | UUID, launch_no: int) -> AssignedLaunch:
    """One launch. Raises NotFound."""
    key = job_id if isinstance(job_id, UUID) else parse_id(job_id)
    launch = await connection.record(read_assigned_launch, _GET, job_id=key, launch_no=launch_no)
    if launch is None:
        raise errors.NotFound("Launch not found", reason="LAUNCH_NOT_FOUND")
    return launch


async def get_for_update(connection: Connection, job_id: str, launch_no: int) -> tuple[Job, AssignedLaunch]:
    """A job and one of its launches, both locked. Raises NotFound."""
    row = await connection.row(_GET_FOR_UPDATE, job_id=parse_id(job_id), launch_no=launch_no)
    if row is None:
        job = await jobs.get(connection, job_id)
        return job, await get(connection, job.id, launch_no)
    launch = row | {name: row[alias] for name, alias in _ALIASES.items()}
    return read_job(row), read_assigned_launch(launch)


# One statement reads both, because the columns are then those at the time of the lock, even after waiting for it.
_ALIASES = {column.name: f"launch_{column.name}" for column in table.c}
_GET_FOR_UPDATE = f"""
    SELECT job.*, {", ".join(f"launch.{name} AS {alias}" for name, alias in _ALIASES.items())}, {ASSIGNED}
    FROM video_analysis_jobs AS job JOIN launches AS launch ON launch.job_id = job.id
    WHERE job.id = %(job_id)s AND launch.launch_no = %(launch_no)s FOR UPDATE OF job, launch
"""


async def get_leased_for_update(
    connection: Connection, job_id: str, launch_no: int, secret: str
) -> tuple[Job, AssignedLaunch]:
    """A job and one of its launches, both locked, for the holder of its valid lease. Raises PermissionDenied."""
    try:
        job, launch = await get_for_update(connection, job_id, launch_no)
    except errors.NotFound:
        raise lease_lost() from None
    check_lease(job, launch, secret)
    return job, launch


async def _update_open(
    connection: Connection, launch: Launch, *, commit: bool = False, **values: Any
) -> AssignedLaunch | None:
    columns, sent = assignments(values)
    key = {"job_id": launch.job_id, "launch_no": launch.launch_no}
    statement = _UPDATE.format(columns, "")
    return await connection.record(read_assigned_launch, statement, commit=commit, **key, **sent)


async def confirm(
    connection: Connection, of_caller: str, job_id: str, launch_no: int, uid: str, placed_on: str, reason: str
) -> AssignedLaunch:
    """Records the Kubernetes Job of an open launch; with an empty UID only the reason why there is none yet.

    The same UID again is success. of_caller: as of `check_cluster`. Raises NotFound, FailedPrecondition,
    PermissionDenied.
    """
    values = {"kubernetes_uid": uid, "placed_on": placed_on, "placement_reason": sentence(reason)}
    key = {"of_caller": of_caller, "job_id": parse_id(job_id), "launch_no": launch_no}
    launch = await connection.record(read_assigned_launch, _CONFIRM, commit=True, **key, **values)
    if launch is None:
        check_cluster(of_caller, (await get(connection, job_id, launch_no)).cluster)
        raise errors.FailedPrecondition("The launch has ended or was confirmed for another UID", reason="WRONG_STATE")
    return launch


_CONFIRM = _UPDATE.format(
    """kubernetes_uid = %(kubernetes_uid)s, placed_on = %(placed_on)s, placement_reason = %(placement_reason)s,
    confirmed_at = coalesce(launch.confirmed_at, CASE WHEN %(kubernetes_uid)s <> '' THEN clock_timestamp() END)""",
    "AND launch.kubernetes_uid IN ('', %(kubernetes_uid)s) AND %(of_caller)s IN ('', launch.cluster)",
)


async def start(
    connection: Connection, job: Job, launch: AssignedLaunch, pod: Pod, lease_seconds: float
) -> tuple[Job, str]:
    """Binds a locked, open launch to the first pod that calls. Returns the moved job and a new lease.

    Raises PermissionDenied for a pod of another launch and for a second pod, FailedPrecondition if the launch has ended
    or its job is final or is being cancelled.
    """
    if not pod.name.startswith(f"{naming.launch_name(str(job.id), launch.launch_no)}-"):
        raise errors.PermissionDenied(f"Pod {pod.name} does not belong to this launch", reason="OTHER_POD")
    check_cluster(pod.cluster, launch.cluster)
    if launch.ended_at is not None or job.status not in states.LAUNCHED:
        raise errors.FailedPrecondition("The launch has ended", reason="LAUNCH_ENDED")
    if job.cancel_requested_at is not None:
        raise errors.FailedPrecondition("The job is being cancelled", reason="JOB_CANCELLING")
    if launch.pod_uid not in ("", pod.uid):
        raise errors.PermissionDenied(f"The launch belongs to pod {launch.pod_name}", reason="OTHER_POD")
    secret = secrets.token_urlsafe(32)
    bound = {"pod_name": pod.name, "pod_uid": pod.uid, "lease_hash": _hash(secret), "lease_seconds": lease_seconds}
    connection.pipeline(_START, job_id=job.id, launch_no=launch.launch_no, **bound)
    if job.status == states.QUEUED:
        to = states.DEEP_RUNNING if job.results_stage else states.QUICK_RUNNING
        job = await jobs.move(connection, job, to, started_at=Now())
    return job, secret


_START = """
    UPDATE launches SET pod_name = %(pod_name)s, pod_uid = %(pod_uid)s, lease_hash = %(lease_hash)s,
        lease_expires_at = clock_timestamp() + %(lease_seconds)s * interval '1 second',
        started_at = coalesce(started_at, clock_timestamp())
    WHERE job_id = %(job_id)s AND launch_no = %(launch_no)s AND ended_at IS NULL
"""


def check_lease(job: Job, launch: AssignedLaunch, secret: str) -> None:
    """Raises PermissionDenied unless a secret is the valid lease of an open launch that is not being cancelled."""
    is_wanted = launch.ended_at is None and job.cancel_requested_at is None
    if not (launch.is_leased and is_wanted and is_lease_of(launch, secret)):
        raise lease_lost()


def is_lease_of(launch: Launch, secret: str) -> bool:
    """Whether a secret is the launch's newest lease, expired or not; compared in constant time."""
    return hmac.compare_digest(launch.lease_hash or b"", _hash(secret))


async def renew(connection: Connection, launch: Launch, lease_seconds: float) -> AssignedLaunch:
    """Extends the lease of a locked launch, from now by the database's clock, and commits."""
    renewed = await _update_open(connection, launch, commit=True, lease_expires_at=Now(lease_seconds))
    if renewed is None:
        raise lease_lost()
    return renewed


def succeed(connection: Connection, launch: Launch) -> None:
    """Ends a locked, open launch; the caller's next statement makes its job done."""
    connection.pipeline(_SUCCEED, job_id=launch.job_id, launch_no=launch.launch_no)
    connection.on_commit(partial(metrics.ended, launch, Ending.SUCCEEDED))


_SUCCEED = """
    UPDATE launches SET ending = 'succeeded', ended_at = clock_timestamp()
    WHERE job_id = %(job_id)s AND launch_no = %(launch_no)s AND ended_at IS NULL
"""


async def end(
    connection: Connection, job: Job, launch: AssignedLaunch, ending: Ending, message: str, failure_code: str = ""
) -> tuple[Job, AssignedLaunch]:
    """Ends an open launch, and queues, fails or cancels its job as `retry_policy.py` says. Both are locked.

    A launch that has ended stays as it is. Raises FailedPrecondition for CANCELLED without a request to cancel, for
    any other ending after such a request, which would not prove that nothing runs, and for UNSCHEDULABLE after a pod
    has started.
    """
    if launch.ended_at is not None:
        return job, launch
    message = sentence(message)
    cancelling = job.cancel_requested_at is not None
    if cancelling and ending != Ending.CANCELLED:
        raise errors.FailedPrecondition("The job is being cancelled", reason="JOB_CANCELLING")
    if ending == Ending.CANCELLED and not cancelling:
        raise errors.FailedPrecondition("This job has no request to cancel it", reason="CANCEL_NOT_REQUESTED")
    if ending == Ending.UNSCHEDULABLE and launch.started_at is not None:
        raise errors.FailedPrecondition("A pod of this launch has started: it was scheduled", reason="LAUNCH_STARTED")
    ended = await _update_open(connection, launch, ending=ending, ending_message=message, ended_at=Now())
    if ended is None:
        return job, await get(connection, job.id, launch.launch_no)
    connection.on_commit(partial(metrics.ended, launch, ending))
    if cancelling and job.status != states.CANCELLED:
        job = await jobs.move(connection, job, states.CANCELLED)
    elif job.status in states.LAUNCHED and ending in retry_policy.RULES:
        job = await _apply_policy(connection, job, ending, message, failure_code)
    return job, ended


async def _apply_policy(connection: Connection, job: Job, ending: Ending, message: str, failure_code: str) -> Job:
    since = job.retries_from_launch
    before = await connection.value(_COUNT_ENDING, job_id=job.id, ending=ending, since=since) - 1
    step = retry_policy.next_step(ending, before, reported_code=failure_code)
    if not step.requeue:
        return await jobs.move(connection, job, states.FAILED, failure_code=step.failure_code, error_message=message)
    values: dict[str, Any] = {
        "not_before": Now(step.delay_seconds),
        "memory_factor": job.memory_factor * step.memory_factor,
    }
    if job.status != states.QUEUED:
        return await jobs.move(connection, job, states.QUEUED, **values)
    return await jobs.write(connection, job, **values)


_COUNT_ENDING = """
    SELECT count(*) FROM launches WHERE job_id = %(job_id)s AND ending = %(ending)s AND launch_no > %(since)s
"""


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
