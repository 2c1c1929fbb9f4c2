"""No query reads a whole table: EXPLAIN of the statements that `jobs` sends, on a hundred thousand jobs."""

import re
from typing import Any
from uuid import UUID

import psycopg
import pytest

from services.auth import Person
from services.jobs.background import expiry, retention
from services.jobs.background.job_watch import JobWatcher
from services.jobs.domain.limits import LaunchLimits
from services.jobs.domain.states import SessionStatus
from services.jobs.notifier import Notifier
from services.jobs.rpc import mapping
from services.jobs.store import fair_queue, jobs, launches, sessions
from services.jobs.store.database import Connection, Database
from services.jobs.store.events import outbox
from services.jobs.store.library import players, search
from services.jobs.store.library.search import Filter

# Twenty thousand sessions, a twentieth of them with jobs; one job in a thousand is queued or awaits its upload.
FILL = """
    INSERT INTO video_sessions (owner_type, owner_id, created_by)
        SELECT 'coach', 'coach-' || n, 'coach-' || n FROM generate_series(1, 20000) n;
    INSERT INTO video_analysis_jobs (session_id, status, s3_bucket, s3_key, progress_pct, created_at)
        SELECT id, CASE WHEN n > 1 OR owner_id NOT LIKE '%0' THEN 'done' WHEN owner_id LIKE '%00' THEN 'queued'
                   ELSE 'awaiting_upload' END::video_analysis_job_status,
               'videos', 'k', CASE WHEN n > 1 OR owner_id NOT LIKE '%0' THEN 100 ELSE 0 END, now() - n * interval '1 h'
        FROM video_sessions, generate_series(1, 100) n WHERE length(owner_id) <= 9;
    INSERT INTO launches (job_id, launch_no, cluster, ending, ended_at)
        SELECT id, 1, 'c1', 'succeeded', now() FROM video_analysis_jobs WHERE status = 'done';
"""
# One deleted session with one job.
TOMBSTONES = """
    WITH session AS (
        INSERT INTO video_sessions (owner_type, owner_id, created_by, deleted_at) VALUES ('coach', 'c', 'c', now())
        RETURNING id)
    INSERT INTO video_analysis_jobs (session_id, status, s3_bucket, s3_key, deleted_at)
        SELECT id, 'cancelled', 'videos', 'k', now() FROM session
"""


@pytest.fixture
def filled_url(database_url: str) -> str:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(FILL)
        connection.execute(TOMBSTONES)
        connection.execute("VACUUM ANALYZE")
    return database_url


async def search_all(connection: Connection, person: Person) -> None:
    """Sends the queries of searches, with each filter."""
    for wanted in (Filter(), Filter(player_id="p-1"), Filter(text="nets"), Filter(discipline="bowling")):
        sessions_found = await search.sessions_page(connection, person, wanted, size=5, page_token="")
        await search.jobs_by_id(connection, [found.shown_id for found in sessions_found.records if found.shown_id])
        for status, first_id, last_id in (("queued", None, None), ("done", UUID(int=0), UUID(int=2**96))):
            jobs_found = await search.jobs_page(
                connection, person, wanted, statuses=[status], first_id=first_id, last_id=last_id, size=5, page_token=""
            )
        await search.sessions_by_id(connection, [found.job.session_id for found in jobs_found.records])
    await players.list_visible(connection, person, name_prefix="a", size=5, page_token="")


