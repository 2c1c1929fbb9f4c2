"""UploadService: a video's way into S3 and an analysis's way out of it, by signed URLs.

InitiateUpload ─▶ jobs: CreateJob ─▶ sign PUT
CompleteUpload ─▶ jobs: GetJob ─▶ HEAD ─▶ judge ─┬─▶ jobs: ConfirmUpload                      queued
                                                 ├─ definite ─▶ jobs: FailUpload, delete      failed
                                                 └─ passing ─▶ UNAVAILABLE                    as it was
"""

import asyncio
from collections.abc import Awaitable

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from structlog.contextvars import bind_contextvars

from crease.jobs.v1 import job_pb2
from crease.upload.v1 import upload_pb2, upload_pb2_grpc
from services import errors
from services.auth import Lease
from services.logs import Logger
from services.rights import caller_as
from services.serving import Context
from services.upload import limits, preflight
from services.upload.jobs import Jobs
from services.upload.settings import UploadSettings
from services.upload.storage import Storage

# Only from these can an upload be completed; what comes later has it already.
OPEN = (job_pb2.JOB_STATUS_AWAITING_UPLOAD, job_pb2.JOB_STATUS_FAILED)
COMPLETED = (
    job_pb2.JOB_STATUS_QUEUED,
    job_pb2.JOB_STATUS_QUICK_RUNNING,
    job_pb2.JOB_STATUS_QUICK_DONE,
    job_pb2.JOB_STATUS_DEEP_RUNNING,
    job_pb2.JOB_STATUS_DONE,
)
FOLDERS = {job_pb2.STAGE_QUICK: "quick", job_pb2.STAGE_DEEP: "deep"}


