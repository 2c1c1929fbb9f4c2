"""IntakeService: how `upload`, which holds S3 and no rows, makes and moves them."""

from typing import Any
from uuid import uuid4

from psycopg.types.json import Jsonb

from crease.jobs.v1 import job_pb2, job_pb2_grpc
from services import errors
from services.auth import Person, Verifier
from services.jobs.domain import authorization, states
from services.jobs.notifier import Bell
from services.jobs.rpc import mapping, validation
from services.jobs.store import cancellation, jobs, launches, quotas, sessions
from services.jobs.store.database import Connection, Database, Row
from services.serving import Context, call

# Only from these can an upload be completed; what comes later has it already.
_OPEN = (states.AWAITING_UPLOAD, states.FAILED)


class IntakeService(job_pb2_grpc.IntakeServiceServicer):
    def __init__(
        self, database: Database, verifier: Verifier, bell: Bell, allowed: quotas.Quotas, *, deep_enabled: bool
    ) -> None:
        self._database = database
        self._verifier = verifier
        self._bell = bell
        self._quotas = allowed
        self._deep_enabled = deep_enabled

    async def CreateJob(self, request: job_pb2.CreateJobRequest, context: Context) -> job_pb2.Job:
        person = await person_behind(self._verifier)
        authorization.check_uploader(person)
        values = _values(request, person) | {"deep_enabled": self._deep_enabled}
        async with self._database.transaction() as connection:
            session = await sessions.hold_for(connection, request.session_id, person)
            values |= {"id": uuid4(), "s3_key": jobs.video_key(session, uuid4())}
            job = await jobs.create(connection, session, values, last=not self._quotas.any)
            await quotas.check(connection, job, self._quotas)
        self._bell.ring(job["id"])
        return mapping.job(job)

    async def ConfirmUpload(
        self, request: job_pb2.ConfirmUploadRequest, context: Context
    ) -> job_pb2.ConfirmUploadResponse:
        async with self._database.transaction() as connection:
            job = await self._owned(connection, request.job_id)
            if job["status"] == states.CANCELLED:
                raise _wrong_state(job)
            moved = job["status"] in _OPEN
            if moved:
                jobs.check_open(job)
                job = await jobs.move(connection, job, states.QUEUED, last=True, **_pinned(job, request))
        if moved:
            self._bell.ring(job["id"])
        return job_pb2.ConfirmUploadResponse(job=mapping.job(job), moved=moved)

    async def FailUpload(self, request: job_pb2.FailUploadRequest, context: Context) -> job_pb2.Job:
        async with self._database.transaction() as connection:
            job = await self._owned(connection, request.job_id)
            if job["status"] not in _OPEN:
                raise _wrong_state(job)
            why = {"failure_code": request.failure_code, "error_message": request.error_message}
            job = await jobs.move(connection, job, states.FAILED, last=True, **why)
        self._bell.ring(job["id"])
        return mapping.job(job)

    async def RecordMultipart(self, request: job_pb2.RecordMultipartRequest, context: Context) -> job_pb2.Job:
        async with self._database.transaction() as connection:
            job = await self._owned(connection, request.job_id)
            jobs.check_open(job)
            if job["etag"]:
                raise _wrong_state(job)
            if job["upload_id"] == request.instead_of:
                job = await jobs.write(connection, job, upload_id=request.upload_id)
        return mapping.job(job)

    async def AbandonUpload(self, request: job_pb2.AbandonUploadRequest, context: Context) -> job_pb2.Job:
        async with self._database.transaction() as connection:
            job = await self._owned(connection, request.job_id)
            if job["etag"] or job["status"] not in (*_OPEN, states.CANCELLED):
                raise errors.FailedPrecondition(
                    f"Cannot abort upload for job in status: {job['status']}", reason="WRONG_STATE"
                )
            job = await cancellation.cancel(connection, job)
        self._bell.ring(job["id"])
        return mapping.job(job)

    async def AuthorizeLaunch(
        self, request: job_pb2.AuthorizeLaunchRequest, context: Context
    ) -> job_pb2.AuthorizeLaunchResponse:
        async with self._database.transaction() as connection:
            job, launch = await launches.hold(connection, request.job_id, request.launch_no, request.lease)
        prefix = jobs.artifact_prefix(job, launch["launch_no"])
        return job_pb2.AuthorizeLaunchResponse(video=mapping.video(job), artifact_prefix=prefix)

    async def _owned(self, connection: Connection, job_id: str) -> Row:
        """The job, locked, of the person behind the call."""
        return await jobs.hold_for(connection, job_id, await person_behind(self._verifier))


async def person_behind(verifier: Verifier) -> Person:
    """The person for whom `upload` calls: it shows their own token, so that it can't invent one."""
    behind = await verifier.verify(call.get().metadata.get("crease-user", ""))
    if not isinstance(behind, Person):
        raise errors.PermissionDenied("crease-user must be a person's token", reason="CALLER_NOT_ALLOWED")
    return behind


def _wrong_state(job: Row) -> errors.FailedPrecondition:
    return errors.FailedPrecondition(f"Cannot complete upload for job in status: {job['status']}", reason="WRONG_STATE")


def _values(request: job_pb2.CreateJobRequest, person: Person) -> dict[str, Any]:
    box = request.athlete_box
    return {
        "sample_fps": validation.sample_fps(request.sample_fps),
        "include_frames": request.include_frames,
        "anonymous": request.anonymous,
        "accelerator": validation.accelerator(request.accelerator),
        "athlete_box": {name.name: value for name, value in box.ListFields()}
        if request.HasField("athlete_box")
        else None,
        "s3_bucket": request.s3_bucket,
        "content_type": request.content_type,
        "content_length": request.content_length,
        "sha256": request.sha256,
        "part_bytes": request.part_bytes,
        "created_by": person.subject,
        "request_id": validation.request_id(request.request_id),
    }


def _pinned(job: Row, request: job_pb2.ConfirmUploadRequest) -> dict[str, Any]:
    """The snapshot that every later read is held to. Results of another object don't outlive it."""
    values: dict[str, Any] = {
        "etag": request.etag,
        "version_id": request.version_id,
        "content_length": request.content_length,
        "parts_sha256": request.parts_sha256,
        "upload_id": "",
        "sweep_at": None,
        **jobs.afresh(job),
    }
    if request.etag != job["etag"]:
        values |= {"results": None, "results_stage": None, "artifacts": Jsonb([])}
    return values
