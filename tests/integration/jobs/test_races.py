"""Races, forced: the test locks the row until every caller waits for it, then releases it."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
import psycopg
import pytest

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import intake_pb2, job_pb2, job_pb2_grpc, session_pb2
from testing.servers.programs import Laptop, Program, running
from tests.integration.jobs.test_lifecycle import Road

WAIT_SECONDS = 60
LOCK = "SELECT 1 FROM video_analysis_jobs WHERE id = %s FOR UPDATE"
ROUNDS = 20


@pytest.fixture
def road(shared_jobs: Program, laptop: Laptop, empty: str) -> Road:
    return Road(shared_jobs.endpoint, laptop)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as executor:
        yield executor


@contextmanager
def holding(database_url: str, statement: str, *values: Any) -> Iterator[psycopg.Connection[Any]]:
    """A transaction that holds what the statement locks, and commits at the end of the block."""
    with psycopg.connect(database_url) as connection:
        connection.execute(statement, values)
        yield connection


def waiting_sessions(connection: psycopg.Connection[Any]) -> int:
    """How many sessions of this database wait for a lock. `connection`: with autocommit."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return int(connection.execute(waiting).fetchall()[0][0])


def wait_until_waiting(database_url: str, count: int) -> None:
    """Returns once `count` sessions wait for a lock."""
    give_up = time.monotonic() + WAIT_SECONDS
    with psycopg.connect(database_url, autocommit=True) as connection:
        while waiting_sessions(connection) != count:
            assert time.monotonic() < give_up, "the calls did not wait for the lock"
            time.sleep(0.005)


def outcome(call: "Future[Any] | grpc.Future[Any]") -> str:
    """OK, or the code of the refusal."""
    error = call.exception(WAIT_SECONDS)
    if error is None:
        return "OK"
    assert isinstance(error, grpc.RpcError)
    return str(error.code().name)


def history(database_url: str, job_id: str) -> list[str]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        rows = connection.execute("SELECT to_status FROM events WHERE job_id = %s ORDER BY xid, id", [job_id])
        return [status for (status,) in rows]


def confirm(road: Road, job_id: str) -> Callable[[], Any]:
    request = intake_pb2.ConfirmUploadRequest(job_id=job_id, etag="abc", content_length=10)
    return lambda: road.intake.ConfirmUpload(request, metadata=road.upload, timeout=WAIT_SECONDS)


def test_of_two_confirmations_at_once_one_moves_the_job(road: Road, pool: ThreadPoolExecutor, empty: str) -> None:
    """Both succeed, one says that it moved, and there is one event."""
    job_id = road.created()
    with holding(empty, LOCK, job_id):
        calls = [pool.submit(confirm(road, job_id)) for _ in range(2)]
        wait_until_waiting(empty, 2)
    assert sorted(call.result(WAIT_SECONDS).moved for call in calls) == [False, True]
    assert history(empty, job_id) == ["awaiting_upload", "queued"]


def test_an_upload_confirmed_while_it_expires_is_queued(road: Road, pool: ThreadPoolExecutor, empty: str) -> None:
    """In either order the job ends queued, because its video is there."""
    for _ in range(ROUNDS):
        job_id = road.created()
        aged = "UPDATE video_analysis_jobs SET created_at = created_at - interval '25 hours' WHERE id = %s"
        with holding(empty, aged, job_id):
            call = pool.submit(confirm(road, job_id))
            wait_until_waiting(empty, 1)
        assert outcome(call) == "OK"
        assert history(empty, job_id) in (
            ["awaiting_upload", "queued"],
            ["awaiting_upload", "failed", "queued"],
        )


def test_a_confirmation_that_waited_for_an_expiry_repairs_it(road: Road, pool: ThreadPoolExecutor, empty: str) -> None:
    """ConfirmUpload uses the row that it reads after the wait."""
    job_id = road.created()
    expired = "UPDATE video_analysis_jobs SET status = 'failed', failure_code = 'UPLOAD_EXPIRED' WHERE id = %s"
    with holding(empty, expired, job_id):
        call = pool.submit(confirm(road, job_id))
        wait_until_waiting(empty, 1)
    job = call.result(WAIT_SECONDS).job
    assert (job.status, job.failure_code) == (job_pb2.JOB_STATUS_QUEUED, "")


