"""`upload` against bare boto3: signing, completing, sending."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import boto3
import grpc
import psutil
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from bench.figures import Figure
from crease.upload.v1 import upload_pb2, upload_pb2_grpc
from services import issuer
from services.auth import Verifier
from services.cli import upload as sender
from services.cli.client import Services
from services.settings import Issuer
from tests import s3
from tests.fakes import FakeJobs, serving_jobs
from tests.programs import ROOT, Laptop, Program, running

CALLS = 600
COMPLETIONS = 100
ROUNDS = 3
SENT_BYTES = 1_000_000_000
VIDEO = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(2000)


def run() -> Iterator[Figure]:
    """On versitygw where there is Go, with a `jobs` that answers from memory."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crease-bench-")))
        bench = _Bench(stack, folder)
        yield from bench.initiating()
        yield from bench.completing()
        yield from bench.sending(folder / "video.mp4")


class _Bench:
    def __init__(self, stack: ExitStack, folder: Path) -> None:
        issuer.create(folder / "issuer")
        laptop = Laptop(folder / "issuer")
        endpoint = stack.enter_context(s3.versitygw(folder / "s3"))
        endpoint.make_bucket("bench")
        issuers = [Issuer.model_validate(one) for one in issuer.issuers(laptop.folder)]
        self.jobs = stack.enter_context(serving_jobs(FakeJobs(Verifier(issuers, "crease"))))
        env = laptop.env | endpoint.env | {
            "S3_COACH_VIDEOS_BUCKET": "bench",
            "CREASE_JOBS_ENDPOINT": f"127.0.0.1:{self.jobs.port}",
            "CREASE_TOKEN_FILE": str(laptop.token_file("upload")),
            "CREASE_S3_TIMEOUT_SECONDS": "120",
        }  # fmt: skip
        self.program = stack.enter_context(running(Program("upload", env, folder / "log")))
        self.channel = stack.enter_context(grpc.insecure_channel(self.program.endpoint))
        self.stub = upload_pb2_grpc.UploadServiceStub(self.channel)
        self.coach = laptop.person()
        self.endpoint = endpoint
        self.token = folder / "token"
        self.token.write_text(self.coach[0][1].removeprefix("Bearer "))

    def cpu(self) -> float:
        """Seconds of CPU that `upload` has used."""
        process = self.program.process
        if process is None:
            raise RuntimeError("upload does not run")
        times = psutil.Process(process.pid).cpu_times()
        return float(times.user + times.system)

    def initiating(self) -> Iterator[Figure]:
        """CPU of one call, against presigning by bare boto3 plus one call of `jobs` by a bare aio client."""
        session_id = self.jobs.add_session()
        asked = upload_pb2.InitiateUploadRequest(session_id=session_id, content_type="video/mp4", content_length=2024)
        self._call(self.stub.InitiateUpload, asked, 100)
        before = self.cpu()
        self._call(self.stub.InitiateUpload, asked, CALLS)
        ours = (self.cpu() - before) / CALLS
        bare = _presign(self.endpoint, CALLS) + _bare_call(self.jobs.port, self.coach, next(iter(self.jobs.jobs)))
        how = f"CPU of upload {ours * 1e3:.2f} ms a call; bare boto3 presign + one bare jobs call {bare * 1e3:.2f} ms"
        yield Figure("upload_initiate_ratio", ours / bare, "x", 1.5, how=how)
        yield Figure("upload_initiate_rate", 1 / ours, "calls/s", 300, most=False, how="of one core, by CPU time")

    def _call(self, method: Callable[..., object], request: object, count: int) -> None:
        for _ in range(count):
            method(request, metadata=self.coach, timeout=30)

    def completing(self) -> Iterator[Figure]:
        """Wall time of CompleteUpload less that of HEAD and ranged GET by boto3, medians of turns taken by both."""
        client, ours, bare = self.endpoint.client(), [], []
        for _ in range(COMPLETIONS):
            session_id = self.jobs.add_session()
            asked = upload_pb2.InitiateUploadRequest(
                session_id=session_id, content_type="video/mp4", content_length=len(VIDEO)
            )
            begun = self.stub.InitiateUpload(asked, metadata=self.coach)
            client.put_object(Bucket="bench", Key=begun.s3_key, Body=VIDEO, ContentType="video/mp4")
            request = upload_pb2.CompleteUploadRequest(job_id=begun.job_id)
            started = time.perf_counter()
            self.stub.CompleteUpload(request, metadata=self.coach, timeout=30)
            middle = time.perf_counter()
            client.head_object(Bucket="bench", Key=begun.s3_key, ChecksumMode="ENABLED")
            client.get_object(Bucket="bench", Key=begun.s3_key, Range="bytes=0-599")["Body"].read()
            bare.append(time.perf_counter() - middle)
            ours.append(middle - started)
        added = (statistics.median(ours) - statistics.median(bare)) * 1e3
        how = f"CompleteUpload {statistics.median(ours) * 1e3:.1f} ms, its two calls to jobs included"
        yield Figure("upload_complete_added", added, "ms", 3, how=how)

    def sending(self, video: Path) -> Iterator[Figure]:
        """Our client against s3transfer on the same file and server, in turns; both four at once, 8 MiB parts."""
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
        services = Services(None, None, self.stub, self.token)  # type: ignore[arg-type]
        asked = upload_pb2.InitiateUploadRequest(
            session_id=self.jobs.add_session(),
            content_type="video/mp4",
            content_length=video.stat().st_size,
            request_id=str(uuid.uuid4()),
        )
        started = time.perf_counter()
        done = sender.send(services, video, asked)
        took = time.perf_counter() - started
        self._forget(self.jobs.jobs[done.job_id].video.s3_key)
        return took

    def _by_s3transfer(self, video: Path) -> float:
        transfer = TransferConfig(multipart_chunksize=8 * 2**20, max_concurrency=sender.PARALLEL)
        started = time.perf_counter()
        self.endpoint.client().upload_file(str(video), "bench", "theirs", Config=transfer)
        took = time.perf_counter() - started
        self._forget("theirs")
        return took

    def _forget(self, key: str) -> None:
        self.endpoint.client().delete_object(Bucket="bench", Key=key)


