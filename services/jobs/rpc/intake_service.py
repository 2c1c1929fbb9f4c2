"""IntakeService: `upload` creates jobs, and reports what became of their uploads."""

from typing import Any
from uuid import uuid4

from psycopg.types.json import Jsonb

from crease.jobs.v1 import intake_pb2, intake_pb2_grpc, job_pb2
from services import errors, logs
from services.auth import User, Verifier, act_on_behalf
from services.jobs.domain import authorization, states
from services.jobs.domain.limits import Quotas
from services.jobs.domain.records import Job
from services.jobs.notifier import Notifier
from services.jobs.rpc import mapping, share_service, validation
from services.jobs.store import cancellation, jobs, launches, quotas, sessions
from services.jobs.store.database import Connection, Database
from services.rules.limits import sentence
from services.serving import Context, audited, call


class IntakeService(intake_pb2_grpc.IntakeServiceServicer):
    def __init__(
        self, database: Database, verifier: Verifier, notifier: Notifier, limits: Quotas, *, deep_enabled: bool
    ) -> None:
        self._database = database
        self._verifier = verifier
        self._notifier = notifier
        self._quotas = limits
        self._deep_enabled = deep_enabled

    async def CreateJob(self, request: intake_pb2.CreateJobRequest, context: Context) -> job_pb2.Job:
        user = await end_user(self._verifier)
        authorization.check_uploader(user)
        validation.short_texts(request)
        values = _columns(request, user) | {"deep_enabled": self._deep_enabled}
        async with self._database.transaction() as connection:
            session = await sessions.get_visible_for_share(connection, request.session_id, user)
            values |= {"id": uuid4(), "s3_key": jobs.video_key(session, uuid4())}
            job = await jobs.create(connection, session, values, commit=not self._quotas.is_limited)
            await quotas.check(connection, job, self._quotas, field="session_id", bytes_field="content_length")
        self._notifier.notify(job.id)
        return mapping.job(job)

    async def ConfirmUpload(
        self, request: intake_pb2.ConfirmUploadRequest, context: Context
    ) -> intake_pb2.ConfirmUploadResponse:
        validation.short_texts(request)
        async with self._database.transaction() as connection:
            job, actor = await self._owned(connection, request.job_id)
            if job.status == states.CANCELLED:
                raise jobs.wrong_upload_state(job)
            moved = job.status in states.UPLOADABLE
            if moved:
                jobs.check_uploadable(job)
                commit = job.status in states.IN_FLIGHT or not self._quotas.is_limited
                values = _verified(job, request) | {"acted_by": actor}
                job = await jobs.move(connection, job, states.QUEUED, commit=commit, **values)
                if not commit:
                    await quotas.check(connection, job, self._quotas, bytes_field="job_id")
        if moved:
            self._notifier.notify(job.id)
        return intake_pb2.ConfirmUploadResponse(job=mapping.job(job), moved=moved)

    async def FailUpload(self, request: intake_pb2.FailUploadRequest, context: Context) -> job_pb2.Job:
        async with self._database.transaction() as connection:
            job, actor = await self._owned(connection, request.job_id)
            if job.status not in states.UPLOADABLE:
                raise jobs.wrong_upload_state(job)
            failure = {
                "failure_code": validation.failure_code(request.failure_code),
                "error_message": sentence(request.error_message),
                "acted_by": actor,
            }
            job = await jobs.move(connection, job, states.FAILED, commit=True, **failure)
        self._notifier.notify(job.id)
        return mapping.job(job)

    async def GetUpload(self, request: intake_pb2.GetUploadRequest, context: Context) -> intake_pb2.Upload:
        user = await end_user(self._verifier)
        async with self._database.transaction() as connection:
            job = await jobs.get_visible(connection, request.job_id, user)
        return intake_pb2.Upload(job=mapping.job(job), upload_id=job.video.upload_id, trace_parent=job.trace_parent)

    async def RecordMultipart(self, request: intake_pb2.RecordMultipartRequest, context: Context) -> job_pb2.Job:
        validation.short_texts(request)
        async with self._database.transaction() as connection:
            job, _ = await self._owned(connection, request.job_id)
            jobs.check_uploadable(job)
            if job.video.etag:
                raise jobs.wrong_upload_state(job)
            if job.video.upload_id == request.instead_of:
                job = await jobs.write(connection, job, upload_id=request.upload_id)
        return mapping.job_with_upload_id(job)

    async def AbandonUpload(self, request: intake_pb2.AbandonUploadRequest, context: Context) -> job_pb2.Job:
        async with self._database.transaction() as connection:
            job, actor = await self._owned(connection, request.job_id)
            if job.video.etag or job.status not in states.UPLOADABLE | {states.CANCELLED}:
                raise errors.FailedPrecondition(
                    f"Cannot abort upload for job in status: {job.status}", reason="WRONG_STATE"
                )
            job = await cancellation.cancel(connection, job, actor)
        self._notifier.notify(job.id)
        return mapping.job(job)

    async def AuthorizeLaunch(
        self, request: intake_pb2.AuthorizeLaunchRequest, context: Context
    ) -> intake_pb2.AuthorizeLaunchResponse:
        async with self._database.transaction() as connection:
            job, launch = await launches.get_leased_for_update(
                connection, request.job_id, request.launch_no, request.lease
            )
            landmarks_key = await jobs.landmarks_key(connection, job)
        prefix = jobs.artifact_prefix(job, launch.launch_no)
        return intake_pb2.AuthorizeLaunchResponse(
            video=mapping.video(job.video), artifact_prefix=prefix, landmarks_key=landmarks_key
        )

    async def AuthorizeShare(
        self, request: intake_pb2.AuthorizeShareRequest, context: Context
    ) -> intake_pb2.AuthorizeShareResponse:
        return await share_service.read(self._database, request.secret)

    async def _owned(self, connection: Connection, job_id: str) -> tuple[Job, str]:
        """The job, locked, if the end user may change it; and that user, as rows keep them."""
        user = await end_user(self._verifier)
        return await jobs.get_visible_for_update(connection, job_id, user), authorization.actor(user)