def test_of_two_pods_that_start_at_once_one_gets_the_lease(road: Road, pool: ThreadPoolExecutor, empty: str) -> None:
    """The other is refused, and the lease of the first is valid."""
    job_id = road.queued()
    [launch] = road.open()
    with holding(empty, LOCK, job_id):
        calls = [pool.submit(road.start, launch, pod, pod) for pod in ("aaaaa", "bbbbb")]
        wait_until_waiting(empty, 2)
    assert sorted(map(outcome, calls)) == ["OK", "PERMISSION_DENIED"]
    [started] = [call.result() for call in calls if call.exception() is None]
    road.beat(launch, started.lease, job_pb2.STAGE_QUICK)
    assert history(empty, job_id) == ["awaiting_upload", "queued", "quick_running"]


LOST = {
    "the lease ran out": "UPDATE launches SET lease_expires_at = now() - interval '1 second' WHERE job_id = %s",
    "the launch was ended": "UPDATE launches SET ended_at = now(), ending = 'lease_lost' WHERE job_id = %s",
    "the lease was given anew": "UPDATE launches SET lease_hash = '' WHERE job_id = %s",
}


@pytest.mark.parametrize("lost", LOST)
def test_a_result_that_waited_while_its_lease_was_lost_is_refused(
    lost: str, road: Road, pool: ThreadPoolExecutor, empty: str
) -> None:
    """Its lease was valid when the call was sent, and is not when jobs reads the row."""
    launch, secret = road.started()
    with holding(empty, LOCK, launch.job_id) as holder:
        call = pool.submit(road.submit, launch, secret, job_pb2.STAGE_QUICK)
        wait_until_waiting(empty, 1)
        holder.execute(LOST[lost], [launch.job_id])
    assert outcome(call) == "PERMISSION_DENIED"
    with psycopg.connect(empty, autocommit=True) as connection:
        result = connection.execute("SELECT results, results_stage FROM video_analysis_jobs").fetchone()
    assert result == (None, None)
    assert "quick_done" not in history(empty, launch.job_id)


def test_deleting_a_session_does_not_block_the_end_of_its_launches(road: Road, empty: str) -> None:
    """PostgreSQL checks the session of a job that is written twice in a transaction. DeleteSession has locked the
    session and waits for the job."""
    launch, _ = road.started()
    request = session_pb2.DeleteSessionRequest(session_id=launch.session_id)
    with holding(empty, LOCK, launch.job_id) as holder:
        deletion = road.sessions.DeleteSession.future(request, metadata=road.coach)
        wait_until_waiting(empty, 1)
        for _ in range(2):
            holder.execute("UPDATE video_analysis_jobs SET progress_pct = 50 WHERE id = %s", [launch.job_id])
    assert outcome(deletion) == "FAILED_PRECONDITION"


def test_the_sweep_survives_a_job_that_is_deleted_while_it_is_locked(road: Road, empty: str) -> None:
    """The sweep finds an expired lease whose job is held and then deleted; it sweeps the others meanwhile and later."""
    launch, _ = road.started()
    with holding(empty, LOCK, launch.job_id) as holder:
        _expire(empty, launch.job_id)
        _sweep_next(road, empty)
        for deletion in ("DELETE FROM launches WHERE job_id = %s", "DELETE FROM video_analysis_jobs WHERE id = %s"):
            holder.execute(deletion, [launch.job_id])
    _sweep_next(road, empty)


def _sweep_next(road: Road, database_url: str) -> None:
    """Waits until the sweep has ended a launch that expires now."""
    launch, _ = road.started()
    _expire(database_url, launch.job_id)
    give_up = time.monotonic() + WAIT_SECONDS
    while road.status(launch.job_id) != "queued":
        assert time.monotonic() < give_up, "the lease that ran out was not swept"
        time.sleep(0.05)


