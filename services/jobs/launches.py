"""Launches in the database: offered, confirmed, started by one pod, ended once.

    (none) ──open──▶ offered ──confirm──▶ confirmed ──end──▶ ended
                        │  └───────start──────┴─▶ started ──end──▶ ended

Whoever writes a launch holds its job's row first, so that everything said of one job happens one after the other. One
exception: offering and confirming touch launches alone.
"""

import hashlib
import hmac
import secrets
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services import errors
from services.auth import Pod
from services.jobs import endings, jobs, states, turns
from services.jobs.database import parse_id
from services.jobs.schema import jobs as job_table
from services.jobs.schema import launches

Row = sa.RowMapping
_now = sa.func.clock_timestamp()
_open = launches.c.ended_at.is_(None)


def _unscheduled(job: sa.FromClause) -> sa.ScalarSelect[str]:
    """How the last launch ended that no node took, or NULL."""
    earlier = launches.alias("earlier")
    return (
        sa.select(earlier.c.ending_message)
        .where(earlier.c.job_id == job.c.id, earlier.c.launch_no > job.c.retries_from_launch)
        .where(earlier.c.ending == "unschedulable")
        .order_by(earlier.c.launch_no.desc())
        .limit(1)
        .correlate(job)
        .scalar_subquery()
    )


# What a controller is told of a launch comes partly from its job; whether its lease lives, the database's clock says.
_columns = (
    *launches.c,
    job_table.c.session_id,
    job_table.c.accelerator,
    job_table.c.cancel_requested_at,
    job_table.c.owner,
    job_table.c.status.label("job_status"),
    _unscheduled(job_table).label("unscheduled_reason"),
    (launches.c.lease_expires_at > _now).label("is_leased"),
)


def lease_lost() -> errors.Denied:
    """The refusal of every caller whose lease is not the living one."""
    return errors.Denied("This lease has ended: the launch is over or belongs to another pod", reason="LEASE_LOST")


async def offer(
    connection: AsyncConnection, cluster: str, capacity: int, confirm_seconds: float, limits: turns.Limits
) -> list[Row]:
    """Up to `capacity` launches to run: first those never confirmed, under the same number, then new ones."""
    offered = await _offer_again(connection, cluster, capacity, confirm_seconds)
    while job_ids := await turns.next_jobs(connection, capacity - len(offered), limits):
        offered += await _open_new(connection, cluster, job_ids)
    return offered


async def _offer_again(connection: AsyncConnection, cluster: str, limit: int, confirm_seconds: float) -> list[Row]:
    overdue = (
        sa.select(launches.c.job_id, launches.c.launch_no)
        .join(job_table)
        .where(_open, launches.c.cluster == cluster, launches.c.confirmed_at.is_(None))
        .where(job_table.c.cancel_requested_at.is_(None))
        .where(launches.c.offered_at < _now - timedelta(seconds=confirm_seconds))
        .order_by(launches.c.offered_at)
        .limit(limit)
        .with_for_update(skip_locked=True, of=launches)
        .cte("overdue")
    )
    statement = (
        sa.update(launches)
        .where(launches.c.job_id == overdue.c.job_id, launches.c.launch_no == overdue.c.launch_no)
        .where(job_table.c.id == launches.c.job_id)
        .values(offered_at=_now)
        .returning(*_columns)
    )
    return list((await connection.execute(statement)).mappings())


async def _open_new(connection: AsyncConnection, cluster: str, job_ids: list[UUID]) -> list[Row]:
    """Opens a launch for each of these jobs, whose rows are held."""
    counted = (
        sa.update(job_table)
        .where(job_table.c.id.in_(job_ids))
        .values(launch_count=job_table.c.launch_count + 1, launched=True)
        .returning(*job_table.c)
        .cte("counted")
    )
    names = ["job_id", "launch_no", "cluster", "memory_factor"]
    source = sa.select(counted.c.id, counted.c.launch_count, sa.literal(cluster), counted.c.memory_factor)
    opened = sa.insert(launches).from_select(names, source).returning(*launches.c).cte("opened")
    told = (
        counted.c.session_id,
        counted.c.accelerator,
        counted.c.cancel_requested_at,
        counted.c.owner,
        counted.c.status.label("job_status"),
        _unscheduled(counted).label("unscheduled_reason"),
    )
    statement = sa.select(opened, *told).join(counted, counted.c.id == opened.c.job_id)
    return list((await connection.execute(statement)).mappings())


