"""The outbox: the order of a job's events, purging, and clients that stop reading."""

import threading
import time
from collections.abc import Callable, Iterator

import grpc
import psutil
import psycopg
import pytest

from crease.events.v1 import event_pb2
from testing.servers.programs import Laptop, Program
from tests.integration.jobs.test_lifecycle import Road, code_of

PATIENCE_SECONDS = 60
Connect = Callable[[], psycopg.Connection]


@pytest.fixture
def road(shared_jobs: Program, laptop: Laptop, empty: str) -> Road:
    return Road(shared_jobs.endpoint, laptop)


@pytest.fixture
def connect(empty: str) -> Iterator[Connect]:
    """Opens connections to the database behind `road`, closed at the end."""
    opened: list[psycopg.Connection] = []

    def open_one() -> psycopg.Connection:
        opened.append(psycopg.connect(empty))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


def sql(url: str, statement: str, *values: object) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def watch(road: Road, after: str = "0-0", timeout: float = PATIENCE_SECONDS) -> Iterator[event_pb2.Event]:
    request = event_pb2.WatchEventsRequest(after=after)
    return road.events.WatchEvents(request, metadata=road.controller, timeout=timeout)


def waits_for_a_lock(url: str, waiting: psycopg.Connection) -> bool:
    statement = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    return bool(sql(url, statement, waiting.info.backend_pid))


def test_an_older_transaction_that_changes_a_job_second_has_the_second_event(
    road: Road, empty: str, connect: Connect
) -> None:
    """Also for a reader who reads after the older one has ended and before the younger one is visible."""
    job_id = road.created()
    older, between, younger = connect(), connect(), connect()
    for connection in (older, between, younger):
        connection.execute("SELECT pg_current_xact_id()")
    younger.execute("UPDATE video_analysis_jobs SET status = 'failed' WHERE id = %s", [job_id])
    younger.commit()
    older.execute("UPDATE video_analysis_jobs SET status = 'queued' WHERE id = %s", [job_id])
    older.commit()
    # `between` delays every event that is not older: neither of the two may be visible.
    readable = "SELECT to_status FROM events WHERE xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
    assert sql(empty, readable) == [("awaiting_upload",)]
    between.commit()
    assert road.events_of(job_id, 3) == ["JobCreated", "JobFailed", "JobQueued"]


def test_an_operators_bare_updates_that_wait_for_a_job_keep_the_order(road: Road, empty: str, connect: Connect) -> None:
    """Its transaction begins at the first row, waits at the second, and finds a younger change at the third."""
    first, second, third = (road.created() for _ in range(3))
    holder, younger, operator = connect(), connect(), connect()
    holder.execute("SELECT 1 FROM video_analysis_jobs WHERE id = %s FOR UPDATE", [second])

    def queue_all() -> None:
        # Row by row, because one UPDATE of all has no defined order.
        for job_id in (first, second, third):
            operator.execute("UPDATE video_analysis_jobs SET status = 'queued' WHERE id = %s", [job_id])
        operator.commit()

    updating = threading.Thread(target=queue_all)
    updating.start()
    wait_until(lambda: waits_for_a_lock(empty, operator))
    younger.execute("SELECT 1 FROM video_analysis_jobs WHERE id = %s FOR UPDATE", [third])
    younger.execute("UPDATE video_analysis_jobs SET status = 'failed' WHERE id = %s", [third])
    younger.commit()
    holder.commit()
    updating.join(PATIENCE_SECONDS)
    assert road.events_of(first, 2) == ["JobCreated", "JobQueued"]
    assert road.events_of(third, 3) == ["JobCreated", "JobFailed", "JobQueued"]


def test_a_transaction_that_waits_for_a_locked_job_has_the_later_event(
    road: Road, empty: str, connect: Connect
) -> None:
    """Lock first, then write, as every transition of jobs does."""
    job_id = road.created()
    lock = "SELECT 1 FROM video_analysis_jobs WHERE id = %s FOR UPDATE"
    move = "UPDATE video_analysis_jobs SET status = %s WHERE id = %s"
    holder, waiting = connect(), connect()
    holder.execute(lock, [job_id])

    def follow() -> None:
        waiting.execute(lock, [job_id])
        waiting.execute(move, ["queued", job_id])
        waiting.commit()

    following = threading.Thread(target=follow)
    following.start()
    wait_until(lambda: waits_for_a_lock(empty, waiting))
    holder.execute(move, ["failed", job_id])
    holder.commit()
    following.join(PATIENCE_SECONDS)
    assert road.events_of(job_id, 3) == ["JobCreated", "JobFailed", "JobQueued"]


