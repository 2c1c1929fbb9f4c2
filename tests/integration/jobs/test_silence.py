"""`jobs` makes progress within twenty seconds after a machine or a connection has died silently."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psycopg
import pytest

from crease.jobs.v1 import job_pb2
from services.jobs.store import database
from services.jobs.store.database import Database
from testing.servers.line import Line, postgres_line
from testing.servers.programs import Laptop, Program, running
from tests.integration.jobs.test_lifecycle import Road
from tests.integration.jobs.test_outbox import sql, wait_until

# Twice the promise, for a busy machine; `make chaos` measures the promise.
PROGRESS_SECONDS = 40.0


@pytest.fixture
def by_line(database_url: str) -> Iterator[tuple[Line, str]]:
    with postgres_line(database_url) as made:
        yield made


def seconds_until(condition: Callable[[], bool]) -> float:
    """How long it took until the condition held; a call that is UNAVAILABLE is repeated."""

    def holds() -> bool:
        try:
            return condition()
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            return False

    began = time.monotonic()
    wait_until(holds)
    return time.monotonic() - began


@pytest.mark.slow
def test_a_replica_that_dies_in_a_transaction_locks_its_job_for_seconds(
    jobs_env: dict[str, str], by_line: tuple[Line, str], database_url: str, laptop: Laptop, tmp_path: Path
) -> None:
    """The replica stops and its line falls silent in a transaction that holds a job; another one cancels it."""
    line, url = by_line
    dying = Program("jobs", jobs_env | {"CREASE_DATABASE_URL": url}, tmp_path / "dying")
    with running(dying), running(Program("jobs", jobs_env, tmp_path / "living")) as living:
        road = Road(living.endpoint, laptop)
        job_id = road.queued()
        request = job_pb2.CancelJobRequest(job_id=job_id)
        with psycopg.connect(database_url) as console:
            console.execute("SELECT FROM video_sessions FOR UPDATE")
            cancelling = Road(dying.endpoint, laptop).jobs.CancelJob.future(request, metadata=road.coach)
            waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%OF job%%'"
            wait_until(lambda: sql(database_url, waiting))
            line.silence()
            os.kill(dying.pid, signal.SIGSTOP)
        # The transaction of the dead replica now holds the job.
        locked = "SELECT id FROM video_analysis_jobs FOR UPDATE SKIP LOCKED"
        wait_until(lambda: not sql(database_url, locked))

        def is_cancelled() -> bool:
            return road.jobs.CancelJob(request, metadata=road.coach).status == job_pb2.JOB_STATUS_CANCELLED

        assert seconds_until(is_cancelled) < PROGRESS_SECONDS
        os.kill(dying.pid, signal.SIGCONT)
        cancelling.cancel()


@pytest.mark.slow
def test_silently_dead_connections_are_replaced_by_every_background_loop(
    jobs_env: dict[str, str], by_line: tuple[Line, str], laptop: Laptop, tmp_path: Path
) -> None:
    """Three leases expire, and a stream shows it, though PostgreSQL answers on none of the old connections."""
    line, url = by_line
    env = jobs_env | {"CREASE_DATABASE_URL": url, "CREASE_LEASE_SECONDS": "3"}
    with running(Program("jobs", env, tmp_path / "log")) as program:
        road = Road(program.endpoint, laptop)
        lost = [road.started()[0].job_id for _ in range(3)]
        stream = road.jobs.WatchJob(job_pb2.WatchJobRequest(job_id=lost[0]), metadata=road.coach, timeout=60)
        assert next(stream).status == job_pb2.JOB_STATUS_QUICK_RUNNING
        line.silence_open()
        assert seconds_until(lambda: {road.status(job_id) for job_id in lost} == {"queued"}) < PROGRESS_SECONDS
        assert next(stream).status == job_pb2.JOB_STATUS_QUEUED


async def test_a_statement_that_is_never_answered_fails_and_so_do_the_idle_sessions(
    by_line: tuple[Line, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next transaction connects anew, also if the call was cancelled meanwhile."""
    line, url = by_line
    monkeypatch.setattr(database, "ANSWER_TIMEOUT_SECONDS", 1.0)
    pool = Database(url, 3)
    for is_cancelled in (False, True):
        await asyncio.gather(*(_slow(pool) for _ in range(3)))
        assert pool.sessions()["idle"] == 3
        line.silence_open()
        waiting = asyncio.create_task(_select(pool))
        if is_cancelled:
            await asyncio.sleep(0.1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        else:
            with pytest.raises(psycopg.OperationalError, match="did not answer within"):
                await waiting
        assert pool.sessions() == {"busy": 0, "idle": 0, "waited_for": 0}
        assert await _select(pool) == 1
    await pool.close()


async def _select(pool: Database) -> object:
    async with pool.transaction() as connection:
        return await connection.value("SELECT 1")


async def _slow(pool: Database) -> None:
    async with pool.transaction() as connection:
        await connection.value("SELECT pg_sleep(0.1)")


async def test_a_pool_pauses_between_attempts_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many calls there are while PostgreSQL starts: their number costs it nothing."""
    attempts = 0

    async def refused(*_: object) -> None:
        nonlocal attempts
        attempts += 1
        raise psycopg.OperationalError("the database system is starting up")

    monkeypatch.setattr(database, "connect", refused)
    pool, began = Database("postgresql://", 10), time.monotonic()
    for _ in range(2000):
        with pytest.raises(psycopg.OperationalError, match="starting up"):
            await _select(pool)
    assert attempts <= 5 + (time.monotonic() - began) / database.MAX_RECONNECT_SECONDS


async def test_a_statement_after_a_commit_has_a_transaction_and_limits_of_its_own(database_url: str) -> None:
    """PostgreSQL warns of no COMMIT without a transaction, and no statement runs without a time limit."""
    pool = Database(database_url, 1)
    async with pool.transaction() as connection:
        await connection.run("CREATE TABLE notes (words text)", commit=True)
        assert await connection.value("SHOW statement_timeout") == "10s"
        await connection.run("INSERT INTO notes VALUES ('second')")
    assert sql(database_url, "SELECT words FROM notes") == [("second",)]
    await pool.close()
