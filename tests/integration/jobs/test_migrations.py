"""Migrations of a database from before two-phase uploads, alone and while programs use it."""

import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import alembic.op
import alembic.script
import psycopg
import pytest
import sqlalchemy as sa

from crease.jobs.v1 import job_pb2
from services.jobs.__main__ import migrate
from services.jobs.migrations import indexes
from testing.servers.postgres import Server
from testing.servers.programs import Laptop, Program, running
from tests.conftest import IMPATIENT
from tests.integration.jobs.test_lifecycle import Road

MIGRATIONS = Path(indexes.__file__).parent
OLD = ("queued", "quick_running", "quick_done", "deep_running", "done", "processing", "completed", "failed")


def database_at(server: Server, revision: str) -> str:
    """The URL of a new, empty database at a revision."""
    name = f"test_{uuid.uuid4().hex}"
    server.run(f"CREATE DATABASE {name}")
    migrate(server.url(name), revision)
    return server.url(name)


@pytest.fixture
def old_database(postgres_server: Server) -> str:
    """The URL of a database at 0001, with a row in every status."""
    url = database_at(postgres_server, "0001")
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "INSERT INTO video_sessions (owner_type, owner_id, created_by) VALUES ('coach', 'c', 'c') RETURNING id"
        ).fetchone()
        assert row is not None
        for status in OLD:
            connection.execute(
                "INSERT INTO video_analysis_jobs (session_id, status, s3_bucket, s3_key, error_message)"
                " VALUES (%s, %s, 'b', 'k', %s)",
                (row[0], status, status),
            )
    return url


def test_an_old_database_upgrades_without_losing_a_row(old_database: str) -> None:
    """completed becomes done, processing becomes queued, queued stays queued."""
    migrate(old_database)
    with psycopg.connect(old_database) as connection:
        rows: dict[str, str] = dict(
            connection.execute("SELECT error_message, status::text FROM video_analysis_jobs").fetchall()
        )
    assert rows == {
        "queued": "queued",
        "quick_running": "queued",
        "quick_done": "queued",
        "deep_running": "queued",
        "done": "done",
        "processing": "queued",
        "completed": "done",
        "failed": "failed",
    }


def test_the_old_labels_are_refused_after_the_upgrade(old_database: str) -> None:
    """They stay in the enum, and a CHECK refuses them."""
    migrate(old_database)
    with psycopg.connect(old_database, autocommit=True) as connection:
        for label in ("processing", "completed"):
            with pytest.raises(psycopg.errors.CheckViolation):
                connection.execute("UPDATE video_analysis_jobs SET status = %s", [label])


def test_migrating_twice_changes_nothing(old_database: str) -> None:
    """A Helm hook may run again."""
    versions = []
    for _ in range(2):
        migrate(old_database)
        with psycopg.connect(old_database) as connection:
            versions.append(connection.execute("SELECT version_num FROM alembic_version").fetchall())
    assert versions[0] == versions[1]
    assert len(versions[0]) == 1


def test_the_database_refuses_a_second_open_launch(old_database: str) -> None:
    """One open launch a job, for every writer."""
    migrate(old_database)
    job = "SELECT id FROM video_analysis_jobs ORDER BY id LIMIT 1"
    insert = f"INSERT INTO launches (job_id, launch_no, cluster) VALUES (({job}), %s, 'c')"  # noqa: S608 (constants)
    with psycopg.connect(old_database, autocommit=True) as connection:
        connection.execute(insert, [1])
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(insert, [2])


def test_an_invalid_index_of_an_interrupted_build_is_built_again(postgres_server: Server) -> None:
    """It has the name, but no query can use it."""
    url = database_at(postgres_server, "0015")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE INDEX jobs_since ON video_analysis_jobs (status)")
        connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'jobs_since'::regclass")
        migrate(url)
        found = connection.execute(
            "SELECT indisvalid, pg_get_indexdef(indexrelid) FROM pg_index WHERE indexrelid = 'jobs_since'::regclass"
        ).fetchall()
    assert [valid for valid, _ in found] == [True]
    assert "(status, status_since, launched)" in found[0][1]


class MigrationInterrupted(Exception):
    """The process that migrates has died."""


