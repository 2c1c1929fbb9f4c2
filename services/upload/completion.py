"""CompleteUpload: is what lies in S3 the promised video? Verified, pinned and queued, or failed with a sentence.

parts assembled ─▶ HEAD ─▶ judge ─▶ first bytes ─▶ judge ─┬─▶ jobs: ConfirmUpload                      queued
                                                          ├─ definite ─▶ jobs: FailUpload, delete      failed
                                                          └─ passing ─▶ UNAVAILABLE                    as it was
"""

from collections.abc import Sequence

import grpc
import grpc.aio

from crease.jobs.v1 import job_pb2
from crease.upload.v1 import upload_pb2
from services import errors
from services.logs import Logger
from services.upload.jobs_client import Jobs
from services.upload.multipart import Multipart
from services.upload.s3 import parts, preflight
from services.upload.s3.preflight import Finding, Seen
from services.upload.s3.storage import Storage

# Only from these can an upload be completed; what comes later has it already.
OPEN = (job_pb2.JOB_STATUS_AWAITING_UPLOAD, job_pb2.JOB_STATUS_FAILED)
COMPLETED = (
    job_pb2.JOB_STATUS_QUEUED,
    job_pb2.JOB_STATUS_QUICK_RUNNING,
    job_pb2.JOB_STATUS_QUICK_DONE,
    job_pb2.JOB_STATUS_DEEP_RUNNING,
    job_pb2.JOB_STATUS_DONE,
)
NOT_FOUND = 404
# S3 may take minutes, and knows neither the parts nor the video meanwhile. ListParts finds out where they are lost.
NOT_ASSEMBLED = Finding(
    "VIDEO_NOT_ASSEMBLED",
    is_definite=False,
    message="Upload verification failed: S3 is still putting the parts together, or has lost them",
)
Answer = upload_pb2.CompleteUploadResponse


class Completion:
    def __init__(self, jobs: Jobs, storage: Storage, multipart: Multipart, most_bytes: int, log: Logger) -> None:
        self._jobs = jobs
        self._storage = storage
        self._multipart = multipart
        self._most_bytes = most_bytes
        self._log = log

    async def complete(self, job: job_pb2.Job, claimed: Sequence[upload_pb2.Part]) -> Answer:
        """The answer to CompleteUpload; `claimed`: the parts that the client says it sent."""
        if job.status not in OPEN:
            return _completed_before(job)
        seen, finding = await self._verify(job, claimed)
        if finding is None:
            return await self._confirm(job, seen)
        if finding.is_definite:
            return await self._reject(job, seen, finding)
        raise errors.Unavailable(finding.message, reason=finding.code)

    async def _verify(self, job: job_pb2.Job, claimed: Sequence[upload_pb2.Part]) -> tuple[Seen, Finding | None]:
        video = job.video
        if parts.count(video) and (finding := await self._multipart.assemble(job, claimed)):
            return Seen(0), finding
        seen = await self._storage.head(video.s3_bucket, video.s3_key)
        finding = preflight.judge(seen, video, self._most_bytes)
        if seen.status == NOT_FOUND and video.upload_id:
            return seen, NOT_ASSEMBLED
        if finding is None:
            seen = await self._storage.read_head(video.s3_bucket, video.s3_key, seen)
            finding = preflight.judge(seen, video, self._most_bytes)
        return seen, finding

    async def _confirm(self, job: job_pb2.Job, seen: Seen) -> Answer:
        reply = await self._jobs.confirm(
            job_pb2.ConfirmUploadRequest(
                job_id=job.job_id,
                etag=seen.etag,
                version_id=seen.version_id,
                content_length=seen.content_length,
                parts_sha256=seen.parts_sha256 or job.video.parts_sha256,
            )
        )
        if not reply.moved:
            return _completed_before(reply.job)
        return _completed(reply.job, "Video uploaded and queued for analysis")

    async def _reject(self, job: job_pb2.Job, seen: Seen, finding: Finding) -> Answer:
        """Fails the job. Where another call completed it since it was read, that one is right."""
        try:
            await self._jobs.fail(
                job_pb2.FailUploadRequest(job_id=job.job_id, failure_code=finding.code, error_message=finding.message)
            )
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.FAILED_PRECONDITION:
                raise
            return _completed_before(await self._jobs.get(job.job_id))
        await self._make_room(job, seen)
        raise errors.FailedPrecondition(finding.message, reason=finding.code)

    async def _make_room(self, job: job_pb2.Job, seen: Seen) -> None:
        """Deletes an object that was never accepted: no PUT replaces one, and the client is to upload again."""
        if not seen.etag or job.video.etag:
            return
        video = job.video
        try:
            await self._storage.delete(video.s3_bucket, video.s3_key, etag=seen.etag, version_id=seen.version_id)
        except errors.ServiceError as fault:
            self._log.warning("not deleted", s3_key=video.s3_key, why=fault.message)


def _completed_before(job: job_pb2.Job) -> Answer:
    if job.status not in COMPLETED:
        raise errors.FailedPrecondition(f"Cannot complete upload for job in status: {word(job)}", reason="WRONG_STATE")
    return _completed(job, "Job already processed - no action taken")


def word(job: job_pb2.Job) -> str:
    """The job's status as people write it."""
    return job_pb2.JobStatus.Name(job.status).removeprefix("JOB_STATUS_").lower()


def _completed(job: job_pb2.Job, message: str) -> Answer:
    return Answer(job_id=job.job_id, status=job.status, sqs_message_id=job.sqs_message_id, message=message)