class UploadService(upload_pb2_grpc.UploadServiceServicer):
    def __init__(self, jobs: Jobs, storage: Storage, settings: UploadSettings, log: Logger) -> None:
        self._jobs = jobs
        self._storage = storage
        self._settings = settings
        self._log = log

    async def InitiateUpload(
        self, request: upload_pb2.InitiateUploadRequest, context: Context
    ) -> upload_pb2.InitiateUploadResponse:
        limits.check_upload(request, self._settings.max_content_length)
        job = await self._jobs.create(_order(request, self._settings.bucket))
        bind_contextvars(job_id=job.job_id)
        video = job.video
        put = await self._storage.sign_put(
            video.s3_bucket,
            video.s3_key,
            content_length=video.content_length,
            content_type=video.content_type,
            sha256=video.sha256,
            once=True,
        )
        return upload_pb2.InitiateUploadResponse(
            job_id=job.job_id,
            session_id=job.session_id,
            presigned_url=put.url,
            expires_in=self._settings.upload_url_seconds,
            s3_bucket=video.s3_bucket,
            s3_key=video.s3_key,
            required_headers=put.headers,
        )

    async def CompleteUpload(
        self, request: upload_pb2.CompleteUploadRequest, context: Context
    ) -> upload_pb2.CompleteUploadResponse:
        bind_contextvars(job_id=request.job_id)
        job = await self._jobs.get(request.job_id)
        if job.status not in OPEN:
            return _completed_before(job)
        seen = await self._storage.head(job.video.s3_bucket, job.video.s3_key)
        finding = preflight.judge(seen, job.video, self._settings.max_content_length)
        if finding is None:
            return await self._confirm(job, seen)
        if finding.is_definite:
            return await self._reject(job, seen, finding)
        raise errors.Away(finding.message, reason=finding.code)

    async def SignDownload(
        self, request: upload_pb2.SignDownloadRequest, context: Context
    ) -> upload_pb2.SignDownloadResponse:
        bind_contextvars(job_id=request.job_id)
        job = await self._jobs.get(request.job_id)
        named = [artifact for artifact in job.artifacts if artifact.name == request.name]
        if not named:
            raise errors.NotFound("Artifact not found", reason="ARTIFACT_NOT_FOUND")
        newest = max(named, key=lambda artifact: artifact.stage)
        get = await self._storage.sign_get(job.video.s3_bucket, newest.s3_key)
        expires_in = Duration(seconds=self._settings.download_url_seconds)
        return upload_pb2.SignDownloadResponse(get=get, expires_in=expires_in)

    async def SignLaunch(
        self, request: upload_pb2.SignLaunchRequest, context: Context
    ) -> upload_pb2.SignLaunchResponse:
        bind_contextvars(job_id=request.job_id)
        limits.check_artifacts(request.artifacts)
        allowed = await self._jobs.authorize(
            job_pb2.AuthorizeLaunchRequest(
                job_id=request.job_id, launch_no=request.launch_no, lease=caller_as(Lease).secret
            )
        )
        video = allowed.video
        get = self._storage.sign_get(video.s3_bucket, video.s3_key, etag=video.etag, version_id=video.version_id)
        signed = await asyncio.gather(get, *(self._put(allowed, artifact) for artifact in request.artifacts))
        return upload_pb2.SignLaunchResponse(video=signed[0], artifacts=signed[1:])

    def _put(
        self, allowed: job_pb2.AuthorizeLaunchResponse, artifact: job_pb2.Artifact
    ) -> Awaitable[upload_pb2.SignedRequest]:
        """May be put again: a pod whose answer was lost repeats itself, under a prefix that is its own."""
        return self._storage.sign_put(
            allowed.video.s3_bucket,
            f"{allowed.artifact_prefix}{FOLDERS[artifact.stage]}/{artifact.name}",
            content_length=artifact.content_length,
            content_type=artifact.content_type,
        )

    async def _confirm(self, job: job_pb2.Job, seen: preflight.Seen) -> upload_pb2.CompleteUploadResponse:
        reply = await self._jobs.confirm(
            job_pb2.ConfirmUploadRequest(
                job_id=job.job_id,
                etag=seen.etag,
                version_id=seen.version_id,
                content_length=seen.content_length,
            )
        )
        if not reply.moved:
            return _completed_before(reply.job)
        return _completed(reply.job, "Video uploaded and queued for analysis")

    async def _reject(
        self, job: job_pb2.Job, seen: preflight.Seen, finding: preflight.Finding
    ) -> upload_pb2.CompleteUploadResponse:
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
        raise errors.Refused(finding.message, reason=finding.code)

    async def _make_room(self, job: job_pb2.Job, seen: preflight.Seen) -> None:
        """Deletes an object that was never accepted: no PUT replaces one, and the client is to upload again."""
        if not seen.etag or job.video.etag:
            return
        video = job.video
        try:
            await self._storage.delete(video.s3_bucket, video.s3_key, etag=seen.etag, version_id=seen.version_id)
        except errors.Broken as fault:
            self._log.warning("not deleted", s3_key=video.s3_key, why=fault.message)


def _order(request: upload_pb2.InitiateUploadRequest, bucket: str) -> job_pb2.CreateJobRequest:
    return job_pb2.CreateJobRequest(
        session_id=request.session_id,
        sample_fps=request.sample_fps,
        include_frames=request.include_frames,
        s3_bucket=bucket,
        content_type=request.content_type,
        content_length=request.content_length,
        sha256=request.sha256.lower(),
        request_id=request.request_id,
        accelerator=request.accelerator,
        athlete_box=request.athlete_box if request.HasField("athlete_box") else None,
    )


def _completed_before(job: job_pb2.Job) -> upload_pb2.CompleteUploadResponse:
    if job.status not in COMPLETED:
        word = job_pb2.JobStatus.Name(job.status).removeprefix("JOB_STATUS_").lower()
        raise errors.Refused(f"Cannot complete upload for job in status: {word}", reason="WRONG_STATE")
    return _completed(job, "Job already processed - no action taken")


def _completed(job: job_pb2.Job, message: str) -> upload_pb2.CompleteUploadResponse:
    return upload_pb2.CompleteUploadResponse(
        job_id=job.job_id, status=job.status, sqs_message_id=job.sqs_message_id, message=message
    )
