"""Whose turn it is: owners take turns, so that one who queues ten thousand jobs does not delay another's first.

Launches that were offered and never confirmed go first, under the same number. Then a waiting job's place is the number
of its owner's open launches plus its rank in its owner's queue, oldest first; at the same place the oldest comes first.
The queue is never sorted. Mostly its oldest jobs are of enough owners who have nothing open: theirs are the first
places, whoever else waits. Where they are not, an index (owner, queued_at, id) is probed once for each owner who waits,
and read on only for the owners who come first. Nobody after the first n owners can hold one of the first n places.

No transaction waits for another here, unless there are limits: those are counted, so whoever counts goes alone.
"""

from dataclasses import dataclass
from functools import partial

from psycopg.rows import DictRow

from services.jobs import metrics
from services.jobs.store.database import Connection

# How many are looked for at once; more cost more than their share.
ROUND = 64
# How many more are looked at than are wanted, since another may hold some of them.
SPARE = 16
# Any number that no other lock has.
_ALONE = 0x7475726E73


@dataclass(frozen=True)
class Limits:
    """How many launches may be open, of all owners together and of one. 0: any number."""

    all: int = 0
    of_owner: int = 0


@dataclass(frozen=True)
class Open:
    """How many launches are open, of all owners together and of one."""

    all: int
    of_owner: int


async def offer(
    connection: Connection, cluster: str, most: int, confirm_seconds: float, limits: Limits, *, last: bool = False
) -> tuple[list[DictRow], bool]:
    """Launches for a cluster, at most `most` and ROUND, each new one of a queued job whose turn it is; and whether more
    may wait.

    last: the transaction is committed with them.
    """
    if limits.all or limits.of_owner:
        await connection.run("SELECT pg_advisory_xact_lock(%(alone)s)", alone=_ALONE)
    take = new = min(most, ROUND)
    if limits.all:
        new = max(0, min(take, limits.all - (await opened(connection, "")).all))
    limit = limits.of_owner or 2**31 - 1
    rows = await connection.rows(
        _OFFER,
        last=last,
        cluster=cluster,
        take=take,
        new=new,
        look=new + SPARE,
        limit=limit,
        confirm_seconds=confirm_seconds,
    )
    connection.afterwards(partial(metrics.opened, [row for row in rows if row["is_new"]]))
    # Where fewer were found than looked for, those that did not come are in another's hands.
    return rows, len(rows) == take or (len(rows) > 0 and rows[0]["looked_at"] == new + SPARE)


async def opened(connection: Connection, owner: str) -> Open:
    """How many launches are open now."""
    [row] = await connection.rows(_OPENED, owner=owner)
    return Open(row["all_owners"], row["of_owner"])


_OPENED = """
    SELECT count(*) AS all_owners, count(*) FILTER (WHERE owner = %(owner)s) AS of_owner
    FROM video_analysis_jobs WHERE launched
"""

# What a controller is told of a launch beside its own columns; where no GPU took an earlier one, the next is told why.
TOLD_OF_JOB = """
    job.session_id, job.accelerator, job.cancel_requested_at, job.owner, job.status AS job_status,
    greatest(job.queued_at, job.not_before) AS job_queued_at, job.trace_parent,
    (SELECT earlier.ending_message FROM launches AS earlier
     WHERE earlier.job_id = job.id AND earlier.launch_no > job.retries_from_launch AND earlier.ending = 'unschedulable'
     ORDER BY earlier.launch_no DESC LIMIT 1) AS unscheduled_reason
"""

