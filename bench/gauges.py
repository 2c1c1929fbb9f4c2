"""The cost of the gauges of all jobs: CPU time of the PostgreSQL session that reads them, on large tables.

One job in a thousand is open, as after a year of videos; VACUUM has run, as autovacuum does.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg

from bench.figures import Figure, cpu_seconds
from services.jobs.background.table_metrics import FINISHED_PER_SECOND, TableMetrics
from services.jobs.settings import JobsSettings
from services.jobs.store.database import Database
from testing.servers.postgres import postgres

READS = 20
INTERVAL_SECONDS = 10.0
SESSIONS = """
    INSERT INTO video_sessions (owner_type, owner_id, created_by)
        SELECT 'coach', 'coach-' || n, 'coach-' || n FROM generate_series(1, 1000) n
"""
FILL = """
    SET session_replication_role = replica;
    INSERT INTO video_analysis_jobs
            (session_id, status, s3_bucket, s3_key, progress_pct, status_since, completed_at)
        SELECT id, CASE WHEN n % 50 = 0 THEN 'failed' ELSE 'done' END::video_analysis_job_status, 'videos', 'k',
            CASE WHEN n % 50 = 0 THEN 99 ELSE 100 END, now() - n * interval '8 hours', now()
        FROM video_sessions, generate_series(1, {each}) n;
    SET session_replication_role = origin;
    INSERT INTO video_analysis_jobs (session_id, status, s3_bucket, s3_key)
        SELECT id, 'queued', 'videos', 'k' FROM video_sessions LIMIT {open};
"""


def run() -> Iterator[Figure]:
    """Milliseconds of one core for each interval of 10 s: open jobs, and the share of counting finished ones."""
    with tempfile.TemporaryDirectory(prefix="crease-bench-") as folder:
        Path(folder).chmod(0o711)
        with postgres(Path(folder, "data")) as server:
            url, existing = server.clone(), 0
            with psycopg.connect(url, autocommit=True) as connection:
                # Without parallel workers, the session's CPU time is all of it.
                serial = f"ALTER DATABASE {connection.info.dbname} SET max_parallel_workers_per_gather = 0"
                connection.execute(serial)
                connection.execute(SESSIONS)
            for rows in (100_000, 1_000_000):
                with psycopg.connect(url, autocommit=True) as connection:
                    connection.execute(FILL.format(each=(rows - existing) // 1000, open=rows // 1000))
                    connection.execute("VACUUM ANALYZE")
                existing = rows
                yield from asyncio.run(_measure(url, rows))


async def _measure(url: str, rows: int) -> list[Figure]:
    database = Database(url, 1)
    settings = {"database_url": url, "issuers": (), "gauge_seconds": INTERVAL_SECONDS}
    gauges = TableMetrics(database, JobsSettings.model_validate(settings))
    await gauges.read()
    async with database.transaction() as connection:
        session = psutil.Process(await connection.value("SELECT pg_backend_pid()"))
    open_ms = await _cpu_ms(gauges, session, recount_at=float("inf"))
    all_ms = await _cpu_ms(gauges, session, recount_at=float("-inf"))
    await database.close()
    # The interval between counts of finished jobs, in whole reads.
    seconds = max(INTERVAL_SECONDS, -(-rows / FINISHED_PER_SECOND // INTERVAL_SECONDS) * INTERVAL_SECONDS)
    share = open_ms + (all_ms - open_ms) * INTERVAL_SECONDS / seconds
    how = f"{rows} jobs; open jobs alone {open_ms:.1f} ms, with finished ones {all_ms:.1f} ms, every {seconds:.0f} s"
    return [Figure(f"gauges_of_{rows}", share, "ms CPU/10s", 30, how=f"{how}; {READS} reads each")]


async def _cpu_ms(gauges: TableMetrics, session: psutil.Process, *, recount_at: float) -> float:
    before = cpu_seconds(session)
    for _ in range(READS):
        gauges._recount_at = recount_at
        await gauges.read()
    return (cpu_seconds(session) - before) * 1000 / READS
