"""Retention on large tables: how much purging slows calls down while it runs and afterwards, and how fast it is.

The tables hold ten million events and a million jobs, as after some years; a tenth of both is due. Autovacuum runs
throughout. Two copies of the tables exist: one is purged 25 times as often as by default, the other one never. Slices
of calls alternate, because a machine is not equally fast for a quarter of an hour:

    while purging   purged copy, no purge | the same copy, purged by the program that answers | …
    after purging   copy that was never purged | purged copy | …
"""

import tempfile
import time
from collections import defaultdict
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
JOBS_OF_A_SESSION = 10
# The share that is due.
DUE = 0.1
# Calls of each kind in a slice, and the most slices of each side.
CALLS, SLICES = 60, 12
FILL = """
    SET session_replication_role = replica;
    SET synchronous_commit = off;
    INSERT INTO video_sessions (owner_type, owner_id, created_by, created_at)
        SELECT 'coach', 'coach-' || n % 1000, 'coach-' || n % 1000, now() - n * interval '15 minutes'
        FROM generate_series(1, {jobs} / {jobs_of_a_session}) n;
    INSERT INTO video_analysis_jobs (session_id, owner, status, s3_bucket, s3_key, progress_pct, created_at,
            status_since, completed_at, sweep_at, deleted_at)
        SELECT id, 'coach/' || owner_id, 'done', 'videos', 'k/' || id || n, 100, created_at + n * interval '1 minute',
            created_at, created_at, NULL,
            CASE WHEN n <= {due} * {jobs_of_a_session} THEN now() - interval '50 days' END
        FROM video_sessions, generate_series(1, {jobs_of_a_session}) n;
    INSERT INTO events (xid, job_id, session_id, from_status, to_status, failure_code, sample_fps, include_frames,
            created_at)
        SELECT 1, gen_random_uuid(), gen_random_uuid(), 'queued', 'quick_running', '', 10, false,
            now() - CASE WHEN n <= {due} * {events} THEN interval '8 days' ELSE interval '1 hour' END
        FROM generate_series(1, {events}) n;
    SET session_replication_role = origin;
"""
# An index that serves no constraint is built after the rows are there.
INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND NOT EXISTS (
        SELECT FROM pg_constraint WHERE conindid = to_regclass(indexname))
"""
# Seconds of each call, by its name.
Seconds = dict[str, list[float]]


def run() -> Iterator[Figure]:
    """Latency of each call against that without purging, and rows purged a second."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crease-bench-")))
        folder.chmod(0o711)
        server = stack.enter_context(postgres(folder / "data"))
        dev_issuer.create(folder / "issuer")
        laptop, purged_url = Laptop(folder / "issuer"), server.clone()
        with psycopg.connect(purged_url, autocommit=True) as connection:
            _fill(connection)
        whole_url = server.clone(purged_url.partition("?")[0].rpartition("/")[2])
        late = {"CREASE_EVENT_TTL_SECONDS": "1e9", "CREASE_TOMBSTONE_TTL_SECONDS": "1e9"}
        env = {url: laptop.env | {"CREASE_DATABASE_URL": url} for url in (purged_url, whole_url)}
        idle = stack.enter_context(running(Program("jobs", env[purged_url] | late, folder / "idle.log")))
        often = Program("jobs", env[purged_url] | {"CREASE_SWEEP_SECONDS": "0.04"}, folder / "often.log")
        calm, busy = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
        with psycopg.connect(purged_url, autocommit=True) as connection:
            rows_per_second = _purge(connection, idle, often, laptop, calm, busy)
            connection.execute("VACUUM ANALYZE")
        whole = stack.enter_context(running(Program("jobs", env[whole_url] | late, folder / "whole.log")))
        server.run("CHECKPOINT")
        before, after = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
        for _ in range(SLICES):
            _measure(whole, laptop, before)
            _measure(idle, laptop, after)
        how = f"{EVENTS} events, {JOBS} jobs, {DUE:.0%} due"
        yield Figure("retention_rows_per_second", rows_per_second, "1/s", how=f"{how}; swept every 0.04 s, with calls")
        for name in before:
            p99 = percentile(before[name], 0.99)
            yield Figure(f"retention_{name}_p99", p99 * 1000, "ms", how=f"{how}; never purged")
            for when, here, there in (("while", busy, calm), ("after", after, before)):
                ratio = percentile(here[name], 0.99) / percentile(there[name], 0.99)
                goal = 2 if when == "while" else 1.2
                calls = f"{len(here[name])} and {len(there[name])} calls in alternating slices"
                yield Figure(f"retention_{name}_p99_{when}_purging", ratio, "x", goal, how=f"against without; {calls}")


def _fill(connection: "psycopg.Connection[tuple[str, str]]") -> None:
    indexes = connection.execute(INDEXES).fetchall()
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    connection.execute(FILL.format(due=DUE, jobs=JOBS, events=EVENTS, jobs_of_a_session=JOBS_OF_A_SESSION))
    connection.execute("SET maintenance_work_mem = '512MB'")
    for _, definition in indexes:
        connection.execute(definition)
    connection.execute("VACUUM ANALYZE")


def _purge(
    connection: "psycopg.Connection[tuple[bool]]",
    idle: Program,
    often: Program,
    laptop: Laptop,
    calm: Seconds,
    busy: Seconds,
) -> float:
    """Purges all that is due, with calls in the first slices. Returns the rows purged a second."""
    seconds, slices = 0.0, 0
    while _is_due(connection):
        if slices < SLICES:
            _measure(idle, laptop, calm)
        with running(often):
            began = time.monotonic()
            if slices < SLICES:
                _measure(often, laptop, busy)
            while slices >= SLICES - 1 and _is_due(connection):
                time.sleep(1)
            seconds += time.monotonic() - began
        slices += 1
    return DUE * (JOBS + EVENTS) / seconds


def _measure(program: Program, laptop: Laptop, seconds: Seconds) -> None:
    """Adds the seconds of each call of a slice; the first calls only warm up."""
    metadata = laptop.person("coach-1")
    with grpc.insecure_channel(program.endpoint) as channel:
        jobs, sessions = job_pb2_grpc.JobServiceStub(channel), session_pb2_grpc.SessionServiceStub(channel)
        [job] = jobs.ListJobs(job_pb2.ListJobsRequest(page_size=1), metadata=metadata).jobs
        calls: dict[str, Callable[[], object]] = {
            "get_job": lambda: jobs.GetJob(job_pb2.GetJobRequest(job_id=job.job_id), metadata=metadata),
            "list_jobs": lambda: jobs.ListJobs(job_pb2.ListJobsRequest(page_size=20), metadata=metadata),
            "create_session": lambda: sessions.CreateSession(session_pb2.CreateSessionRequest(), metadata=metadata),
        }
        for number in range(CALLS + 5):
            for name, call in calls.items():
                began = time.perf_counter()
                call()
                if number >= 5:
                    seconds[name].append(time.perf_counter() - began)


def _is_due(connection: "psycopg.Connection[tuple[bool]]") -> bool:
    """Whether rows are left that are due."""
    left = """
        SELECT EXISTS (SELECT FROM video_analysis_jobs WHERE deleted_at < now() - interval '30 days')
            OR EXISTS (SELECT FROM events WHERE created_at < now() - interval '7 days')
    """
    return bool(connection.execute(left).fetchone() == (True,))
