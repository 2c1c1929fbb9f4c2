"""Calls of upload to jobs. Upload may change no job by itself: each call carries its user's token or a lease.

GetJob                                      authorization: the user's
CreateJob, ConfirmUpload, FailUpload,       authorization: upload's, crease-user: the user's
RecordMultipart, AbandonUpload, ListVideos
AuthorizeLaunch, AuthorizeShare             authorization: upload's, with the secret in the request
ClaimCleanup, CompleteCleanup               authorization: upload's

The user is a person or a service. For a service, `crease-on-behalf-of` is passed on with its token.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from crease.jobs.v1 import job_pb2, job_pb2_grpc, share_pb2, share_pb2_grpc, sweep_pb2, sweep_pb2_grpc
from crease_client.calls import ON_BEHALF_OF
from services import clients, errors, logs, traces
from services.clients import bearer
from services.serving import call

PAGE = 200
Reply = TypeVar("Reply")

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
        self._intake = job_pb2_grpc.IntakeServiceStub(channel)
        self._shares = share_pb2_grpc.ShareServiceStub(channel)
        self._sweep = sweep_pb2_grpc.SweepServiceStub(channel)
        self._token_file = token_file
        self._timeout = timeout_seconds

    async def get(self, job_id: str) -> job_pb2.Job:
        metadata = (("authorization", _authorization()), *_on_behalf())
        return await self._request(self._jobs.GetJob, job_pb2.GetJobRequest(job_id=job_id), metadata)

    async def create(self, request: job_pb2.CreateJobRequest) -> job_pb2.Job:
        return await self._request(self._intake.CreateJob, request, self._for_user())

    async def confirm(self, request: job_pb2.ConfirmUploadRequest) -> job_pb2.ConfirmUploadResponse:
        return await self._request(self._intake.ConfirmUpload, request, self._for_user())

    async def fail(self, request: job_pb2.FailUploadRequest) -> job_pb2.Job:
        return await self._request(self._intake.FailUpload, request, self._for_user())

    async def record_multipart(self, job_id: str, upload_id: str, *, instead_of: str) -> job_pb2.Job:
        request = job_pb2.RecordMultipartRequest(job_id=job_id, upload_id=upload_id, instead_of=instead_of)
        return await self._request(self._intake.RecordMultipart, request, self._for_user())

    async def abandon(self, job_id: str) -> job_pb2.Job:
        request = job_pb2.AbandonUploadRequest(job_id=job_id)
        return await self._request(self._intake.AbandonUpload, request, self._for_user())

    async def list_videos(self, bucket: str) -> AsyncIterator[sweep_pb2.KeptVideo]:
        """All videos that S3 may hold objects of, in the byte order of their keys."""
        request = sweep_pb2.ListVideosRequest(s3_bucket=bucket, page_size=PAGE)
        while True:
            page = await self._request(self._sweep.ListVideos, request, self._for_user())
            for video in page.videos:
                yield video
            if not page.videos:
                return
            request.after_key, request.after_job_id = page.videos[-1].s3_key, page.videos[-1].job_id

    async def claim_cleanup(self, limit: int) -> list[sweep_pb2.Cleanup]:
        metadata = (bearer(self._token_file),)
        request = sweep_pb2.ClaimCleanupRequest(limit=limit, artifacts=True)
        return list((await self._request(self._sweep.ClaimCleanup, request, metadata)).cleanups)

    async def complete_cleanup(self, cleanup: sweep_pb2.Cleanup, again_in: timedelta | None) -> None:
        request = sweep_pb2.CompleteCleanupRequest(job_id=cleanup.job_id, launches=cleanup.launches)
        if again_in is not None:
            request.again_in.FromTimedelta(again_in)
        await self._request(self._sweep.CompleteCleanup, request, (bearer(self._token_file),))

    async def authorize(self, request: job_pb2.AuthorizeLaunchRequest) -> job_pb2.AuthorizeLaunchResponse:
        metadata = (bearer(self._token_file),)
        return await self._request(self._intake.AuthorizeLaunch, request, metadata)

    async def authorize_share(self, secret: str) -> share_pb2.AuthorizeShareResponse:
        request = share_pb2.AuthorizeShareRequest(secret=secret)
        return await self._request(self._shares.AuthorizeShare, request, (bearer(self._token_file),))

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
    if clients.is_transient(error) or error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
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
