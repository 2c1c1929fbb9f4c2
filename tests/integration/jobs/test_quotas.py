"""The quotas of one owner, through a `jobs` whose settings have them."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import intake_pb2, job_pb2
from testing.servers.programs import Laptop, Program, running
from tests.integration.jobs.test_lifecycle import Road


@pytest.fixture(scope="module")
def program(shared_jobs_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Each job of these tests has 10 bytes."""
    env = shared_jobs_env | {"CREASE_OWNER_BYTES": "85", "CREASE_OWNER_JOBS_IN_FLIGHT": "3"}
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
    """Eight videos of ten bytes; a reanalysis counts no bytes."""
    jobs = []
    for _ in range(8):
        jobs.append(road.queued())
        road.end(road.confirm(road.open()[0]), launch_pb2.ENDING_BAD_INPUT)
    assert refusal(road) == "content_length"
    road.jobs.ReanalyzeJob(job_pb2.ReanalyzeJobRequest(job_id=jobs[0]), metadata=road.coach)
    road.jobs.DeleteJob(job_pb2.DeleteJobRequest(job_id=jobs[1]), metadata=road.coach)
    road.created()


def test_every_call_that_makes_work_is_counted(road: Road) -> None:
    """At three jobs in flight each of the four is refused and changes nothing; with room for one, each succeeds."""
    done, failed, unsent = road.queued(), road.queued(), road.created()
    for launch in road.open():
        ending = launch_pb2.ENDING_BAD_INPUT if launch.job_id in (done, failed) else launch_pb2.ENDING_UNKNOWN
        road.end(road.confirm(launch), ending)
    road.intake.FailUpload(intake_pb2.FailUploadRequest(job_id=unsent, failure_code="EMPTY"), metadata=road.upload)
    session_id = road.job(done).session_id
    ways: dict[str, Callable[[], object]] = {
        "CreateJob": lambda: road.created(session_id=session_id),
        "ReanalyzeJob": lambda: road.jobs.ReanalyzeJob(job_pb2.ReanalyzeJobRequest(job_id=done), metadata=road.coach),
        "RetryJob": lambda: road.jobs.RetryJob(job_pb2.RetryJobRequest(job_id=failed), metadata=road.coach),
        "ConfirmUpload": lambda: road.intake.ConfirmUpload(
            intake_pb2.ConfirmUploadRequest(job_id=unsent, etag="abc", content_length=10), metadata=road.upload
        ),
    }
    others = [road.created(session_id=session_id) for _ in range(3)]
    request = job_pb2.ListJobsRequest(session_id=session_id)
    before = road.jobs.ListJobs(request, metadata=road.coach)
    for name, way in ways.items():
        with pytest.raises(grpc.RpcError, match="jobs in flight") as caught:
            way()
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT, name
    assert road.jobs.ListJobs(request, metadata=road.coach) == before
    for job_id in others:
        road.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id), metadata=road.coach)
    for name, way in ways.items():
        if name != "CreateJob":
            way()
    assert [road.status(job_id) for job_id in (failed, unsent)] == ["queued", "queued"]


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
