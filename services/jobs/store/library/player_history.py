"""The done analyses of one player, for the player's numbers over time."""

from services.jobs.domain import comparison, states
from services.jobs.domain.records import Player
from services.jobs.domain.trends import Film
from services.jobs.store import sessions
from services.jobs.store.database import Connection
from services.jobs.store.rows import read_job
from services.jobs.store.schema import jobs

MOST_FILMS = 200

_DISCIPLINE = "coalesce(nullif(job.discipline, ''), session.discipline)"
_DONE = f"""
    FROM video_sessions AS session JOIN video_analysis_jobs AS job ON job.session_id = session.id
    WHERE session.player_ids @> ARRAY[%(id)s] AND session.deleted_at IS NULL
      AND session.owner_type = %(owner_type)s AND session.owner_id = %(owner_id)s
      AND job.deleted_at IS NULL AND job.status = '{states.DONE}'
"""
_NEWEST_DISCIPLINE = f"SELECT {_DISCIPLINE} {_DONE} ORDER BY job.created_at DESC LIMIT 1"
_SUMMARY = ("measures", "errors", "scatter", "marks", "video_fps", "actions", "model")
# What `comparison.analysis` reads of the results: a tenth of them.
_RESULTS = f"""jsonb_build_object('metrics', results -> 'metrics', 'findings', results -> 'findings', 'pose',
    jsonb_build_object('pose_summary', jsonb_build_object({
    ", ".join(f"'{name}', results #> '{{pose,pose_summary,{name}}}'" for name in _SUMMARY)
}))) AS results"""
_COLUMNS = ", ".join(column.name for column in jobs.c if column.name != "results")
_FILMS = f"""
    WITH newest AS (
        SELECT DISTINCT ON (job.s3_key) job.id AS job_id, min(job.created_at) OVER (PARTITION BY job.s3_key) AS first_at
        {_DONE} AND {_DISCIPLINE} = %(discipline)s ORDER BY job.s3_key, job.created_at DESC)
    SELECT {_COLUMNS}, {_RESULTS}, first_at FROM newest JOIN video_analysis_jobs ON id = job_id
    ORDER BY first_at DESC LIMIT {MOST_FILMS}
"""


async def newest_discipline(connection: Connection, player: Player) -> str:
    """The discipline of the player's newest done job; empty without one."""
    owner = player.owner
    found = await connection.value(_NEWEST_DISCIPLINE, id=player.id, owner_type=owner.type, owner_id=owner.id)
    return str(found or "")


async def films(connection: Connection, player: Player, discipline: str) -> list[Film]:
    """The newest done job of each video of a player in one discipline, of at most MOST_FILMS videos."""
    owner = player.owner
    rows = await connection.rows(_FILMS, id=player.id, owner_type=owner.type, owner_id=owner.id, discipline=discipline)
    described = await sessions.described(connection, {row["session_id"] for row in rows})
    named = {session.id: session for session, _ in described}
    return [
        Film(comparison.analysis(read_job(row), named[row["session_id"]]), str(row["session_id"]), row["first_at"])
        for row in rows
    ]