async def list_open(connection: AsyncConnection, cluster: str, size: int, after: tuple[UUID, int] | None) -> list[Row]:
    """A page of a cluster's open launches, by job and number."""
    statement = sa.select(*_columns).join(job_table).where(_open, launches.c.cluster == cluster)
    if after:
        statement = statement.where(sa.tuple_(launches.c.job_id, launches.c.launch_no) > sa.tuple_(*after))
    statement = statement.order_by(launches.c.job_id, launches.c.launch_no).limit(size)
    return list((await connection.execute(statement)).mappings())


async def list_of(connection: AsyncConnection, job_id: UUID) -> list[Row]:
    """All launches of a job, the first one first."""
    statement = sa.select(launches).where(launches.c.job_id == job_id).order_by(launches.c.launch_no)
    return list((await connection.execute(statement)).mappings())


async def get(connection: AsyncConnection, job_id: str | UUID, launch_no: int) -> Row:
    """One launch. Raises NotFound."""
    key = job_id if isinstance(job_id, UUID) else parse_id(job_id)
    statement = sa.select(*_columns).join(job_table).where(launches.c.job_id == key, launches.c.launch_no == launch_no)
    row = (await connection.execute(statement)).mappings().one_or_none()
    if row is None:
        raise errors.NotFound("Launch not found", reason="LAUNCH_NOT_FOUND")
    return row


async def _update(
    connection: AsyncConnection, launch: Row, *where: sa.ColumnElement[bool], **values: Any
) -> Row | None:
    statement = (
        sa.update(launches)
        .where(launches.c.job_id == launch["job_id"], launches.c.launch_no == launch["launch_no"], *where)
        .where(job_table.c.id == launches.c.job_id)
        .values(**values)
        .returning(*_columns)
    )
    return (await connection.execute(statement)).mappings().one_or_none()


async def confirm(connection: AsyncConnection, launch: Row, uid: str, placed_on: str, reason: str) -> Row:
    """Records what runs for an open launch. The same UID again is success. Raises Refused."""
    mine = sa.or_(launches.c.kubernetes_uid == "", launches.c.kubernetes_uid == uid)
    confirmed_at = sa.func.coalesce(launches.c.confirmed_at, _now)
    values = {"kubernetes_uid": uid, "placed_on": placed_on, "placement_reason": reason, "confirmed_at": confirmed_at}
    row = await _update(connection, launch, _open, mine, **values)
    if row is None:
        raise errors.Refused("The launch has ended or was confirmed for another UID", reason="WRONG_STATE")
    return row


async def start(connection: AsyncConnection, job: Row, launch: Row, pod: Pod, lease_seconds: float) -> tuple[Row, str]:
    """Binds an open launch to the first pod that asks; returns the job, moved, and a fresh lease.

    Raises Denied for a pod of another launch or a second pod, Refused where the launch or its job is over or shall end.
    """
    if not pod.name.startswith(f"analysis-{job['id']}-{launch['launch_no']}-"):
        raise errors.Denied(f"Pod {pod.name} does not belong to this launch", reason="OTHER_POD")
    if launch["ended_at"] is not None or job["status"] not in states.LAUNCHED:
        raise errors.Refused("The launch has ended", reason="LAUNCH_ENDED")
    if job["cancel_requested_at"] is not None:
        raise errors.Refused("The job is being cancelled", reason="JOB_CANCELLING")
    if launch["pod_uid"] not in ("", pod.uid):
        raise errors.Denied(f"The launch belongs to pod {launch['pod_name']}", reason="OTHER_POD")
    secret = secrets.token_urlsafe(32)
    lease = {"lease_hash": _hash(secret), "lease_expires_at": _now + timedelta(seconds=lease_seconds)}
    started_at = sa.func.coalesce(launches.c.started_at, _now)
    await _update(connection, launch, _open, pod_name=pod.name, pod_uid=pod.uid, started_at=started_at, **lease)
    if job["status"] == states.QUEUED:
        to = states.DEEP_RUNNING if job["results_stage"] == "quick" else states.QUICK_RUNNING
        job = await jobs.move(connection, job, to, started_at=_now)
    return job, secret


