"""What the gauges of all jobs cost PostgreSQL: CPU time of the session that reads them, on large tables.

One job in a thousand is open, as when a year's videos lie in the table; VACUUM has run, as autovacuum does.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg

from bench.figures import Figure, cpu_seconds
from services.jobs.background.table_metrics import RESTING_PER_SECOND, Gauges
from services.jobs.store.database import Database
from testing.servers.postgres import postgres

READS = 20
EVERY_SECONDS = 10.0
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
    """Milliseconds of one core for each interval of 10 s: what is open, and its share of counting what rests."""
    with tempfile.TemporaryDirectory(prefix="crease-bench-") as folder:
        Path(folder).chmod(0o711)
        with postgres(Path(folder, "data")) as server:
            url, there = server.clone(), 0
            with psycopg.connect(url, autocommit=True) as connection:
                # No worker of PostgreSQL helps, so that all it takes is seen.
                alone = f"ALTER DATABASE {connection.info.dbname} SET max_parallel_workers_per_gather = 0"
                connection.execute(alone)
                connection.execute(SESSIONS)
            for rows in (100_000, 1_000_000):
                with psycopg.connect(url, autocommit=True) as connection:
                    connection.execute(FILL.format(each=(rows - there) // 1000, open=rows // 1000))
                    connection.execute("VACUUM ANALYZE")
                there = rows
                yield from asyncio.run(_measure(url, rows))


async def _measure(url: str, rows: int) -> list[Figure]:
    database = Database(url, 1)
    gauges = Gauges(database, EVERY_SECONDS)
    await gauges.read()
    async with database.transaction() as connection:
        session = psutil.Process(await connection.value("SELECT pg_backend_pid()"))
    every = await _cpu_ms(gauges, session, rests_until=float("inf"))
    whole = await _cpu_ms(gauges, session, rests_until=float("-inf"))
    await database.close()
    # The interval at which it comes due, in whole reads.
    seconds = max(EVERY_SECONDS, -(-rows / RESTING_PER_SECOND // EVERY_SECONDS) * EVERY_SECONDS)
    share = every + (whole - every) * EVERY_SECONDS / seconds
    how = f"{rows} jobs; open ones alone {every:.1f} ms, with those at rest {whole:.1f} ms, every {seconds:.0f} s"
    return [Figure(f"gauges_of_{rows}", share, "ms CPU/10s", 30, how=f"{how}; {READS} reads each")]


async def _cpu_ms(gauges: Gauges, session: psutil.Process, *, rests_until: float) -> float:
    before = cpu_seconds(session)
    for _ in range(READS):
        gauges._rests_until = rests_until
        await gauges.read()
    return (cpu_seconds(session) - before) * 1000 / READS
