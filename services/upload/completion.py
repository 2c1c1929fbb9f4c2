"""CompleteUpload: verifies the object in S3, then queues the job or fails it with a sentence.

parts assembled ─▶ HEAD ─▶ check ─▶ first bytes ─▶ check ─┬─▶ jobs: ConfirmUpload                      queued
                                                          ├─ permanent ─▶ jobs: FailUpload, delete     failed
                                                          └─ transient ─▶ UNAVAILABLE                  unchanged
"""

from collections.abc import Sequence

import grpc
import grpc.aio

from crease.jobs.v1 import intake_pb2, job_pb2
from crease.upload.v1 import upload_pb2
from services import errors
from services.logs import Logger
from services.upload.jobs_client import Jobs
from services.upload.multipart import Multipart
from services.upload.s3 import parts, preflight
from services.upload.s3.preflight import ObservedObject, Problem
from services.upload.s3.storage import Storage

# Statuses in which CompleteUpload verifies the object. In later ones it is already verified.
OPEN_STATUSES = (job_pb2.JOB_STATUS_AWAITING_UPLOAD, job_pb2.JOB_STATUS_FAILED)
COMPLETED_STATUSES = (
    job_pb2.JOB_STATUS_QUEUED,
    job_pb2.JOB_STATUS_QUICK_RUNNING,
    job_pb2.JOB_STATUS_QUICK_DONE,
    job_pb2.JOB_STATUS_DEEP_RUNNING,
    job_pb2.JOB_STATUS_DONE,
)
NOT_FOUND = 404
# S3 may take minutes to assemble, and meanwhile lists neither parts nor object. ListParts detects lost parts.
NOT_ASSEMBLED = Problem(
    "VIDEO_NOT_ASSEMBLED",
    is_permanent=False,
    message="Upload verification failed: S3 is still assembling the parts, or has lost them",
)
Response = upload_pb2.CompleteUploadResponse


class Completion:
    """Completes uploads."""

    def __init__(self, jobs: Jobs, storage: Storage, multipart: Multipart, max_bytes: int, log: Logger) -> None:
        self._jobs = jobs
        self._storage = storage
        self._multipart = multipart
        self._max_bytes = max_bytes
        self._log = log

    async def complete(self, upload: intake_pb2.Upload, claimed: Sequence[upload_pb2.Part]) -> Response:
        """The response to CompleteUpload. `claimed`: the parts that the client states it sent."""
        job = upload.job
        if job.status not in OPEN_STATUSES:
            return _already_completed(job)
        observed, problem = await self._verify(upload, claimed)
        if problem is None:
            return await self._confirm(job, observed)
        if problem.is_permanent:
            return await self._reject(job, observed, problem)
        raise errors.Unavailable(problem.message, reason=problem.code)

    async def _verify(
        self, upload: intake_pb2.Upload, claimed: Sequence[upload_pb2.Part]
    ) -> tuple[ObservedObject, Problem | None]:
        video = upload.job.video
        if parts.count(video) and (problem := await self._multipart.assemble(upload, claimed)):
            return ObservedObject(0), problem
        observed = await self._storage.head(video.s3_bucket, video.s3_key)
        problem = preflight.check(observed, video, self._max_bytes)
        if observed.status == NOT_FOUND and upload.upload_id:
            return observed, NOT_ASSEMBLED
        if problem is None:
            observed = await self._storage.read_head(video.s3_bucket, video.s3_key, observed)
            problem = preflight.check(observed, video, self._max_bytes)
        return observed, problem

    async def _confirm(self, job: job_pb2.Job, observed: ObservedObject) -> Response:
        reply = await self._jobs.confirm(
            intake_pb2.ConfirmUploadRequest(
                job_id=job.job_id,
                etag=observed.etag,
                version_id=observed.version_id,
                content_length=observed.content_length,
                parts_sha256=observed.parts_sha256 or job.video.parts_sha256,
            )
        )
        if not reply.moved:
            return _already_completed(reply.job)
        return _completed(reply.job, "Video uploaded and queued for analysis")

    async def _reject(self, job: job_pb2.Job, observed: ObservedObject, problem: Problem) -> Response:
        """Fails the job, unless a concurrent call has completed it."""
        try:
            await self._jobs.fail(
                intake_pb2.FailUploadRequest(
                    job_id=job.job_id, failure_code=problem.code, error_message=problem.message
                )
            )
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.FAILED_PRECONDITION:
                raise
            return _already_completed(await self._jobs.get(job.job_id))
        await self._delete_rejected(job, observed)
        raise errors.FailedPrecondition(problem.message, reason=problem.code)

    async def _delete_rejected(self, job: job_pb2.Job, observed: ObservedObject) -> None:
        """Deletes an object that was never accepted: signed PUTs replace nothing."""
        if not observed.etag or job.video.etag:
            return
        video = job.video
        try:
            await self._storage.delete(
                video.s3_bucket, video.s3_key, etag=observed.etag, version_id=observed.version_id
            )
        except errors.ServiceError as error:
            self._log.warning("object_not_deleted", s3_key=video.s3_key, why=error.message)


def _already_completed(job: job_pb2.Job) -> Response:
    if job.status not in COMPLETED_STATUSES:
        raise errors.FailedPrecondition(
            f"Cannot complete upload for job in status: {status_name(job)}", reason="WRONG_STATE"
        )
    return _completed(job, "Job already processed - no action taken")


def status_name(job: job_pb2.Job) -> str:
    """The job's status in lower case, as in `awaiting_upload`."""
    return job_pb2.JobStatus.Name(job.status).removeprefix("JOB_STATUS_").lower()


def _completed(job: job_pb2.Job, message: str) -> Response:
    return Response(job_id=job.job_id, status=job.status, sqs_message_id=job.sqs_message_id, message=message)
