"""The fair queue: gives launches to waiting jobs so that no owner's backlog delays another owner's first job.

Launches that were handed out and not confirmed in time come first, under the same number. Then a waiting job's place is
the number of its owner's open launches plus its rank in its owner's queue, oldest first. At equal places the oldest job
comes first.

The queue is never sorted. Usually the oldest jobs belong to enough owners without an open launch, and these have the
first places. Otherwise the statement probes the index (owner, queued_at, id) once for each waiting owner, and reads on
only for the owners that come first: no other owner can hold one of the first n places.

Transactions do not wait for each other here, unless there are limits: counting open launches takes a lock.
"""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from services.jobs import metrics
from services.jobs.domain.limits import LaunchLimits, OpenLaunches
from services.jobs.domain.records import AssignedLaunch
from services.jobs.domain.retry_policy import MAX_BACKOFF_SECONDS
from services.jobs.store.database import Connection
from services.jobs.store.rows import ASSIGNED, read_assigned_launch

# The most launches of one statement; a larger one costs more than its share.
BATCH = 64
# Candidates beyond the wanted number, because another transaction may hold some of them.
SPARE = 16
_NO_LIMIT = 2**31 - 1
# The key of an advisory lock that nothing else takes.
_LIMITS_LOCK = 0x7475726E73


@dataclass(frozen=True, slots=True)
class Claim:
    """Launches for a controller. `more`: further jobs may wait."""

    launches: list[AssignedLaunch]
    more: bool


async def claim(
    connection: Connection,
    cluster: str,
    capacity: int,
    confirm_seconds: float,
    limits: LaunchLimits,
    *,
    commit: bool = False,
) -> Claim:
    """Claims launches for a cluster, at most `capacity` and BATCH: unconfirmed ones, then one for each next job."""
    if limits.total or limits.per_owner:
        await connection.run("SELECT pg_advisory_xact_lock(%(key)s)", key=_LIMITS_LOCK)
    wanted = new = min(capacity, BATCH)
    if limits.total:
        new = max(0, min(wanted, limits.total - (await count_open(connection, "")).total))
    rows = await connection.rows(
        _CLAIM,
        commit=commit,
        cluster=cluster,
        capacity=wanted,
        new=new,
        examined=new + SPARE,
        limit=limits.per_owner or _NO_LIMIT,
        confirm_seconds=confirm_seconds,
    )
    launches = [read_assigned_launch(row) for row in rows]
    connection.on_commit(
        partial(metrics.opened, [launch for launch, row in zip(launches, rows, strict=True) if row["is_new"]])
    )
    # If all examined candidates exist and some did not come, another transaction holds these, and more may wait.
    return Claim(launches, len(rows) == wanted or (len(rows) > 0 and rows[0]["candidates"] == new + SPARE))


async def count_open(connection: Connection, owner: str) -> OpenLaunches:
    """How many launches are open now, of all owners and of one."""
    [row] = await connection.rows(_COUNT_OPEN, owner=owner)
    return OpenLaunches(row["total"], row["of_owner"])


_COUNT_OPEN = """
    SELECT count(*) AS total, count(*) FILTER (WHERE owner = %(owner)s) AS of_owner
    FROM video_analysis_jobs WHERE launched
"""
# No delay is longer than the longest backoff: a later time was set before the database's clock leapt back.
_WAITING = f"""status = 'queued' AND NOT launched AND (not_before IS NULL OR not_before NOT BETWEEN
    statement_timestamp() AND statement_timestamp() + {MAX_BACKOFF_SECONDS} * interval '1 second')"""
_SQL = Path(__file__).with_name("claim_launches.sql").read_text(encoding="utf-8")
_CLAIM = re.sub("--.*\n", "\n", _SQL).format(waiting=_WAITING, assigned=ASSIGNED)
