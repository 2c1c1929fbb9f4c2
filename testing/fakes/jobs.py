"""Small stand-ins for our own programs: they speak the real protocol on a real port, and remember in memory."""

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
from grpc_status import rpc_status

from crease.cleanup.v1 import cleanup_pb2, cleanup_pb2_grpc
from crease.jobs.v1 import intake_pb2, intake_pb2_grpc, job_pb2, job_pb2_grpc
from services import errors
from services.auth import Person, Program, Verifier
from services.serving import status

OPEN = (job_pb2.JOB_STATUS_AWAITING_UPLOAD, job_pb2.JOB_STATUS_FAILED)


@dataclass
class FakeJobs(
    job_pb2_grpc.JobServiceServicer, intake_pb2_grpc.IntakeServiceServicer, cleanup_pb2_grpc.CleanupServiceServicer
):
    """`jobs` as `upload` sees it: who may, which status, what was pinned."""

    verifier: Verifier
    port: int = 0
    # session: its owner
    sessions: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, job_pb2.Job] = field(default_factory=dict)
    # (job, launch): its living lease
    leases: dict[tuple[str, int], str] = field(default_factory=dict)
    # The jobs of 0.2.0, which has no GetUpload and the id in the job.
    is_old: bool = False
    upload_ids: dict[str, str] = field(default_factory=dict)
    landmarks_keys: dict[str, str] = field(default_factory=dict)
    # job: what happens to it just before FailUpload looks at it, as if another call had come first
    meanwhile: dict[str, Callable[[job_pb2.Job], None]] = field(default_factory=dict)
    by_request: dict[str, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def add_session(self, owner: str = "coach-1") -> str:
        session_id = str(uuid.uuid4())
        self.sessions[session_id] = owner
        return session_id

    def GetJob(self, request: job_pb2.GetJobRequest, context: Any) -> job_pb2.Job:
        with self._answering(context, "authorization", Person) as person:
            job = job_pb2.Job()
            job.CopyFrom(self._owned(request.job_id, person))
            if self.is_old:
                job.video.upload_id = self.upload_ids.get(job.job_id, "")
            return job

    def CreateJob(self, request: intake_pb2.CreateJobRequest, context: Any) -> job_pb2.Job:
        with self._for_person(context) as person:
            if request.session_id not in self.sessions:
                raise errors.NotFound("Video session not found", reason="SESSION_NOT_FOUND")
            if self.sessions[request.session_id] != person.subject:
                raise errors.PermissionDenied("You don't have access to this session", reason="SESSION_ACCESS_DENIED")
            if request.request_id in self.by_request:
                return self.jobs[self.by_request[request.request_id]]
            job = self._add(request, person)
            if request.request_id:
                self.by_request[request.request_id] = job.job_id
            return job

    def ConfirmUpload(self, request: intake_pb2.ConfirmUploadRequest, context: Any) -> intake_pb2.ConfirmUploadResponse:
        with self._for_person(context) as person:
            job = self._owned(request.job_id, person)
            moved = job.status in OPEN
            if moved:
                job.status = job_pb2.JOB_STATUS_QUEUED
                job.failure_code = job.error_message = ""
                job.video.etag, job.video.version_id = request.etag, request.version_id
                job.video.content_length = request.content_length
                job.video.parts_sha256 = request.parts_sha256
            return intake_pb2.ConfirmUploadResponse(job=job, moved=moved)

    def FailUpload(self, request: intake_pb2.FailUploadRequest, context: Any) -> job_pb2.Job:
        with self._for_person(context) as person:
            job = self._owned(request.job_id, person)
            if change := self.meanwhile.pop(job.job_id, None):
                change(job)
            if job.status not in OPEN:
                raise errors.FailedPrecondition("Cannot complete upload for job in status: other", reason="WRONG_STATE")
            job.status = job_pb2.JOB_STATUS_FAILED
            job.failure_code, job.error_message = request.failure_code, request.error_message
            return job

    def GetUpload(self, request: intake_pb2.GetUploadRequest, context: Any) -> intake_pb2.Upload:
        if self.is_old:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        with self._for_person(context) as person:
            job = self._owned(request.job_id, person)
            return intake_pb2.Upload(job=job, upload_id=self.upload_ids.get(job.job_id, ""))

    def RecordMultipart(self, request: intake_pb2.RecordMultipartRequest, context: Any) -> job_pb2.Job:
        with self._for_person(context) as person:
            job = self._owned(request.job_id, person)
            if self.upload_ids.get(job.job_id, "") == request.instead_of:
                self.upload_ids[job.job_id] = request.upload_id
            return job

    def AbandonUpload(self, request: intake_pb2.AbandonUploadRequest, context: Any) -> job_pb2.Job:
        with self._for_person(context) as person:
            job = self._owned(request.job_id, person)
            if job.status not in (*OPEN, job_pb2.JOB_STATUS_CANCELLED) or job.video.etag:
                raise errors.FailedPrecondition("Cannot abort upload for job in status: other", reason="WRONG_STATE")
            job.status = job_pb2.JOB_STATUS_CANCELLED
            return job

    def ClaimCleanup(self, request: cleanup_pb2.ClaimCleanupRequest, context: Any) -> cleanup_pb2.ClaimCleanupResponse:
        return cleanup_pb2.ClaimCleanupResponse()

    def AuthorizeLaunch(
        self, request: intake_pb2.AuthorizeLaunchRequest, context: Any
    ) -> intake_pb2.AuthorizeLaunchResponse:
        with self._answering(context, "authorization", Program):
            if self.leases.get((request.job_id, request.launch_no)) != request.lease:
                raise errors.PermissionDenied("The lease is not the living one of this launch", reason="LEASE_LOST")
            video = self.jobs[request.job_id].video
            prefix = f"{video.s3_key.rpartition('/')[0]}/analysis/{request.job_id}/{request.launch_no}/"
            key = self.landmarks_keys.get(request.job_id, "")
            return intake_pb2.AuthorizeLaunchResponse(video=video, artifact_prefix=prefix, landmarks_key=key)

    def _add(self, request: intake_pb2.CreateJobRequest, person: Person) -> job_pb2.Job:
        key = f"coach_plus/coach/{person.subject}/{request.session_id}/{uuid.uuid4()}/original.mp4"
        job = job_pb2.Job(
            job_id=str(uuid.uuid4()),
            session_id=request.session_id,
            status=job_pb2.JOB_STATUS_AWAITING_UPLOAD,
            sample_fps=request.sample_fps or 10,
            include_frames=request.include_frames,
            anonymous=request.anonymous,
            capture_fps=request.capture_fps,
            video=job_pb2.VideoObject(
                s3_bucket=request.s3_bucket,
                s3_key=key,
                content_type=request.content_type,
                content_length=request.content_length,
                sha256=request.sha256,
                part_bytes=request.part_bytes,
            ),
        )
        self.jobs[job.job_id] = job
        return job

    def _owned(self, job_id: str, person: Person) -> job_pb2.Job:
        if job_id not in self.jobs:
            raise errors.NotFound("Analysis job not found", reason="JOB_NOT_FOUND")
        job = self.jobs[job_id]
        if self.sessions[job.session_id] != person.subject:
            raise errors.PermissionDenied("You don't have access to this job", reason="JOB_ACCESS_DENIED")
        return job

    @contextmanager
    def _for_person(self, context: Any) -> Iterator[Person]:
        """A call of `upload` with a person behind it."""
        with self._answering(context, "authorization", Program), self._answering(context, "crease-user", Person) as who:
            yield who

    @contextmanager
    def _answering(self, context: Any, name: str, kind: type) -> Iterator[Any]:
        """One call at a time; its caller must be of that kind; faults become a status, as in the real one."""
        token = dict(context.invocation_metadata()).get(name, "").removeprefix("Bearer ")
        try:
            caller = asyncio.run(self.verifier.verify(token))
            if not isinstance(caller, kind):
                raise errors.PermissionDenied(f"{caller} may not", reason="CALLER_NOT_ALLOWED")
            with self.lock:
                yield caller
        except errors.ServiceError as fault:
            _abort(context, fault)


def _abort(context: Any, fault: errors.ServiceError) -> NoReturn:
    context.abort_with_status(rpc_status.to_status(status(fault)))
    raise AssertionError("abort_with_status raises")


@contextmanager
def serving_jobs(fake: FakeJobs) -> Iterator[FakeJobs]:
    """The fake on a free port, for as long as the block runs."""
    server = grpc.server(ThreadPoolExecutor(8))
    job_pb2_grpc.add_JobServiceServicer_to_server(fake, server)
    intake_pb2_grpc.add_IntakeServiceServicer_to_server(fake, server)
    cleanup_pb2_grpc.add_CleanupServiceServicer_to_server(fake, server)
    fake.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield fake
    finally:
        server.stop(None).wait()
