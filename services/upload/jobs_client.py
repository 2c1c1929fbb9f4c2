"""Calls of upload to jobs. Upload may change no job by itself: each call carries its user's token or a lease.

GetJob                                      authorization: the user's
CreateJob, GetUpload, ConfirmUpload,        authorization: upload's, crease-user: the user's
FailUpload, RecordMultipart, AbandonUpload,
ListVideos
AuthorizeLaunch, AuthorizeShare             authorization: upload's, with the secret in the request
ClaimCleanup, CompleteCleanup               authorization: upload's

The user is a person or a service. For a service, `crease-on-behalf-of` is passed on with its token.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import grpc
import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from crease.cleanup.v1 import cleanup_pb2, cleanup_pb2_grpc
from crease.jobs.v1 import intake_pb2, intake_pb2_grpc, job_pb2, job_pb2_grpc
from crease_client.calls import ON_BEHALF_OF
from services import clients, errors, logs, traces
from services.clients import bearer
from services.serving import call

PAGE = 200
Reply = TypeVar("Reply")

# Beside transient ones: a call that `jobs` of the last release lacks succeeds when the upgrade is complete.
PASSING = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED)
# Errors of jobs that upload passes on unchanged.
RELAYED: dict[grpc.StatusCode, Callable[..., errors.ServiceError]] = {
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.INTERNAL: errors.Internal,
}


class Jobs:
    """Every method raises grpc.aio.AioRpcError; `translate` turns it into an error for the caller."""

    def __init__(self, channel: grpc.aio.Channel, token_file: Path, timeout_seconds: float) -> None:
        self._jobs = job_pb2_grpc.JobServiceStub(channel)
        self._intake = intake_pb2_grpc.IntakeServiceStub(channel)
        self._cleanup = cleanup_pb2_grpc.CleanupServiceStub(channel)
        self._token_file = token_file
        self._timeout = timeout_seconds

    async def get(self, job_id: str) -> job_pb2.Job:
        metadata = (("authorization", _authorization()), *_on_behalf())
        return await self._request(self._jobs.GetJob, job_pb2.GetJobRequest(job_id=job_id), metadata)

    async def get_upload(self, job_id: str) -> intake_pb2.Upload:
        """A job with the id of its multipart upload and its trace."""
        request = intake_pb2.GetUploadRequest(job_id=job_id)
        try:
            return await self._request(self._intake.GetUpload, request, self._for_user())
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNIMPLEMENTED:
                raise
        # During an upgrade, `jobs` of 0.2.0 has both in the job. Remove with the next release.
        job = await self.get(job_id)
        return intake_pb2.Upload(job=job, upload_id=job.video.upload_id, trace_parent=job.trace_parent)

    async def create(self, request: intake_pb2.CreateJobRequest) -> job_pb2.Job:
        return await self._request(self._intake.CreateJob, request, self._for_user())

    async def confirm(self, request: intake_pb2.ConfirmUploadRequest) -> intake_pb2.ConfirmUploadResponse:
        return await self._request(self._intake.ConfirmUpload, request, self._for_user())

    async def fail(self, request: intake_pb2.FailUploadRequest) -> job_pb2.Job:
        return await self._request(self._intake.FailUpload, request, self._for_user())

    async def record_multipart(self, job_id: str, upload_id: str, *, instead_of: str) -> None:
        request = intake_pb2.RecordMultipartRequest(job_id=job_id, upload_id=upload_id, instead_of=instead_of)
        await self._request(self._intake.RecordMultipart, request, self._for_user())

    async def abandon(self, job_id: str) -> job_pb2.Job:
        request = intake_pb2.AbandonUploadRequest(job_id=job_id)
        return await self._request(self._intake.AbandonUpload, request, self._for_user())

    async def list_videos(self, bucket: str, after: str = "") -> AsyncIterator[cleanup_pb2.KeptVideo]:
        """All videos that S3 may hold objects of and whose keys come after `after`, in the byte order of their keys."""
        request = cleanup_pb2.ListVideosRequest(s3_bucket=bucket, page_size=PAGE)
        if after:
            request.after_key, request.after_job_id = after, str(UUID(int=0))
        while True:
            page = await self._request(self._cleanup.ListVideos, request, self._for_user())
            for video in page.videos:
                yield video
            if not page.videos:
                return
            request.after_key, request.after_job_id = page.videos[-1].s3_key, page.videos[-1].job_id

    async def claim_cleanup(self, limit: int) -> list[cleanup_pb2.Cleanup]:
        metadata = (bearer(self._token_file),)
        request = cleanup_pb2.ClaimCleanupRequest(limit=limit, artifacts=True)
        return list((await self._request(self._cleanup.ClaimCleanup, request, metadata)).cleanups)

    async def complete_cleanup(self, cleanup: cleanup_pb2.Cleanup, again_in: timedelta | None) -> None:
        request = cleanup_pb2.CompleteCleanupRequest(job_id=cleanup.job_id, launches=cleanup.launches)
        if again_in is not None:
            request.again_in.FromTimedelta(again_in)
        await self._request(self._cleanup.CompleteCleanup, request, (bearer(self._token_file),))

    async def authorize(self, request: intake_pb2.AuthorizeLaunchRequest) -> intake_pb2.AuthorizeLaunchResponse:
        metadata = (bearer(self._token_file),)
        return await self._request(self._intake.AuthorizeLaunch, request, metadata)

    async def authorize_share(self, secret: str) -> intake_pb2.AuthorizeShareResponse:
        request = intake_pb2.AuthorizeShareRequest(secret=secret)
        return await self._request(self._intake.AuthorizeShare, request, (bearer(self._token_file),))

    async def _request(self, call: Callable[..., Awaitable[Reply]], request: Any, metadata: tuple[Any, ...]) -> Reply:
        began = time.monotonic()
        try:
            return await call(request, metadata=metadata + traces.metadata(), timeout=self._timeout)
        finally:
            logs.add_duration("jobs_ms", time.monotonic() - began)

    def _for_user(self) -> tuple[tuple[str, str], ...]:
        token = _authorization().partition(" ")[2]
        return (bearer(self._token_file), ("crease-user", token), *_on_behalf())


def _authorization() -> str:
    """The authorization of the current call."""
    return call.get().metadata["authorization"]


def _on_behalf() -> tuple[tuple[str, str], ...]:
    """The owner for whom the caller calls, where it names one."""
    owner = call.get().metadata.get(ON_BEHALF_OF)
    return ((ON_BEHALF_OF, owner),) if owner else ()


def translate(error: Exception) -> errors.ServiceError | None:
    """The error for our caller; None if the exception is a bug of ours."""
    if not isinstance(error, grpc.aio.AioRpcError):
        return None
    message, reason = error.details() or "", clients.reason(error)
    if clients.is_transient(error) or error.code() in PASSING:
        if reason:
            return errors.Unavailable(message, reason=reason)
        return errors.Unavailable("The jobs service is unavailable; call again", reason="JOBS_AWAY")
    if error.code() == grpc.StatusCode.UNAUTHENTICATED:
        return errors.Unauthenticated(message)
    if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
        return _invalid(error)
    relayed = RELAYED.get(error.code())
    return relayed(message, reason=reason) if relayed else None


def _invalid(error: grpc.aio.AioRpcError) -> errors.ServiceError | None:
    status: Any = rpc_status.from_call(error)
    bad = error_details_pb2.BadRequest()
    for detail in status.details if status else ():
        if detail.Unpack(bad) and bad.field_violations:
            return errors.InvalidArgument(bad.field_violations[0].field, bad.field_violations[0].description)
    return None