async def send_all(database: Database, url: str) -> None:
    """Sends each query whose cost may grow with the tables, as its callers do."""
    coach, boss, root = Person("coach-5", "coach_pro_plus"), Person("b", "org_pro", "o-1"), Person("root", "superuser")
    with psycopg.connect(url, autocommit=True) as sql:
        [latest] = sql.execute("SELECT max(xid) - 1 FROM events").fetchall()
        [job] = sql.execute("SELECT id, owner FROM video_analysis_jobs WHERE status = 'done' LIMIT 1").fetchall()
    async with database.transaction() as connection:
        for person in (coach, boss, root):
            for status in ("", "queued"):
                token = ""
                for _ in range(2):
                    found = await jobs.list_visible(
                        connection, person, session_id="", status=status, size=5, page_token=token
                    )
                    _, token = found.messages(mapping.job)
            token = ""
            for _ in range(2):
                page = await sessions.list_visible(connection, person, size=5, page_token=token)
                _, token = page.messages(lambda session: mapping.session(session, SessionStatus.PENDING))
                await sessions.statuses(connection, [session.id for session in page.records])
            await search_all(connection, person)
        await jobs.get_visible(connection, str(job[0]), root)
        await launches.list_of_job(connection, job[0])
        await fair_queue.count_open(connection, str(job[1]))
        await fair_queue.claim(connection, "c1", 10, 30.0, LaunchLimits())
        await launches.list_open(connection, "c1", 50, None)
        await outbox.read_events(connection, outbox.Position(latest[0], 0))
        await outbox.relay_lag_seconds(connection)
    watcher = JobWatcher(database, Notifier(0.1))
    with watcher.subscribe(job[0]):
        await watcher.publish_changes([job[0]])
    await expiry.bound_leaps(database, 30.0)
    await retention.purge(database, 86400.0)
    assert await retention.purge(database, -86400.0) == (1, 1)
    await expiry.expire_uploads(database, 86400.0)
    await expiry.end_expired_leases(database)
    await expiry.end_launches_of_silent_clusters(database, 300.0)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The statements that were sent so far."""
    statements: set[str] = set()
    execute = psycopg.AsyncClientCursor.execute

    async def record(self: Any, query: str, *args: Any, **options: Any) -> Any:
        statements.update(part for part in query.split("; ") if not part.startswith(("BEGIN", "SET LOCAL", "COMMIT")))
        return await execute(self, query, *args, **options)

    monkeypatch.setattr(psycopg.AsyncClientCursor, "execute", record)
    return statements


@pytest.mark.slow
async def test_no_statement_reads_a_whole_table(filled_url: str, sent: set[str]) -> None:
    """No sequential scan of sessions, jobs, launches or events, for any caller."""
    database = Database(filled_url, 3)
    await send_all(database, filled_url)
    await database.close()
    scans: dict[str, list[str]] = {}
    with psycopg.connect(filled_url) as connection:
        for statement in sent:
            plan = [line for (line,) in connection.execute(f"EXPLAIN {statement}").fetchall()]
            connection.rollback()
            if re.search(r"Seq Scan on (?:video_sessions|video_analysis_jobs|launches|events)\b", str(plan)):
                scans[statement] = plan
    assert len(sent) > 18
    assert scans == {}


# As many events of one transaction as a large import writes.
ONE_TRANSACTION = """
    INSERT INTO events (xid, job_id, session_id, from_status, to_status, failure_code, sample_fps, include_frames,
            created_at)
        SELECT 1, gen_random_uuid(), gen_random_uuid(), 'queued', 'quick_running', '', 10, false,
            now() - interval '8 days'
        FROM generate_series(1, 30000)
"""


async def test_a_purge_of_events_reads_its_batch_alone(database_url: str, sent: set[str]) -> None:
    """PostgreSQL estimates a range of positions by the transaction alone, and so took one batch for the whole table."""
    with psycopg.connect(database_url, autocommit=True) as sql:
        sql.execute(ONE_TRANSACTION)
        sql.execute("VACUUM ANALYZE events")
    database = Database(database_url, 1)
    async with database.transaction() as connection:
        assert await outbox.purge(connection, 86400.0) == outbox.PURGE_BATCH
    await database.close()
    with psycopg.connect(database_url) as sql:
        assert sql.execute("SELECT count(*) FROM events").fetchall() == [(30000 - outbox.PURGE_BATCH,)]
        [delete] = [statement for statement in sent if "DELETE FROM events" in statement]
        assert "Seq Scan" not in str(sql.execute(f"EXPLAIN {delete}").fetchall())


# Half of the sessions belong to one coach, whose jobs are older than the 10,000 of all others.
SKEWED = """
    INSERT INTO video_sessions (owner_type, owner_id, created_by, created_at)
        SELECT 'coach', 'veteran', 'veteran', now() - interval '3 years' FROM generate_series(1, 500);
    INSERT INTO video_sessions (owner_type, owner_id, created_by)
        SELECT 'coach', 'coach-' || n, 'coach-' || n FROM generate_series(1, 500) n;
    INSERT INTO video_analysis_jobs (session_id, status, s3_bucket, s3_key, progress_pct, created_at)
        (SELECT id, 'done'::video_analysis_job_status, 'videos', 'k', 100, created_at
            FROM video_sessions WHERE owner_id = 'veteran' LIMIT 40)
        UNION ALL SELECT id, 'done', 'videos', 'k', 100, now() - n * interval '1 h'
        FROM video_sessions, generate_series(1, 20) n WHERE owner_id <> 'veteran';
"""


async def test_a_page_of_a_list_reads_few_rows_of_others(database_url: str, sent: set[str]) -> None:
    """Also where one owner has half of the sessions, and all others have the newest jobs."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(SKEWED)
        connection.execute("VACUUM ANALYZE")
    database = Database(database_url, 1)
    async with database.transaction() as transaction:
        for person in (Person("veteran", "coach_pro_plus"), Person("veteran", "org_pro", "o-1")):
            for status in ("", "done"):
                found = await jobs.list_visible(
                    transaction, person, session_id="", status=status, size=20, page_token=""
                )
                assert len(found.records) == 20
            assert (await sessions.list_visible(transaction, person, size=20, page_token="")).has_more
            await search_all(transaction, person)
    await database.close()
    read: dict[str, int] = {}
    with psycopg.connect(database_url) as connection:
        for statement in sent:
            [(plans,)] = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}").fetchall()
            read[statement] = rows_read(plans[0]["Plan"])
    assert {statement: rows for statement, rows in read.items() if rows > 3000} == {}


def rows_read(plan: dict[str, Any]) -> int:
    """The rows that the scans of a plan read of tables."""
    own = 0
    if "Relation Name" in plan:
        removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        own = round((plan["Actual Rows"] + removed) * plan["Actual Loops"])
    return own + sum(rows_read(inner) for inner in plan.get("Plans", []))
