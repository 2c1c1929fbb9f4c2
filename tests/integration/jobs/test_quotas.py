"""The quotas of one owner, through a `jobs` whose settings have them."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import job_pb2
from testing.servers.programs import Laptop, Program, running
from tests.integration.jobs.test_lifecycle import Road


@pytest.fixture(scope="module")
def program(shared_jobs_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Each job of these tests has 10 bytes."""
    env = shared_jobs_env | {"CREASE_OWNER_BYTES": "45", "CREASE_OWNER_JOBS_IN_FLIGHT": "3"}
    with running(Program("jobs", env, Path(tmp_path_factory.mktemp("quotas"), "log"))) as started:
        yield started


@pytest.fixture
def road(program: Program, laptop: Laptop, empty: str) -> Road:
    return Road(program.endpoint, laptop)


def refusal(road: Road, **fields: object) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        road.created(**fields)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    return (caught.value.details() or "").partition(":")[0]


def test_jobs_in_flight_are_bounded_for_each_owner(road: Road) -> None:
    """Three jobs; a cancelled one makes room, and a repeated request_id is the same job."""
    same = str(uuid.uuid4())
    first = road.created()
    session_id = road.job(first).session_id
    again = road.created(session_id=session_id, request_id=same)
    road.created()
    assert refusal(road) == "session_id"
    assert road.created(session_id=session_id, request_id=same) == again
    road.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=first), metadata=road.coach)
    road.created()


def test_bytes_are_bounded_until_some_are_deleted(road: Road) -> None:
    """Four videos of ten bytes; a reanalysis counts no bytes."""
    jobs = []
    for _ in range(4):
        jobs.append(road.queued())
        road.end(road.confirm(road.open()[0]), launch_pb2.ENDING_BAD_INPUT)
    assert refusal(road) == "content_length"
    road.jobs.ReanalyzeJob(job_pb2.ReanalyzeJobRequest(job_id=jobs[0]), metadata=road.coach)
    road.jobs.DeleteJob(job_pb2.DeleteJobRequest(job_id=jobs[1]), metadata=road.coach)
    road.created()


def test_calls_at_once_do_not_exceed_a_quota_together(road: Road) -> None:
    """Of ten calls three succeed."""

    def one(_: int) -> bool:
        try:
            road.created()
        except grpc.RpcError:
            return False
        return True

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(one, range(10))) == 3
