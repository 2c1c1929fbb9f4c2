"""Retention on large tables: what purging costs the calls of people meanwhile, and how fast it is.

The tables hold ten million events and a million jobs, as after some years; a tenth of both is due. The same calls are
timed before, while rows are purged 25 times as often as by default, and after; autovacuum runs throughout.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import psycopg

from bench.figures import Figure, percentile
from crease.jobs.v1 import job_pb2, job_pb2_grpc, session_pb2, session_pb2_grpc
from services import dev_issuer
from testing.servers.postgres import postgres
from testing.servers.programs import Laptop, Program, running

JOBS, EVENTS = 1_000_000, 10_000_000
# The share that is due.
DUE = 0.1
CALLS = 400
FILL = """
    SET session_replication_role = replica;
    INSERT INTO video_sessions (owner_type, owner_id, created_by)
        SELECT 'coach', 'coach-' || n, 'coach-' || n FROM generate_series(1, 1000) n;
    INSERT INTO video_analysis_jobs
            (session_id, status, s3_bucket, s3_key, progress_pct, status_since, completed_at, sweep_at, deleted_at)
        SELECT id, 'done', 'videos', 'k', 100, now() - interval '60 days', now() - interval '60 days', NULL,
            CASE WHEN n <= {due} * {jobs} / 1000 THEN now() - interval '50 days' END
        FROM video_sessions, generate_series(1, {jobs} / 1000) n;
    INSERT INTO events (xid, job_id, session_id, from_status, to_status, failure_code, sample_fps, include_frames,
            created_at)
        SELECT 1, gen_random_uuid(), gen_random_uuid(), 'queued', 'quick_running', '', 10, false,
            now() - CASE WHEN n <= {due} * {events} THEN interval '8 days' ELSE interval '1 hour' END
        FROM generate_series(1, {events}) n;
    SET session_replication_role = origin;
"""


def run() -> Iterator[Figure]:
    """Latency of calls against that before purging, and rows purged a second."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crease-bench-")))
        folder.chmod(0o711)
        server = stack.enter_context(postgres(folder / "data"))
        dev_issuer.create(folder / "issuer")
        laptop, url = Laptop(folder / "issuer"), server.clone()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(FILL.format(due=DUE, jobs=JOBS, events=EVENTS))
            connection.execute("VACUUM ANALYZE")
            env = laptop.env | {"CREASE_DATABASE_URL": url}
            late = {"CREASE_EVENT_TTL_SECONDS": "1e9", "CREASE_TOMBSTONE_TTL_SECONDS": "1e9"}
            with running(Program("jobs", env | late, folder / "late.log")) as program:
                calm = _latencies(program, laptop, CALLS)
            with running(Program("jobs", env | {"CREASE_SWEEP_SECONDS": "0.04"}, folder / "often.log")) as program:
                began = time.monotonic()
                busy: list[float] = []
                while _due(connection):
                    busy += _latencies(program, laptop, CALLS // 4)
                seconds = time.monotonic() - began
                connection.execute("VACUUM ANALYZE")
                after = _latencies(program, laptop, CALLS)
        purged = DUE * (JOBS + EVENTS)
        how = f"{EVENTS} events, {JOBS} jobs, {DUE:.0%} due; GetJob, ListJobs and CreateSession in turns"
        yield Figure("retention_rows_per_second", purged / seconds, "1/s", how=f"{how}; swept every 0.04 s")
        base = percentile(calm, 0.99)
        yield Figure("retention_call_p99", base * 1000, "ms", how=f"before; {how}")
        during, later = percentile(busy, 0.99), percentile(after, 0.99)
        yield Figure("retention_call_p99_while_purging", during / base, "x", 2, how=f"against before; {how}")
        yield Figure("retention_call_p99_after_purging", later / base, "x", 1.2, how=f"against before; {how}")


def _latencies(program: Program, laptop: Laptop, count: int) -> list[float]:
    """Seconds of each call."""
    metadata = laptop.person("coach-1")
    with grpc.insecure_channel(program.endpoint) as channel:
        jobs, sessions = job_pb2_grpc.JobServiceStub(channel), session_pb2_grpc.SessionServiceStub(channel)
        [job] = jobs.ListJobs(job_pb2.ListJobsRequest(page_size=1), metadata=metadata).jobs
        calls: list[Callable[[], object]] = [
            lambda: jobs.GetJob(job_pb2.GetJobRequest(job_id=job.job_id), metadata=metadata),
            lambda: jobs.ListJobs(job_pb2.ListJobsRequest(page_size=20), metadata=metadata),
            lambda: sessions.CreateSession(session_pb2.CreateSessionRequest(), metadata=metadata),
        ]
        seconds = []
        for number in range(count):
            began = time.perf_counter()
            calls[number % len(calls)]()
            seconds.append(time.perf_counter() - began)
    return seconds


def _due(connection: "psycopg.Connection[tuple[int]]") -> bool:
    """Whether rows are left that are due."""
    left = """
        SELECT EXISTS (SELECT FROM video_analysis_jobs WHERE deleted_at < now() - interval '30 days')
            OR EXISTS (SELECT FROM events WHERE created_at < now() - interval '7 days')
    """
    return bool(connection.execute(left).fetchone() == (True,))