@pytest.mark.slow
def test_a_migration_that_is_interrupted_anywhere_can_be_rerun(postgres_server: Server) -> None:
    """Before and after each statement outside a transaction; a transaction rolls back."""
    url = database_at(postgres_server, "0001")
    reached: set[tuple[str, str]] = set()

    def interrupt(when: str) -> Callable[..., None]:
        def at(connection: sa.Connection, _: object, statement: str, *__: object) -> None:
            here = (when, statement)
            if connection.connection.dbapi_connection.autocommit and here not in reached:  # type: ignore[union-attr]
                reached.add(here)
                raise MigrationInterrupted

        return at

    hooks = {f"{when}_cursor_execute": interrupt(when) for when in ("before", "after")}
    for name, hook in hooks.items():
        sa.event.listen(sa.Engine, name, hook)
    try:
        is_done = False
        while not is_done:
            with suppress(MigrationInterrupted):
                migrate(url)
                is_done = True
    finally:
        for name, hook in hooks.items():
            sa.event.remove(sa.Engine, name, hook)
    assert len(reached) > 30
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchall() == [(0,)]


@pytest.mark.slow
def test_two_concurrent_migrations_run_one_after_the_other(postgres_server: Server) -> None:
    """Neither blocks an index that the other one builds."""
    url = database_at(postgres_server, "0001")
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(in_a_process, url) for _ in range(2)]:
            done.result()


def test_a_job_from_before_owners_gets_the_owner_of_its_session(postgres_server: Server) -> None:
    """A list of jobs finds the jobs of a person by this column."""
    url = database_at(postgres_server, "0007")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("""
            WITH session AS (
                INSERT INTO video_sessions (owner_type, owner_id, created_by)
                VALUES ('org', 'o/1', 'c'), ('coach', 'c', 'c')
                RETURNING id)
            INSERT INTO video_analysis_jobs (session_id, status, s3_bucket, s3_key)
            SELECT id, 'failed', 'videos', 'k' FROM session, generate_series(1, 1200)
        """)
        migrate(url)
        found = connection.execute("SELECT owner, count(*) FROM video_analysis_jobs GROUP BY 1 ORDER BY 1").fetchall()
    assert found == [("coach/c", 1200), ("org/o/1", 1200)]


def in_a_process(url: str) -> None:
    """Migrates in a process of its own, as a pod does."""
    command = [sys.executable, "-m", "services.jobs", "migrate"]
    subprocess.run(command, env=os.environ | {"CREASE_DATABASE_URL": url}, check=True, capture_output=True)


def test_every_index_of_a_migration_exists_under_a_unique_name(database_url: str) -> None:
    """With a name that exists already, an index would silently not be built."""
    built: list[str] = []
    executed: list[str] = []
    without_rows = Mock(**{"exec_driver_sql.return_value.scalar.return_value": None})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexes, "build", lambda _, named, **__: built.extend(named))
        patch.setattr(alembic.op, "execute", executed.append)
        patch.setattr(alembic.op, "get_bind", lambda: without_rows)
        patch.setattr(alembic.op, "get_context", lambda: Mock(autocommit_block=nullcontext))
        for revision in alembic.script.ScriptDirectory(str(MIGRATIONS)).walk_revisions():
            revision.module.upgrade()
    with psycopg.connect(database_url) as connection:
        existing = {name for (name,) in connection.execute("SELECT indexname FROM pg_indexes").fetchall()}
    assert sorted(built) == sorted(set(built))
    assert len(built) > 10
    dropped = set(re.findall(r"DROP INDEX CONCURRENTLY IF EXISTS (\w+)", "\n".join(executed)))
    assert set(built) - existing == dropped


