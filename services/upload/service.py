"""UploadService: signs the URLs by which videos enter S3 and artifacts leave it.

GetUploadLimits: what a video may have at most
InitiateUpload ─▶ jobs: CreateJob ─▶ sign PUT, or a plan of parts for SignParts
CompleteUpload ─▶ jobs: GetUpload ─▶ completion.py
AbortUpload    ─▶ jobs: AbandonUpload ─▶ delete what has arrived
SignLaunch     ─▶ jobs: AuthorizeLaunch ─▶ sign the pinned GETs, and PUTs under the launch's prefix
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from http import HTTPStatus

from google.protobuf.duration_pb2 import Duration

from crease.jobs.v1 import intake_pb2, job_pb2
from crease.upload.v1 import upload_pb2, upload_pb2_grpc
from services import errors, logs, traces
from services.auth import Lease
from services.authorization import caller_as
from services.logs import Logger
from services.naming import VIDEOS_ROOT, artifact_key
from services.rules.artifacts import newest_artifacts
from services.serving import Context
from services.upload import validation
from services.upload.completion import OPEN_STATUSES, Completion, status_name
from services.upload.jobs_client import Jobs
from services.upload.multipart import Multipart
from services.upload.orphans import check_superuser
from services.upload.s3 import inventory, parts
from services.upload.s3.storage import Storage
from services.upload.settings import UploadSettings

FOLDERS = {job_pb2.STAGE_QUICK: "quick", job_pb2.STAGE_DEEP: "deep"}


class UploadService(upload_pb2_grpc.UploadServiceServicer):
    """The RPCs; protos/crease/upload/v1/upload.proto documents them."""

    def __init__(self, jobs: Jobs, storage: Storage, settings: UploadSettings, log: Logger) -> None:
        self._jobs = jobs
        self._storage = storage
        self._settings = settings
        self._log = log
        self._multipart = Multipart(jobs, storage, log)
        self._completion = Completion(jobs, storage, self._multipart, settings.max_content_length, log)

    async def GetUploadLimits(
        self, request: upload_pb2.GetUploadLimitsRequest, context: Context
    ) -> upload_pb2.GetUploadLimitsResponse:
        duration = Duration()
        duration.FromMilliseconds(round(1000 * self._settings.max_video_seconds))
        return upload_pb2.GetUploadLimitsResponse(
            max_content_length=self._settings.max_content_length,
            max_duration=duration,
            max_picture_pixels=self._settings.max_video_pixels,
            max_frames=self._settings.max_video_frames,
        )

    async def InitiateUpload(
        self, request: upload_pb2.InitiateUploadRequest, context: Context
    ) -> upload_pb2.InitiateUploadResponse:
        validation.check_upload(request, self._settings.max_content_length)
        job = await self._jobs.create(_create_request(request, self._settings))
        logs.bind(job_id=job.job_id)
        if job.status == job_pb2.JOB_STATUS_CANCELLED:
            raise errors.FailedPrecondition(
                f"Cannot upload for job in status: {status_name(job)}", reason="WRONG_STATE"
            )
        video = job.video
        response = upload_pb2.InitiateUploadResponse(
            job_id=job.job_id,
            session_id=job.session_id,
            expires_in=self._settings.upload_url_seconds,
            s3_bucket=video.s3_bucket,
            s3_key=video.s3_key,
        )
        if count := parts.count(video):
            response.parts.CopyFrom(upload_pb2.PartPlan(part_bytes=video.part_bytes, part_count=count))
            return response
        put = await self._storage.sign_put(
            video.s3_bucket,
            video.s3_key,
            content_length=video.content_length,
            content_type=video.content_type,
            sha256=video.sha256,
            once=True,
        )
        response.presigned_url = put.url
        response.required_headers.update(put.headers)
        return response

    async def SignParts(self, request: upload_pb2.SignPartsRequest, context: Context) -> upload_pb2.SignPartsResponse:
        puts = await self._multipart.sign(await self._in_parts(request.job_id), request.parts)
        return upload_pb2.SignPartsResponse(puts=puts, expires_in=Duration(seconds=self._settings.upload_url_seconds))

    async def ListParts(self, request: upload_pb2.ListPartsRequest, context: Context) -> upload_pb2.ListPartsResponse:
        after, size = validation.page_bounds(request)
        arrived = await self._multipart.list(await self._in_parts(request.job_id))
        rest = [part for part in arrived if part.number > after]
        listed = [
            upload_pb2.Part(part_number=part.number, sha256=part.sha256, content_length=part.content_length)
            for part in rest[:size]
        ]
        token = validation.page_token(request.job_id, listed[-1].part_number) if len(rest) > size else ""
        return upload_pb2.ListPartsResponse(parts=listed, next_page_token=token)

    async def CompleteUpload(
        self, request: upload_pb2.CompleteUploadRequest, context: Context
    ) -> upload_pb2.CompleteUploadResponse:
        upload = await self._jobs.get_upload(request.job_id)
        validation.check_claims(request.parts, parts.count(upload.job.video))
        with traces.span("complete", upload.trace_parent, linked=True, job_id=upload.job.job_id):
            return await self._completion.complete(upload, request.parts)

    async def AbortUpload(
        self, request: upload_pb2.AbortUploadRequest, context: Context
    ) -> upload_pb2.AbortUploadResponse:
        job = await self._jobs.abandon(request.job_id)
        try:
            await self._storage.delete_all(job.video.s3_bucket, inventory.folder_of(job.video.s3_key))
        except errors.ServiceError as error:
            # The job is cancelled: cleanup deletes the objects later.
            self._log.warning("left_to_cleanup", why=error.message)
        return upload_pb2.AbortUploadResponse(job_id=job.job_id, status=job.status)

    async def SignDownload(
        self, request: upload_pb2.SignDownloadRequest, context: Context
    ) -> upload_pb2.SignDownloadResponse:
        job = await self._jobs.get(request.job_id)
        newest = newest_artifacts(job).get(request.name)
        if newest is None:
            raise errors.NotFound("Artifact not found", reason="ARTIFACT_NOT_FOUND")
        # An analyzer reports its artifacts; only S3 knows that it has put one.
        if (await self._storage.head(job.video.s3_bucket, newest.s3_key)).status == HTTPStatus.NOT_FOUND:
            raise errors.NotFound(f"S3 holds no artifact {request.name} of this job", reason="ARTIFACT_NOT_FOUND")
        get = await self._storage.sign_get(job.video.s3_bucket, newest.s3_key)
        expires_in = Duration(seconds=self._settings.download_url_seconds)
        return upload_pb2.SignDownloadResponse(get=get, expires_in=expires_in)

    async def SignLaunch(
        self, request: upload_pb2.SignLaunchRequest, context: Context
    ) -> upload_pb2.SignLaunchResponse:
        validation.check_artifacts(request.artifacts)
        allowed = await self._jobs.authorize(
            intake_pb2.AuthorizeLaunchRequest(
                job_id=request.job_id, launch_no=request.launch_no, lease=caller_as(Lease).secret
            )
        )
        video = allowed.video
        get = self._storage.sign_get(video.s3_bucket, video.s3_key, etag=video.etag, version_id=video.version_id)
        signed = await asyncio.gather(get, *(self._put(allowed, artifact) for artifact in request.artifacts))
        landmarks = allowed.landmarks_key and await self._storage.sign_get(video.s3_bucket, allowed.landmarks_key)
        return upload_pb2.SignLaunchResponse(video=signed[0], artifacts=signed[1:], landmarks=landmarks or None)

    async def ListOrphans(
        self, request: upload_pb2.ListOrphansRequest, context: Context
    ) -> AsyncIterator[upload_pb2.Orphan]:
        """Deprecated: OrphanService has pages."""
        check_superuser()
        bucket = self._settings.bucket
        objects = self._storage.objects(bucket, VIDEOS_ROOT)
        uploads = self._storage.uploads(bucket, VIDEOS_ROOT)
        async for _, orphans in inventory.compare(objects, uploads, self._jobs.list_videos(bucket)):
            for orphan in orphans:
                yield orphan

    async def _in_parts(self, job_id: str) -> intake_pb2.Upload:
        """A job of the caller whose parts may be uploaded. Raises FailedPrecondition."""
        upload = await self._jobs.get_upload(job_id)
        job = upload.job
        if not parts.count(job.video):
            raise errors.FailedPrecondition("The video comes in one PUT: see InitiateUpload", reason="NOT_IN_PARTS")
        if job.status not in OPEN_STATUSES or job.video.etag:
            raise errors.FailedPrecondition(
                f"Cannot upload for job in status: {status_name(job)}", reason="WRONG_STATE"
            )
        return upload

    def _put(
        self, allowed: intake_pb2.AuthorizeLaunchResponse, artifact: job_pb2.Artifact
    ) -> Awaitable[upload_pb2.SignedRequest]:
        """A signed PUT that may be repeated: a pod retries after a lost answer, under a prefix of its own."""
        return self._storage.sign_put(
            allowed.video.s3_bucket,
            artifact_key(allowed.artifact_prefix, FOLDERS[artifact.stage], artifact.name),
            content_length=artifact.content_length,
            content_type=artifact.content_type,
        )


def _create_request(request: upload_pb2.InitiateUploadRequest, settings: UploadSettings) -> intake_pb2.CreateJobRequest:
    length = request.content_length
    return intake_pb2.CreateJobRequest(
        session_id=request.session_id,
        sample_fps=request.sample_fps,
        include_frames=request.include_frames,
        anonymous=request.anonymous,
        capture_fps=request.capture_fps,
        s3_bucket=settings.bucket,
        content_type=request.content_type,
        content_length=length,
        sha256=request.sha256.lower(),
        request_id=request.request_id,
        accelerator=request.accelerator,
        athlete_box=request.athlete_box if request.HasField("athlete_box") else None,
        part_bytes=parts.part_bytes(length) if length >= settings.multipart_from_bytes else 0,
    )