# `own_rank` counts from 1. Where as many owners wait as are looked at, no place beyond the last of their heads is
# needed, and nobody's queue is read beyond it. The last WHERE is asked again of a row that another has just let go of.
# All of it is one statement, since a round trip costs as much as the rest.
_WAITS = "status = 'queued' AND NOT launched AND (not_before IS NULL OR not_before <= statement_timestamp())"
_OFFER = f"""
    WITH RECURSIVE overdue AS (
        SELECT launches.job_id, launches.launch_no FROM launches
        JOIN video_analysis_jobs AS job ON job.id = launches.job_id
        WHERE launches.ended_at IS NULL AND launches.cluster = %(cluster)s AND launches.confirmed_at IS NULL
          AND job.cancel_requested_at IS NULL
          AND launches.offered_at < clock_timestamp() - %(confirm_seconds)s * interval '1 second'
        ORDER BY launches.offered_at LIMIT %(take)s FOR UPDATE OF launches SKIP LOCKED),
    again AS (
        UPDATE launches SET offered_at = clock_timestamp() FROM overdue
        WHERE launches.job_id = overdue.job_id AND launches.launch_no = overdue.launch_no RETURNING launches.*),
    busy AS (SELECT owner, count(*) AS open FROM video_analysis_jobs WHERE launched GROUP BY owner),
    oldest AS (
        SELECT owner, queued_at, id FROM video_analysis_jobs WHERE {_WAITS} ORDER BY queued_at, id LIMIT 4 * %(look)s),
    idle AS (
        SELECT DISTINCT ON (owner) oldest.* FROM oldest LEFT JOIN busy USING (owner) WHERE open IS NULL
        ORDER BY owner, queued_at, id),
    heads AS (
        (SELECT owner, queued_at, id FROM video_analysis_jobs
         WHERE {_WAITS} AND (SELECT count(*) FROM idle) < %(look)s ORDER BY owner, queued_at, id LIMIT 1)
        UNION ALL
        SELECT later.* FROM heads, LATERAL (
            SELECT owner, queued_at, id FROM video_analysis_jobs WHERE {_WAITS} AND owner > heads.owner
            ORDER BY owner, queued_at, id LIMIT 1) AS later),
    first AS (
        SELECT owner, coalesce(open, 0) AS open
        FROM (SELECT * FROM heads UNION ALL SELECT * FROM idle WHERE (SELECT count(*) FROM idle) >= %(look)s) AS heads
        LEFT JOIN busy USING (owner)
        WHERE coalesce(open, 0) < %(limit)s ORDER BY open, queued_at, id LIMIT %(look)s),
    reaching AS (
        SELECT owner, open, least(%(limit)s - open, CASE
            WHEN count(*) OVER () = %(look)s THEN max(open) OVER () + 1 - open ELSE %(look)s END) AS reach FROM first),
    candidates AS (
        SELECT own.id, own.queued_at, reaching.open + own.own_rank AS place FROM reaching, LATERAL (
            SELECT id, queued_at, row_number() OVER (ORDER BY queued_at, id) AS own_rank FROM video_analysis_jobs
            WHERE {_WAITS} AND owner = reaching.owner ORDER BY queued_at, id LIMIT reaching.reach) AS own
        ORDER BY place, queued_at, id LIMIT %(look)s),
    next AS (
        SELECT job.id FROM candidates JOIN video_analysis_jobs AS job USING (id)
        WHERE job.status = 'queued' AND NOT job.launched
        ORDER BY candidates.place, candidates.queued_at, job.id
        LIMIT least(%(new)s, %(take)s - (SELECT count(*) FROM again)) FOR UPDATE OF job SKIP LOCKED),
    counted AS (
        UPDATE video_analysis_jobs AS job SET launch_count = job.launch_count + 1, launched = true
        FROM next WHERE job.id = next.id RETURNING job.*),
    opened AS (
        INSERT INTO launches (job_id, launch_no, cluster, memory_factor)
        SELECT id, launch_count, %(cluster)s, memory_factor FROM counted RETURNING *)
    SELECT again.*, {TOLD_OF_JOB}, false AS is_new, (SELECT count(*) FROM candidates) AS looked_at
    FROM again JOIN video_analysis_jobs AS job ON job.id = again.job_id
    UNION ALL
    SELECT opened.*, {TOLD_OF_JOB}, true, (SELECT count(*) FROM candidates)
    FROM opened JOIN counted AS job ON job.id = opened.job_id
"""