async def hold(connection: AsyncConnection, job_id: str, launch_no: int, secret: str) -> tuple[Row, Row]:
    """The job, locked, and the launch that a living lease proves. Raises Denied where it proves none."""
    try:
        job = await jobs.get(connection, job_id, lock=True)
        launch = await get(connection, job["id"], launch_no)
    except errors.NotFound:
        raise lease_lost() from None
    wanted = launch["ended_at"] is None and job["cancel_requested_at"] is None
    if not (launch["is_leased"] and wanted and is_lease_of(launch, secret)):
        raise lease_lost()
    return job, launch


def is_lease_of(launch: Row, secret: str) -> bool:
    """Whether a secret is the launch's newest lease, living or not; compared in constant time."""
    return hmac.compare_digest(launch["lease_hash"] or b"", _hash(secret))


async def renew(connection: AsyncConnection, launch: Row, lease_seconds: float) -> Row:
    """Extends the lease from now, by the database's clock."""
    row = await _update(connection, launch, lease_expires_at=_now + timedelta(seconds=lease_seconds))
    if row is None:
        raise lease_lost()
    return row


async def end(
    connection: AsyncConnection, job: Row, launch: Row, ending: str, message: str, failure_code: str = ""
) -> tuple[Row, Row]:
    """Ends an open launch and does with its job, whose row is held, what the table of endings says.

    An ended launch stays as it ended. Returns the job and the launch. Raises Refused for `cancelled` where nobody asked
    for it, and for any other ending where somebody did: it does not prove that nothing runs.
    """
    if launch["ended_at"] is not None:
        return job, launch
    cancelling = job["cancel_requested_at"] is not None
    if cancelling and ending != states.CANCELLED:
        raise errors.Refused("The job is being cancelled", reason="JOB_CANCELLING")
    if ending == states.CANCELLED and not cancelling:
        raise errors.Refused("Nobody asked to cancel this job", reason="CANCEL_NOT_REQUESTED")
    ended = await _update(connection, launch, _open, ending=ending, ending_message=message, ended_at=_now)
    if ended is None:
        return job, await get(connection, job["id"], launch["launch_no"])
    if cancelling:
        job = await jobs.move(connection, job, states.CANCELLED)
    elif job["status"] in states.LAUNCHED and ending in endings.RULES:
        job = await _follow(connection, job, ending, message, failure_code)
    return job, ended


async def _follow(connection: AsyncConnection, job: Row, ending: str, message: str, failure_code: str) -> Row:
    counted = launches.c.launch_no > job["retries_from_launch"]
    same = sa.select(sa.func.count()).where(launches.c.job_id == job["id"], launches.c.ending == ending, counted)
    before = (await connection.scalar(same) or 0) - 1
    follows = endings.following(ending, before)
    if not follows.again:
        code = failure_code or follows.failure_code
        return await jobs.move(connection, job, states.FAILED, failure_code=code, error_message=message)
    values = {
        "not_before": _now + timedelta(seconds=follows.delay_seconds),
        "memory_factor": job["memory_factor"] * follows.memory_factor,
    }
    if job["status"] != states.QUEUED:
        return await jobs.move(connection, job, states.QUEUED, **values)
    statement = sa.update(job_table).where(job_table.c.id == job["id"]).values(**values).returning(*job_table.c)
    return (await connection.execute(statement)).mappings().one()


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