@pytest.mark.slow
def test_a_migration_gives_up_on_a_locked_table_and_retries_later(
    postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, readers would wait behind the migration."""
    monkeypatch.setattr("services.jobs.__main__.MIGRATION_PAUSE_SECONDS", 0.1)
    url = database_at(postgres_server, "0013")
    waiting_locks = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as watcher:
        holder.execute("SELECT 1 FROM video_analysis_jobs")
        migration = threading.Thread(target=migrate, args=[url])
        migration.start()
        waited, gave_up = False, False
        while not (waited and gave_up):
            waits = watcher.execute(waiting_locks).fetchall() != [(0,)]
            waited, gave_up = waited or waits, gave_up or (waited and not waits)
            time.sleep(0.01)
        watcher.execute("SET statement_timeout = '4s'; SELECT count(*) FROM video_analysis_jobs")
        holder.rollback()
        migration.join()
        assert watcher.execute("SELECT version_num FROM alembic_version").fetchall() > [("0013",)]


@contextmanager
def watching_locks(url: str) -> Iterator[Callable[[], float]]:
    """The total seconds so far in which any session held ACCESS EXCLUSIVE on one of the tables."""
    stop, held = threading.Event(), [0.0]
    exclusive = """
        SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation IN (
            SELECT oid FROM pg_class WHERE relname IN ('video_sessions', 'video_analysis_jobs', 'launches', 'events'))
    """

    def watch() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            before = time.monotonic()
            while not stop.is_set():
                is_held = connection.execute(exclusive).fetchone() is not None
                now = time.monotonic()
                held[0] += is_held * (now - before)
                before = now
                time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: held[0]
    finally:
        stop.set()
        watcher.join()


@pytest.mark.slow
def test_a_million_jobs_are_migrated_with_short_exclusive_locks(postgres_server: Server) -> None:
    """ACCESS EXCLUSIVE, which blocks every reader, is held for at most two seconds in all."""
    url = database_at(postgres_server, "0001")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO video_sessions (owner_type, owner_id, created_by) VALUES ('coach', 'c', 'c')")
        connection.execute("""
            INSERT INTO video_analysis_jobs (session_id, status, s3_bucket, s3_key)
            SELECT id, CASE n % 20 WHEN 0 THEN 'queued' WHEN 1 THEN 'processing' WHEN 2 THEN 'completed'
                       ELSE 'failed' END::video_analysis_job_status, 'videos', 'k'
            FROM video_sessions, generate_series(1, 1000000) AS n
        """)
        with watching_locks(url) as held:
            connection.execute("BEGIN; LOCK video_analysis_jobs; SELECT pg_sleep(0.2); COMMIT")
            before = held()
            assert before > 0.1, "the watcher detects no lock"
            migrate(url)
        assert held() - before < 2
        rows = connection.execute("SELECT status::text, count(*) FROM video_analysis_jobs GROUP BY 1").fetchall()
    assert dict(rows) == {"queued": 100_000, "failed": 850_000, "done": 50_000}


class OldProgram:
    """The statements and transactions of a `jobs` of schema 0007."""

    PINNED = "etag = 'abc', content_length = 10"

    def __init__(self, url: str) -> None:
        self._sql = psycopg.connect(url, prepare_threshold=None)
        with self._sql.transaction():
            self._session = self._sql.execute(
                "INSERT INTO video_sessions (owner_type, owner_id, created_by) VALUES ('coach', 'old', '') RETURNING id"
            ).fetchone()

    def close(self) -> None:
        self._sql.close()

    def create(self) -> Any:
        with self._sql.transaction():
            row = self._sql.execute(
                "INSERT INTO video_analysis_jobs (session_id, status, stage, s3_bucket, s3_key)"
                " VALUES (%s, 'awaiting_upload', 'AWAITING_UPLOAD', 'videos', 'k') RETURNING id",
                self._session,
            ).fetchone()
        assert row is not None
        return row[0]

    def move(self, job_id: Any, source: str, to: str, more: str = "progress_pct = 0") -> None:
        with self._sql.transaction():
            self._sql.execute("SELECT * FROM video_analysis_jobs WHERE id = %s FOR UPDATE", [job_id])
            moved = self._sql.execute(
                f"UPDATE video_analysis_jobs SET status = %s, {more} WHERE id = %s AND status = %s",  # noqa: S608
                [to, job_id, source],
            )
            assert moved.rowcount == 1

    def open(self) -> list[Any]:
        """Opens launches for queued jobs, its own or not. Returns the jobs' ids."""
        opened: list[Any] = []
        with self._sql.transaction():
            rows = self._sql.execute("""
                SELECT id FROM video_analysis_jobs AS job WHERE status = 'queued' AND NOT EXISTS (
                    SELECT 1 FROM launches WHERE job_id = job.id AND ended_at IS NULL)
                ORDER BY queued_at LIMIT 2 FOR UPDATE SKIP LOCKED
            """).fetchall()
            for (job_id,) in rows:
                # A launch committed since the SELECT began is visible only to a statement that begins after the lock.
                opened += self._sql.execute(
                    "WITH counted AS (UPDATE video_analysis_jobs AS job SET launch_count = launch_count + 1"
                    " WHERE id = %s AND NOT EXISTS (SELECT 1 FROM launches WHERE job_id = job.id AND ended_at IS NULL)"
                    " RETURNING id, launch_count)"
                    " INSERT INTO launches (job_id, launch_no, cluster) SELECT id, launch_count, 'c1' FROM counted"
                    " RETURNING job_id",
                    [job_id],
                ).fetchall()
        return [job_id for (job_id,) in opened]

    def finish(self, job_id: Any) -> None:
        self.move(job_id, "queued", "quick_running", "started_at = clock_timestamp()")
        self.move(job_id, "quick_running", "quick_done", "progress_pct = 50")
        self.move(job_id, "quick_done", "deep_running", "progress_pct = 51")
        with self._sql.transaction():
            self._sql.execute("SELECT * FROM video_analysis_jobs WHERE id = %s FOR UPDATE", [job_id])
            self._sql.execute(
                "UPDATE video_analysis_jobs SET status = 'done', progress_pct = 100, completed_at = clock_timestamp()"
                " WHERE id = %s AND status = 'deep_running'",
                [job_id],
            )
            ended = "UPDATE launches SET ended_at = clock_timestamp(), ending = 'succeeded' WHERE job_id = %s"
            self._sql.execute(ended, [job_id])

    def run_a_job(self) -> None:
        job_id = self.create()
        self.move(job_id, "awaiting_upload", "queued", self.PINNED)
        for opened in self.open():
            self.finish(opened)


TRANSITIONS = ["awaiting_upload", "queued", "quick_running", "quick_done", "deep_running", "done"]


def test_a_migration_alters_one_table() -> None:
    """Of two, it would hold one lock while it waits for the other, and deadlock with a call that takes them in turn."""
    versions = Path(indexes.__file__).parent / "versions"
    altered = {file.stem: set(re.findall(r"ALTER TABLE (\S+)", file.read_text())) for file in versions.glob("0*.py")}
    # Released; its tables were small then.
    del altered["0007_people"]
    assert altered["0022b_acted_by_of_jobs"] == {"video_analysis_jobs"}
    assert {name: tables for name, tables in altered.items() if len(tables) > 1 or "{" in "".join(tables)} == {}


@pytest.mark.slow
def test_an_old_and_a_new_jobs_share_the_database_while_it_is_upgraded(
    postgres_server: Server, laptop: Laptop, tmp_path: Path
) -> None:
    """Neither gets an error, no job has two open launches, and all are done with one event a transition."""
    url = database_at(postgres_server, "0007")
    stop, errors = threading.Event(), list[Exception]()
    old = OldProgram(url)

    def run_old_program() -> None:
        try:
            while not stop.is_set():
                old.run_a_job()
        except Exception as error:  # any error fails the test
            errors.append(error)

    old_program = threading.Thread(target=run_old_program)
    old_program.start()
    try:
        migrate(url)
        with running(Program("jobs", laptop.env | IMPATIENT | {"CREASE_DATABASE_URL": url}, tmp_path / "log")) as new:
            road = Road(new.endpoint, laptop)
            for _ in range(30):
                road.queued()
                for launch in road.open(2):
                    secret = road.start(road.confirm(launch, launch.job_id)).lease
                    for stage in (job_pb2.STAGE_QUICK, job_pb2.STAGE_DEEP):
                        road.submit(launch, secret, stage)
            stop.set()
            old_program.join()
            while opened := old.open():
                for job_id in opened:
                    old.finish(job_id)
    finally:
        stop.set()
        old_program.join()
        old.close()
    assert errors == []
    with psycopg.connect(url, autocommit=True) as connection:
        trails = connection.execute(
            "SELECT array_agg(to_status ORDER BY xid, id) FROM events GROUP BY job_id"
        ).fetchall()
        jobs = "SELECT owner, launched, launch_count, count(*) FROM video_analysis_jobs GROUP BY 1, 2, 3"
        rows = connection.execute(jobs).fetchall()
    assert all(trail == TRANSITIONS for (trail,) in trails)
    assert {row[1:3] for row in rows} == {(False, 1)}
    # Jobs that were done before the fair queue have no owner.
    assert {row[0] for row in rows} | {""} == {"", "coach/old", "coach/coach-1"}
    assert sum(row[3] for row in rows) == len(trails) > 60
