"""The controller's program with the program `jobs` on a real PostgreSQL: both keep the contract."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from crease.jobs.v1 import intake_pb2, intake_pb2_grpc, job_pb2, job_pb2_grpc, session_pb2, session_pb2_grpc
from testing.fakes.controller import StandIn, controller_env
from testing.servers.programs import Laptop, Program, running


class Client:
    """A coach, and `upload` on the coach's behalf."""

    def __init__(self, endpoint: str, laptop: Laptop) -> None:
        channel = grpc.insecure_channel(endpoint)
        self._sessions = session_pb2_grpc.SessionServiceStub(channel)
        self._intake = intake_pb2_grpc.IntakeServiceStub(channel)
        self._jobs = job_pb2_grpc.JobServiceStub(channel)
        self._coach = laptop.person()
        self._upload = laptop.program("upload", behind="coach-1")

    def queue(self) -> str:
        session = self._sessions.CreateSession(session_pb2.CreateSessionRequest(title="Nets"), metadata=self._coach)
        request = intake_pb2.CreateJobRequest(
            session_id=session.session_id, s3_bucket="videos", content_type="video/mp4", content_length=10
        )
        job_id = self._intake.CreateJob(request, metadata=self._upload).job_id
        upload = intake_pb2.ConfirmUploadRequest(job_id=job_id, etag="abc", content_length=10)
        self._intake.ConfirmUpload(upload, metadata=self._upload)
        return job_id

    def job(self, job_id: str) -> job_pb2.Job:
        return self._jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id), metadata=self._coach)


@pytest.fixture
def stand_in(tmp_path: Path, laptop: Laptop) -> Iterator[StandIn]:
    """With the issuer that `jobs` trusts."""
    stand_in = StandIn(tmp_path, laptop.folder)
    yield stand_in
    stand_in.end_all()


@pytest.fixture
def client(stand_in: StandIn, shared_jobs: Program, empty: str, laptop: Laptop, tmp_path: Path) -> Iterator[Client]:
    env = controller_env(tmp_path, stand_in, shared_jobs.port)
    with running(Program("controller", env, tmp_path / "controller.log")):
        yield Client(shared_jobs.endpoint, laptop)


def wait_for(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_bad_video_is_launched_once_and_fails_its_job(client: Client, stand_in: StandIn) -> None:
    """From the queued row to the class of the exit code, and back to the row."""
    job_id = client.queue()
    wait_for(lambda: stand_in.starts())
    stand_in.finish(f"analysis-{job_id}-1", 65)
    wait_for(lambda: client.job(job_id).status == job_pb2.JOB_STATUS_FAILED)
    assert client.job(job_id).failure_code == "BAD_INPUT"
    assert stand_in.starts() == [f"analysis-{job_id}-1"]


def test_a_killed_analysis_is_launched_again_under_the_next_number(client: Client, stand_in: StandIn) -> None:
    """A disruption costs the job only time."""
    job_id = client.queue()
    wait_for(lambda: stand_in.starts())
    stand_in.record(f"analysis-{job_id}-1").signal(signal.SIGKILL)
    wait_for(lambda: stand_in.starts() == [f"analysis-{job_id}-1", f"analysis-{job_id}-2"])
