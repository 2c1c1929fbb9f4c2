"""Measures upload against bare boto3: signing, completing, sending."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import psutil
from boto3.s3.transfer import TransferConfig

from bench.figures import Figure, cpu_seconds
from crease.jobs.v1 import intake_pb2, intake_pb2_grpc, job_pb2, job_pb2_grpc
from crease.upload.v1 import upload_pb2, upload_pb2_grpc
from crease_client.client import connect
from crease_client.upload import PARALLEL, hash_file
from services import dev_issuer
from services.auth import Verifier
from services.settings import Issuer
from testing.fakes.jobs import FakeJobs, serving_jobs
from testing.servers import s3
from testing.servers.programs import Laptop, Program, running

CALLS = 500
COMPLETIONS = 100
ROUNDS = 3
SENT_BYTES = 1_000_000_000
VIDEO = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(2000)


def run() -> Iterator[Figure]:
    """An upload on versitygw, if Go is installed, and a jobs that answers from memory."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crease-bench-")))
        bench = _Bench(stack, folder)
        yield from bench.initiating()
        yield from bench.completing()
        yield from bench.sending(folder / "video.mp4")


class _Bench:
    def __init__(self, stack: ExitStack, folder: Path) -> None:
        dev_issuer.create(folder / "issuer")
        laptop = Laptop(folder / "issuer")
        endpoint = stack.enter_context(s3.versitygw(folder / "s3"))
        endpoint.make_bucket("bench")
        issuers = [Issuer.model_validate(one) for one in dev_issuer.issuers(laptop.folder)]
        # The stubs mark every RPC abstract; the generated base class answers those that the fake leaves out.
        fake = FakeJobs(Verifier(issuers, "crease", 60.0))  # type: ignore[abstract]
        self.jobs = stack.enter_context(serving_jobs(fake))
        env = laptop.env | endpoint.env | {
            "S3_COACH_VIDEOS_BUCKET": "bench",
            "CREASE_JOBS_ENDPOINT": f"127.0.0.1:{self.jobs.port}",
            "CREASE_TOKEN_FILE": str(laptop.token_file("upload")),
            "CREASE_S3_TIMEOUT_SECONDS": "120",
        }  # fmt: skip
        self.program = stack.enter_context(running(Program("upload", env, folder / "log")))
        self.channel = stack.enter_context(grpc.insecure_channel(self.program.endpoint))
        self.stub = upload_pb2_grpc.UploadServiceStub(self.channel)
        to_jobs = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{self.jobs.port}"))
        self.people = job_pb2_grpc.JobServiceStub(to_jobs)
        self.intake = intake_pb2_grpc.IntakeServiceStub(to_jobs)
        self.coach = laptop.person("coach-1")
        self.for_coach = laptop.program("upload", behind="coach-1")
        self.endpoint = endpoint
        token = self.coach[0][1].removeprefix("Bearer ")
        connected = connect(jobs="127.0.0.1:1", upload=self.program.endpoint, token=lambda: token)
        self.sender = stack.enter_context(connected)

    def _cpu(self) -> float:
        """CPU seconds that upload has used."""
        process = self.program.process
        if process is None:
            raise RuntimeError("upload does not run")
        return cpu_seconds(psutil.Process(process.pid))

    def initiating(self) -> Iterator[Figure]:
        """Server time of one call, against presigning by bare boto3 plus one bare call of jobs, alternating."""
        session_id = self.jobs.add_session()
        asked = upload_pb2.InitiateUploadRequest(session_id=session_id, content_type="video/mp4", content_length=2024)
        create = intake_pb2.CreateJobRequest(session_id=session_id, s3_bucket="bench", content_length=2024)
        presign, bare = _presigner(self.endpoint), []
        for _ in range(CALLS):
            self.stub.InitiateUpload(asked, metadata=self.coach, timeout=30)
            started = time.perf_counter()
            presign()
            self.intake.CreateJob(create, metadata=self.for_coach, timeout=30)
            bare.append((time.perf_counter() - started) * 1e3)
        ours, theirs = statistics.median(self._server_ms("InitiateUpload")), statistics.median(bare)
        how = f"server time {ours:.1f} ms; bare presign and bare CreateJob {theirs:.1f} ms; medians of {CALLS} turns"
        yield Figure("upload_initiate_ratio", ours / theirs, "x", 1.5, how=how)
        before = self._cpu()
        for _ in range(CALLS):
            self.stub.InitiateUpload(asked, metadata=self.coach, timeout=30)
        seconds = (self._cpu() - before) / CALLS
        how = f"of one core: {seconds * 1e3:.2f} ms of CPU a call"
        yield Figure("upload_initiate_rate", 1 / seconds, "calls/s", 300, most=False, how=how)

    def completing(self) -> Iterator[Figure]:
        """Server time of CompleteUpload minus that of its bare calls: GetJob, HEAD, ranged GET, ConfirmUpload."""
        client, bare = self.endpoint.client(), []
        for _ in range(COMPLETIONS):
            begun = self._put(client)
            request = upload_pb2.CompleteUploadRequest(job_id=begun.job_id)
            self.stub.CompleteUpload(request, metadata=self.coach, timeout=30)
            begun = self._put(client)
            started = time.perf_counter()
            self.people.GetJob(job_pb2.GetJobRequest(job_id=begun.job_id), metadata=self.coach)
            client.head_object(Bucket="bench", Key=begun.s3_key, ChecksumMode="ENABLED")
            client.get_object(Bucket="bench", Key=begun.s3_key, Range="bytes=0-599")["Body"].read()
            confirm = intake_pb2.ConfirmUploadRequest(job_id=begun.job_id, etag="e")
            self.intake.ConfirmUpload(confirm, metadata=self.for_coach)
            bare.append((time.perf_counter() - started) * 1e3)
        ours, theirs = statistics.median(self._server_ms("CompleteUpload")), statistics.median(bare)
        how = f"server time {ours:.1f} ms; its two calls of jobs and two of S3, made bare, {theirs:.1f} ms"
        yield Figure("upload_complete_added", ours - theirs, "ms", 3, how=f"{how}; medians of {COMPLETIONS} turns")

    def _put(self, client: Any) -> upload_pb2.InitiateUploadResponse:
        """A job whose video is in S3."""
        asked = upload_pb2.InitiateUploadRequest(
            session_id=self.jobs.add_session(), content_type="video/mp4", content_length=len(VIDEO)
        )
        begun = self.stub.InitiateUpload(asked, metadata=self.coach)
        client.put_object(Bucket="bench", Key=begun.s3_key, Body=VIDEO, ContentType="video/mp4")
        return begun

    def _server_ms(self, rpc: str) -> list[float]:
        """The log lines of upload's calls."""
        lines = [json.loads(line) for line in self.program.log.read_text().splitlines() if '"event": "rpc"' in line]
        return [float(line["ms"]) for line in lines if line["method"].endswith(f"/{rpc}")]

    def sending(self, video: Path) -> Iterator[Figure]:
        """Our client against s3transfer, alternating, same file and server; both send four 8 MiB parts at once."""
        with video.open("wb") as file:
            file.write(VIDEO)
            # Not sparse: both read it from the page cache.
            for _ in range(SENT_BYTES // 2**20):
                file.write(os.urandom(2**20))
        ratios, best = [], 0.0
        for _ in range(ROUNDS):
            theirs, ours = self._by_s3transfer(video), self._by_us(video)
            ratios.append(theirs / ours)
            best = max(best, SENT_BYTES / ours / 1e6)
        how = f"median of {ROUNDS} turns of 1 GB; we hash SHA-256 for each part and complete; at best {best:.0f} MB/s"
        yield Figure("upload_client_throughput", statistics.median(ratios), "x", 0.9, most=False, how=how)

    def _by_us(self, video: Path) -> float:
        asked = upload_pb2.InitiateUploadRequest(session_id=self.jobs.add_session(), sha256=hash_file(video))
        started = time.perf_counter()
        done = self.sender.upload(video, asked)
        took = time.perf_counter() - started
        self._forget(self.jobs.jobs[done.job_id].video.s3_key)
        return took

    def _by_s3transfer(self, video: Path) -> float:
        transfer = TransferConfig(multipart_chunksize=8 * 2**20, max_concurrency=PARALLEL)
        started = time.perf_counter()
        self.endpoint.client().upload_file(str(video), "bench", "theirs", Config=transfer)
        took = time.perf_counter() - started
        self._forget("theirs")
        return took

    def _forget(self, key: str) -> None:
        self.endpoint.client().delete_object(Bucket="bench", Key=key)


def _presigner(endpoint: s3.Endpoint) -> Callable[[], str]:
    """A presigned PUT by bare boto3, its client warm."""
    client = endpoint.client()
    params: dict[str, Any] = {
        "Bucket": "bench",
        "Key": f"coach_plus/coach/c/{uuid.uuid4()}/{uuid.uuid4()}/original.mp4",
    }
    params |= {"ContentLength": 2024, "ContentType": "video/mp4", "IfNoneMatch": "*"}

    def presign() -> str:
        return str(client.generate_presigned_url("put_object", Params=params, ExpiresIn=3600))

    presign()
    return presign
