"""The whole product for tests: real PostgreSQL, real S3, and each program as a process."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import urllib3

from crease.analysis.v1 import launch_pb2, launch_pb2_grpc
from crease.jobs.v1 import job_pb2, job_pb2_grpc, session_pb2, session_pb2_grpc
from crease.upload.v1 import upload_pb2, upload_pb2_grpc
from crease_client.channels import open_client_channel
from services.analyzer.settings import BUILT_MODEL
from testing.servers.programs import ROOT, Laptop, Program, free_port, running
from testing.servers.s3 import Endpoint

BUCKET = "crease-videos"
# Personal names, which must appear in no log.
PLAYERS, NOTES = ("Bartholomew Quillfeather",), "Quillfeather's hands were late again"
SAMPLE = ROOT / "samples" / "batter.mp4"


@dataclass
class Product:
    """The running programs, with the calls of a coach."""

    jobs: Program
    upload: Program
    controller: Program
    laptop: Laptop
    folder: Path

    def __post_init__(self) -> None:
        to_jobs, to_upload = open_client_channel(self.jobs.endpoint), open_client_channel(self.upload.endpoint)
        self.session_stub = session_pb2_grpc.SessionServiceStub(to_jobs)
        self.job_stub = job_pb2_grpc.JobServiceStub(to_jobs)
        self.launch_stub = launch_pb2_grpc.LaunchServiceStub(to_jobs)
        self.upload_stub = upload_pb2_grpc.UploadServiceStub(to_upload)
        self.coach = self.laptop.person("coach-1")
        self._metrics = {program.name: free_port() for program in (self.jobs, self.upload, self.controller)}

    def metrics_port(self, program: str) -> int:
        return self._metrics[program]

    def initiate(self, content_length: int, **fields: object) -> upload_pb2.InitiateUploadResponse:
        asked = session_pb2.CreateSessionRequest(title="Nets", player_ids=PLAYERS, notes=NOTES)
        session = self.session_stub.CreateSession(asked, metadata=self.coach, wait_for_ready=True, timeout=60)
        values: dict[str, Any] = {"session_id": session.session_id, "content_type": "video/mp4"} | fields
        request = upload_pb2.InitiateUploadRequest(content_length=content_length, **values)
        return self.upload_stub.InitiateUpload(request, metadata=self.coach, wait_for_ready=True, timeout=60)

    def complete(self, job_id: str) -> upload_pb2.CompleteUploadResponse:
        request = upload_pb2.CompleteUploadRequest(job_id=job_id)
        return self.upload_stub.CompleteUpload(request, metadata=self.coach, timeout=60)

    def uploaded(self, video: bytes, **fields: object) -> str:
        """A job whose video is in S3 and queued."""
        begun = self.initiate(len(video), **fields)
        put(begun, video)
        self.complete(begun.job_id)
        return begun.job_id

    def open_launches(self) -> list[launch_pb2.Launch]:
        """Calls OpenLaunches as the controller does."""
        request = launch_pb2.OpenLaunchesRequest(cluster="laptop", capacity=10)
        return list(self.launch_stub.OpenLaunches(request, metadata=self.laptop.program("controller")).launches)

    def job(self, job_id: str) -> job_pb2.Job:
        request = job_pb2.GetJobRequest(job_id=job_id)
        return self.job_stub.GetJob(request, metadata=self.coach, wait_for_ready=True, timeout=60)

    def status(self, job_id: str) -> str:
        return job_pb2.JobStatus.Name(self.job(job_id).status).removeprefix("JOB_STATUS_").lower()

    def watch(self, job_id: str) -> Iterator[job_pb2.Job]:
        """Every change until the job is final; reconnects a broken stream."""
        while True:
            try:
                request = job_pb2.WatchJobRequest(job_id=job_id)
                yield from self.job_stub.WatchJob(request, metadata=self.coach, wait_for_ready=True, timeout=100)
                return
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise

    def download(self, job_id: str, name: str) -> bytes:
        request = upload_pb2.SignDownloadRequest(job_id=job_id, name=name)
        signed = self.upload_stub.SignDownload(request, metadata=self.coach).get
        reply = urllib3.request("GET", signed.url, headers=dict(signed.headers), retries=False)
        assert reply.status == 200
        return reply.data

    def analyzers(self) -> list[psutil.Process]:
        """The running analyzers of this product."""
        mine = str(self.folder)
        return [one for one in psutil.process_iter() if _is_analyzer(one) and mine in _token_file(one)]


def _is_analyzer(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[1:3] == ["-m", "services.analyzer"]
    except psutil.Error:
        return False


def _token_file(process: psutil.Process) -> str:
    try:
        return process.environ().get("CREASE_TOKEN_FILE", "")
    except psutil.Error:
        return ""


def put(begun: upload_pb2.InitiateUploadResponse, body: bytes) -> None:
    """The client's PUT."""
    headers = dict(begun.required_headers)
    reply = urllib3.request("PUT", begun.presigned_url, body=body, headers=headers, retries=False, timeout=60)
    assert reply.status == 200, reply.data


@contextmanager
def product(
    folder: Path,
    jobs_env: dict[str, str],
    laptop: Laptop,
    s3: Endpoint,
    *,
    controlled: bool = True,
    traced: str = "",
    upload_settings: Mapping[str, str] | None = None,
) -> Iterator[Product]:
    """A running product, until the block ends.

    `controlled` False: without a controller, so that nothing is launched. `traced`: an OTLP endpoint.
    `upload_settings`: settings of upload that replace others.
    """
    ports = [free_port() for _ in range(2)]
    jobs = Program("jobs", jobs_env, folder / "jobs.log", ports[0])
    upload_env = laptop.env | s3.env | {
        "S3_COACH_VIDEOS_BUCKET": BUCKET,
        "CREASE_JOBS_ENDPOINT": jobs.endpoint,
        "CREASE_TOKEN_FILE": str(laptop.token_file("upload")),
        "AWS_EC2_METADATA_DISABLED": "true",
    } | dict(upload_settings or {})  # fmt: skip
    upload = Program("upload", upload_env, folder / "upload.log", ports[1])
    controller_env = {
        "CREASE_JOBS_ENDPOINT": jobs.endpoint,
        "CREASE_UPLOAD_ENDPOINT": upload.endpoint,
        "CREASE_TOKEN_FILE": str(laptop.token_file("controller")),
        "CREASE_TICK_SECONDS": "0.2",
        "CREASE_STATE_FOLDER": str(folder / "state"),
        "CREASE_ISSUER_FOLDER": str(laptop.folder),
        "MEDIAPIPE_POSE_MODEL_PATH": str(BUILT_MODEL),
    }
    controller = Program("controller", controller_env, folder / "controller.log")
    made = Product(jobs, upload, controller, laptop, folder)
    for program in (jobs, upload, controller):
        watched = {"CREASE_METRICS_LISTEN": f"127.0.0.1:{made.metrics_port(program.name)}"}
        traces = {"CREASE_OTLP_ENDPOINT": traced, "CREASE_TRACE_SHARE": "1"} if traced else {}
        program.env = {**program.env, **watched, **traces}
    with ExitStack() as stack:
        for program in (jobs, upload, controller)[: 3 if controlled else 2]:
            stack.enter_context(running(program))
        stack.callback(_kill_analyzers, made)
        yield made


def _kill_analyzers(made: Product) -> None:
    for analyzer in made.analyzers():
        analyzer.kill()