def _presign(endpoint: s3.Endpoint, count: int) -> float:
    """CPU seconds of one presigned PUT by bare boto3."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint.url,
        region_name=endpoint.region,
        aws_access_key_id=endpoint.access_key,
        aws_secret_access_key=endpoint.secret_key,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    params = {"Bucket": "bench", "Key": f"coach_plus/coach/c/{uuid.uuid4()}/{uuid.uuid4()}/original.mp4"}
    params |= {"ContentLength": 2024, "ContentType": "video/mp4", "IfNoneMatch": "*"}  # type: ignore[dict-item]
    for _ in range(50):
        client.generate_presigned_url("put_object", Params=params, ExpiresIn=3600)
    before = time.process_time()
    for _ in range(count):
        client.generate_presigned_url("put_object", Params=params, ExpiresIn=3600)
    return (time.process_time() - before) / count


# In a process of its own: CPU of ours would count the fake `jobs` too.
_BARE_CALL = """
import asyncio, sys, time, grpc.aio
from crease.jobs.v1 import job_pb2, job_pb2_grpc
port, token, job_id, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
async def main():
    async with grpc.aio.insecure_channel("127.0.0.1:" + port) as channel:
        stub = job_pb2_grpc.JobServiceStub(channel)
        request = job_pb2.GetJobRequest(job_id=job_id)
        async def call(): return await stub.GetJob(request, metadata=(("authorization", token),), timeout=30)
        for _ in range(50): await call()
        before = time.process_time()
        for _ in range(count): await call()
        print((time.process_time() - before) / count)
asyncio.run(main())
"""


def _bare_call(port: int, coach: tuple[tuple[str, str], ...], job_id: str) -> float:
    """CPU seconds of one call of `jobs` by a bare client."""
    command = [sys.executable, "-c", _BARE_CALL, str(port), coach[0][1], job_id, str(CALLS)]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
