"""A client that leaves is cancelled: it is no error of `jobs`, and no task is left behind."""

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from crease.events.v1 import event_pb2, event_pb2_grpc
from testing.metrics import listening, scrape, value
from testing.servers.programs import Laptop, Program, free_port, running
from tests.integration.jobs.test_outbox import sql, wait_until

LEAVERS = 30
# Enough that gRPC's buffers fill up while the client does not read: the server is then in the middle of a write.
EVENTS = """
    INSERT INTO events (job_id, session_id, to_status, failure_code, sample_fps, include_frames)
    SELECT gen_random_uuid(), gen_random_uuid(), 'awaiting_upload', '', 10, false FROM generate_series(1, 20000)
"""


@pytest.fixture
def metrics_port() -> int:
    return free_port()


@pytest.fixture
def program(jobs_env: dict[str, str], metrics_port: int, tmp_path: Path) -> Iterator[Program]:
    with running(Program("jobs", {**jobs_env, **listening(metrics_port)}, tmp_path / "log")) as started:
        yield started


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_a_client_that_leaves_in_the_middle_of_a_write_is_counted_as_cancelled(
    program: Program, database_url: str, laptop: Laptop, metrics_port: int, how: str
) -> None:
    """By a cancelled call and by a closed connection: no line of an error, no call that counts as INTERNAL."""
    sql(database_url, EVENTS)
    for _ in range(LEAVERS):
        with grpc.insecure_channel(program.endpoint) as channel:
            request = event_pb2.WatchEventsRequest(after="0-0")
            stream = event_pb2_grpc.EventServiceStub(channel).WatchEvents(
                request, metadata=laptop.program("controller")
            )
            next(stream)
            if how == "cancel":
                stream.cancel()
    counted = {"method": "EventService/WatchEvents", "code": "CANCELLED"}
    wait_until(lambda: value(scrape(metrics_port), "crease_rpc_seconds_count", **counted) == LEAVERS)
    lines = [json.loads(line) for line in program.log.read_text().splitlines()]
    assert {line["level"] for line in lines} == {"info"}
    assert {line["outcome"] for line in lines if line["event"] == "rpc"} == {"CANCELLED"}