def _expire(database_url: str, job_id: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(LOST["the lease ran out"], [job_id])


def test_a_result_and_the_end_of_its_launch_are_one_after_the_other(
    road: Road, pool: ThreadPoolExecutor, empty: str
) -> None:
    """The controller ends the launch while its last result is submitted: the job is done or queued, never both."""
    for _ in range(ROUNDS):
        launch, secret = road.started()
        road.submit(launch, secret, job_pb2.STAGE_QUICK)
        with holding(empty, LOCK, launch.job_id):
            calls: list[Future[Any]] = [
                pool.submit(road.submit, launch, secret, job_pb2.STAGE_DEEP),
                pool.submit(road.end, launch, launch_pb2.ENDING_DISRUPTION),
            ]
            wait_until_waiting(empty, 2)
        seen = tuple(map(outcome, calls)), history(empty, launch.job_id)[4:]
        assert seen in (
            (("OK", "OK"), ["deep_running", "done"]),
            (("PERMISSION_DENIED", "OK"), ["queued"]),
        )
        with psycopg.connect(empty, autocommit=True) as connection:
            connection.execute("UPDATE video_analysis_jobs SET status = 'cancelled' WHERE status = 'queued'")


@pytest.fixture(scope="module")
def second(shared_jobs_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with running(Program("jobs", shared_jobs_env, tmp_path_factory.mktemp("second") / "log")) as program:
        yield program


@pytest.fixture
def replicas(shared_jobs: Program, second: Program, laptop: Laptop, empty: str) -> list[Road]:
    """Two `jobs` on one database."""
    return [Road(program.endpoint, laptop) for program in (shared_jobs, second)]


@pytest.mark.slow
def test_a_watcher_at_one_replica_sees_the_changes_of_another(replicas: list[Road]) -> None:
    """The stream sends the current state, then each change, found by polling; it ends when the job is done."""
    job_id = replicas[0].created()
    watch = replicas[1].jobs.WatchJob(
        job_pb2.WatchJobRequest(job_id=job_id), metadata=replicas[1].coach, timeout=WAIT_SECONDS
    )
    assert next(watch).status == job_pb2.JOB_STATUS_AWAITING_UPLOAD
    confirm(replicas[0], job_id)()
    assert next(watch).status == job_pb2.JOB_STATUS_QUEUED
    replicas[0].jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id), metadata=replicas[0].coach)
    assert [job.status for job in watch] == [job_pb2.JOB_STATUS_CANCELLED]


@pytest.mark.slow
def test_launches_opened_on_two_replicas_at_once_are_opened_once(
    replicas: list[Road], pool: ThreadPoolExecutor, empty: str
) -> None:
    """Each queued job is claimed exactly once, and no call fails."""
    session = replicas[0].created()
    many = """
        INSERT INTO video_analysis_jobs (session_id, status, s3_bucket, s3_key)
        SELECT session_id, 'queued', 'videos', 'k' FROM video_analysis_jobs, generate_series(1, 50) WHERE id = %s
    """
    for _ in range(ROUNDS):
        with psycopg.connect(empty, autocommit=True) as connection:
            connection.execute(many, [session])
        together = threading.Barrier(8)

        def take(road: Road, together: threading.Barrier = together) -> list[launch_pb2.Launch]:
            together.wait(WAIT_SECONDS)
            return road.open(20) + road.open(20)

        taken = [launch for call in [pool.submit(take, replicas[i % 2]) for i in range(8)] for launch in call.result()]
        taken += replicas[0].open(100)
        assert len(taken) == len({launch.job_id for launch in taken}) == 50
        assert all(launch.launch_no == 1 for launch in taken)


@pytest.mark.slow
async def test_many_calls_at_once_are_answered(road: Road, shared_jobs: Program, laptop: Laptop) -> None:
    """No call is cancelled because others wait: the worst answer is that the database is unavailable.

    Each caller stays within its bound.
    """
    callers = [laptop.person(f"root-{number}", role="superuser") for number in range(40)]
    request = job_pb2.GetJobRequest(job_id=road.created())
    async with grpc.aio.insecure_channel(shared_jobs.endpoint) as channel:
        stub = job_pb2_grpc.JobServiceStub(channel)
        calls = [stub.GetJob(request, metadata=callers[n % 40], timeout=WAIT_SECONDS) for n in range(2000)]
        codes = Counter([(await call.code()).name for call in calls])
    assert codes.keys() <= {"OK", "UNAVAILABLE"}
    assert codes["OK"] > 200
