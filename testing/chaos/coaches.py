"""The clients: each lives through one video after the other, and calls again whenever an answer is lost.

Most upload, complete and wait. Some cancel, complete twice, abandon the upload, retry what failed, analyse again, or
delete. `lives` has every job that a client was told of.
"""

import asyncio
import hashlib
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from crease.jobs.v1 import job_pb2, job_pb2_grpc, session_pb2, session_pb2_grpc
from crease.upload.v1 import upload_pb2, upload_pb2_grpc
from testing.chaos.calls import Calls, GaveUp, Metadata, http_session, transfer
from testing.servers.programs import Laptop

HEAD = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"
FINAL = (job_pb2.JOB_STATUS_DONE, job_pb2.JOB_STATUS_FAILED, job_pb2.JOB_STATUS_CANCELLED)
# What a client does, and how often.
PLANS = {
    "waits": 62, "cancels": 10, "completes twice": 6, "abandons": 4, "aborts": 4, "reanalyses": 6, "deletes": 4,
    "deletes the session": 4,
}  # fmt: skip
PATIENCE_SECONDS = 120.0
WAIT_SECONDS = 240.0
# A watch ends after this time, and the client reads again: connections may have died silently.
WATCH_SECONDS = 15.0


@dataclass
class Coaches:
    jobs: grpc.aio.Channel
    upload: grpc.aio.Channel
    calls: Calls
    laptop: Laptop
    dice: random.Random
    videos: dict[str, bytes]
    lives_a_second: float
    # Every job that a client was told of, with its plan.
    lives: dict[str, str] = field(default_factory=dict)
    # By request_id, the job that InitiateUpload or ReanalyzeJob answered.
    requests: dict[str, str] = field(default_factory=dict)
    gave_up: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def run(self, most_at_once: int) -> None:
        """Begins lives at the given rate until cancelled; lives that have begun go on."""
        self._sessions = session_pb2_grpc.SessionServiceStub(self.jobs)
        self._jobs = job_pb2_grpc.JobServiceStub(self.jobs)
        self._uploads = upload_pb2_grpc.UploadServiceStub(self.upload)
        self._http = http_session()
        while True:
            await asyncio.sleep(self.dice.expovariate(self.lives_a_second))
            if len(self._tasks) < most_at_once:
                task = asyncio.ensure_future(self._live())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def finish(self, seconds: float) -> None:
        """Waits for the lives that have begun."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in list(self._tasks):
            task.cancel()
        await self._http.close()

    async def _live(self) -> None:
        [plan] = self.dice.choices(list(PLANS), list(PLANS.values()))
        coach = self.laptop.person(f"coach-{self.dice.randrange(20)}")
        try:
            await self._follow(plan, coach)
        except GaveUp as error:
            self.gave_up[str(error)[:160]] += 1
        except grpc.aio.AioRpcError as error:
            self.violations.append(f"{plan}: {error.code().name}: {error.details()}")

    async def _follow(self, plan: str, coach: Metadata) -> None:
        session = await self._call(self._sessions.CreateSession, session_pb2.CreateSessionRequest(title="Nets"), coach)
        request_id = str(uuid.uuid4())
        video = HEAD + request_id.encode() * self.dice.randrange(20, 400)
        asked = upload_pb2.InitiateUploadRequest(
            session_id=session.session_id, content_type="video/mp4", content_length=len(video), request_id=request_id
        )
        begun = await self._call(self._uploads.InitiateUpload, asked, coach)
        job_id = begun.job_id
        self._remember(job_id, plan, request_id)
        self.videos[begun.s3_key] = video
        if plan == "abandons" and self.dice.random() < 0.5:
            return
        if put := await self._signed(begun, video, coach):
            await transfer(self._http, put, video, PATIENCE_SECONDS)
        if plan == "abandons":
            return
        if plan == "aborts":
            await self._call(self._uploads.AbortUpload, upload_pb2.AbortUploadRequest(job_id=job_id), coach)
            return
        for _ in range(2 if plan == "completes twice" else 1):
            await self._call(self._uploads.CompleteUpload, upload_pb2.CompleteUploadRequest(job_id=job_id), coach,
                             refusals=("FAILED_PRECONDITION",))  # fmt: skip
        if plan == "cancels":
            await asyncio.sleep(self.dice.expovariate(1.0))
            await self._call(
                self._jobs.CancelJob, job_pb2.CancelJobRequest(job_id=job_id), coach, refusals=("FAILED_PRECONDITION",)
            )
        job = await self._wait(job_id, coach)
        if job.status == job_pb2.JOB_STATUS_FAILED and job.video.etag and self.dice.random() < 0.5:
            await self._call(
                self._jobs.RetryJob, job_pb2.RetryJobRequest(job_id=job_id), coach, refusals=("FAILED_PRECONDITION",)
            )
            job = await self._wait(job_id, coach)
        await self._after(plan, job, coach)

    async def _signed(
        self, begun: upload_pb2.InitiateUploadResponse, video: bytes, coach: Metadata
    ) -> upload_pb2.SignedRequest | None:
        """The PUT of the video, or of its only part; None if the upload has expired meanwhile."""
        if not begun.parts.part_count:
            headers = dict(begun.required_headers)
            return upload_pb2.SignedRequest(method="PUT", url=begun.presigned_url, headers=headers)
        part = upload_pb2.Part(part_number=1, sha256=hashlib.sha256(video).hexdigest())
        asked = upload_pb2.SignPartsRequest(job_id=begun.job_id, parts=[part])
        refused = ("FAILED_PRECONDITION",)
        reply: upload_pb2.SignPartsResponse | None = await self._call(
            self._uploads.SignParts, asked, coach, refusals=refused
        )
        return reply.puts[0] if reply else None

    async def _after(self, plan: str, job: job_pb2.Job, coach: Metadata) -> None:
        """The job is final."""
        refused = ("FAILED_PRECONDITION", "NOT_FOUND")
        match plan:
            case "reanalyses" if job.video.etag:
                request_id = str(uuid.uuid4())
                asked = job_pb2.ReanalyzeJobRequest(job_id=job.job_id, request_id=request_id)
                again = await self._call(self._jobs.ReanalyzeJob, asked, coach)
                self._remember(again.job_id, "is analysed again", request_id)
                await self._wait(again.job_id, coach)
            case "deletes":
                await self._call(
                    self._jobs.DeleteJob, job_pb2.DeleteJobRequest(job_id=job.job_id), coach, refusals=refused
                )
            case "deletes the session":
                gone = session_pb2.DeleteSessionRequest(session_id=job.session_id)
                await self._call(self._sessions.DeleteSession, gone, coach, refusals=refused)

    def _remember(self, job_id: str, plan: str, request_id: str) -> None:
        self.lives[job_id] = plan
        self.requests[request_id] = job_id

    async def _wait(self, job_id: str, coach: Metadata) -> job_pb2.Job:
        """Watches until the job is final. Raises GaveUp."""
        give_up = asyncio.get_running_loop().time() + WAIT_SECONDS
        while asyncio.get_running_loop().time() < give_up:
            with_time = self._jobs.WatchJob(
                job_pb2.WatchJobRequest(job_id=job_id), metadata=coach, timeout=WATCH_SECONDS
            )
            try:
                async for job in with_time:
                    if job.status in FINAL:
                        return job
                    # Some clients leave in the middle.
                    if self.dice.random() < 0.02:
                        break
            except grpc.aio.AioRpcError as error:
                if error.code() not in (
                    grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED,
                    grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.RESOURCE_EXHAUSTED,
                ):  # fmt: skip
                    raise
                if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
                    self.calls.answers["WatchJob", error.code().name] += 1
            with_time.cancel()
            await asyncio.sleep(0.3)
        raise GaveUp("WatchJob: the job was not final in time")

    async def _call(self, rpc: Any, request: Any, coach: Metadata, *, refusals: tuple[str, ...] = ()) -> Any:
        """`refusals`: codes that are an answer: the state changed meanwhile."""
        try:
            return await self.calls.until(rpc, request, coach, PATIENCE_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code().name in refusals:
                return None
            raise