async def end_user(verifier: Verifier) -> User:
    """The person or service for whom `upload` calls. It forwards their token, so that it cannot act for anyone else."""
    metadata = call.get().metadata
    user = act_on_behalf(await verifier.verify(metadata.get("crease-user", "")), metadata)
    if not isinstance(user, User):
        message = "crease-user must be the token of a person or a service"
        raise errors.PermissionDenied(message, reason="CALLER_NOT_ALLOWED")
    logs.bind(**audited(user, "user"))
    authorization.check_writer(user)
    return user


def _columns(request: intake_pb2.CreateJobRequest, user: User) -> dict[str, Any]:
    return {
        "sample_fps": validation.sample_fps(request.sample_fps),
        "include_frames": request.include_frames,
        "anonymous": request.anonymous,
        "accelerator": validation.accelerator(request.accelerator),
        "athlete_box": validation.athlete_box(request.athlete_box) if request.HasField("athlete_box") else None,
        "capture_fps": validation.capture_fps(request.capture_fps),
        "s3_bucket": request.s3_bucket,
        "content_type": request.content_type,
        "content_length": request.content_length,
        "sha256": request.sha256,
        "part_bytes": request.part_bytes,
        "created_by": authorization.actor(user),
        "request_id": validation.request_id(request.request_id),
    }


def _verified(job: Job, request: intake_pb2.ConfirmUploadRequest) -> dict[str, Any]:
    """The columns of a verified video, to which every later read is pinned. Results of another object are removed."""
    values: dict[str, Any] = {
        "etag": request.etag,
        "version_id": request.version_id,
        "content_length": request.content_length,
        "parts_sha256": request.parts_sha256,
        "upload_id": "",
        "sweep_at": None,
        **jobs.retry_values(job),
    }
    if request.etag != job.video.etag:
        values |= {"results": None, "results_stage": None, "level": "", "artifacts": Jsonb([])}
    return values
