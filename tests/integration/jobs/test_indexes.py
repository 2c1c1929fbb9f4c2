"""No query reads a whole table: the statements that `jobs` really sends, explained on a hundred thousand jobs."""

import re
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from services.auth import Person
from services.jobs import events, jobs, launches, sweep
from services.jobs.database import Database
from services.jobs.turns import Limits

# Of a thousand owners; one job in a thousand waits, runs, or awaits its upload too long.
FILL = """
    INSERT INTO video_sessions (owner_type, owner_id, created_by)
        SELECT 'coach', 'coach-' || n, 'coach-' || n FROM generate_series(1, 1000) n;
    INSERT INTO video_analysis_jobs (session_id, status, s3_bucket, s3_key, progress_pct, created_at)
        SELECT id, CASE WHEN n > 1 OR owner_id NOT LIKE '%0' THEN 'done' WHEN owner_id LIKE '%00' THEN 'queued'
                   ELSE 'awaiting_upload' END::video_analysis_job_status,
               'videos', 'k', CASE WHEN n > 1 OR owner_id NOT LIKE '%0' THEN 100 ELSE 0 END, now() - n * interval '1 h'
        FROM video_sessions, generate_series(1, 100) n;
    INSERT INTO launches (job_id, launch_no, cluster, ending, ended_at)
        SELECT id, 1, 'c1', 'succeeded', now() FROM video_analysis_jobs WHERE status = 'done';
"""


@pytest.fixture
def filled_url(database_url: str) -> str:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(FILL)
        connection.execute("VACUUM ANALYZE")
    return database_url


async def send_all(database: Database, url: str) -> None:
    """Each query that grows with the tables, as its callers make it."""
    coach, boss = Person("coach-5", "coach_pro_plus"), Person("root", "superuser")
    with psycopg.connect(url, autocommit=True) as connection:
        [latest] = connection.execute("SELECT max(xid) - 1 FROM events").fetchall()
    async with database.transaction() as connection:
        for person in (coach, boss):
            for status in ("", "queued"):
                nothing = {"session_id": "", "page_token": ""}
                await jobs.list_for(connection, person, status=status, size=50, **nothing)
        await launches.offer(connection, "c1", 10, 30.0, Limits())
        await launches.list_open(connection, "c1", 50, None)
        await events.read(connection, events.Position(latest[0], 0))
    await sweep.expire_uploads(database, 86400.0)
    await sweep.end_lost_leases(database)


@pytest.mark.prove
async def test_no_statement_reads_a_whole_table(filled_url: str) -> None:
    """Neither jobs nor launches nor events are read from end to end, whoever asks."""
    engine = open_engine(filled_url, 3)
    sent: dict[str, Any] = {}

    @sa.event.listens_for(engine.sync_engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if not statement.startswith(("BEGIN", "COMMIT")):
            sent[statement] = parameters

    await send_all(Database(engine), filled_url)
    await engine.dispose()
    whole: dict[str, list[str]] = {}
    with psycopg.connect(filled_url) as connection:
        for statement, parameters in sent.items():
            plan = connection.execute(f"EXPLAIN {statement}", parameters or None).fetchall()
            connection.rollback()
            read = re.findall(r"Seq Scan on (?:video_analysis_jobs|launches|events)\b", str(plan))
            if read:
                whole[statement] = [line for (line,) in plan]
    assert len(sent) > 8
    assert whole == {}