def test_old_events_are_purged_and_an_old_reader_gets_the_position_to_start_from(road: Road, empty: str) -> None:
    """OUT_OF_RANGE names the position; no event after it is missing."""
    for _ in range(3):
        road.created()
    sql(empty, "UPDATE events SET created_at = now() - interval '8 days'")
    wait_until(lambda: sql(empty, "SELECT count(*) FROM events") == [(0,)])
    young = road.created()
    with pytest.raises(grpc.RpcError) as refused:
        next(watch(road, "1-1"))
    assert code_of(refused) == ("OUT_OF_RANGE", "EVENTS_PURGED")
    [(start,)] = sql(empty, "SELECT xid || '-' || id FROM event_positions WHERE name = 'purged'")
    assert refused.value.details() == f"Events after 1-1 are no longer kept; those after {start} are"
    assert next(watch(road, str(start))).subject == young


def test_an_event_that_the_relay_has_not_sent_is_not_purged(road: Road, empty: str) -> None:
    """However old it is. Events up to the relay's position are purged."""
    for _ in range(4):
        road.created()
    [_, (xid, number), *_] = sql(empty, "SELECT xid, id FROM events ORDER BY xid, id")
    try:
        sql(empty, "INSERT INTO event_positions (name, xid, id) VALUES ('sqs', %s, %s)", xid, number)
        sql(empty, "UPDATE events SET created_at = now() - interval '8 days'")
        wait_until(lambda: sql(empty, "SELECT count(*) FROM events") == [(2,)])
        assert sql(empty, "SELECT xid, id FROM event_positions WHERE name = 'purged'") == [(xid, number)]
        assert sql(empty, "SELECT count(*) FROM events WHERE (xid, id) > (%s, %s)", xid, number) == [(2,)]
    finally:
        sql(empty, "DELETE FROM event_positions WHERE name = 'sqs'")
    wait_until(lambda: sql(empty, "SELECT count(*) FROM events") == [(0,)])


def test_a_relay_that_lags_is_logged(road: Road, empty: str, shared_jobs: Program) -> None:
    """No event is purged meanwhile, so an operator must see it: no relay runs, or SQS is unavailable."""
    road.created()
    try:
        sql(empty, "INSERT INTO event_positions (name, xid, id) VALUES ('sqs', 0, 0)")
        sql(empty, "UPDATE events SET created_at = now() - interval '2 minutes'")
        wait_until(lambda: '"event": "sqs_relay_lagging"' in shared_jobs.log.read_text())
    finally:
        sql(empty, "DELETE FROM event_positions WHERE name = 'sqs'")


@pytest.mark.slow
def test_a_reader_that_stops_reading_is_dropped_and_costs_no_memory(
    road: Road, empty: str, shared_jobs: Program
) -> None:
    """RESOURCE_EXHAUSTED after CREASE_WRITE_SECONDS; 60 MB of events wait in the database, not in the server."""
    job_id = road.created()
    sql(
        empty,
        "INSERT INTO events (job_id, session_id, to_status, failure_code, sample_fps, include_frames)"
        " SELECT %s, gen_random_uuid(), 'failed', repeat('X', 3000), 10, false FROM generate_series(1, 20000)",
        job_id,
    )
    assert shared_jobs.process is not None
    server = psutil.Process(shared_jobs.process.pid)
    before = server.memory_info().rss
    stream = watch(road, timeout=100)
    received = [next(stream).id]
    dropped = '"fault": "SLOW_READER"'
    wait_until(lambda: dropped in shared_jobs.log.read_text())
    assert server.memory_info().rss - before < 30 * 2**20
    with pytest.raises(grpc.RpcError) as dropped_error:
        received.extend(event.id for event in stream)
    assert code_of(dropped_error) == ("RESOURCE_EXHAUSTED", "SLOW_READER")
    assert 1 < len(received) < 20001
    assert next(watch(road, received[-1])).id not in received
