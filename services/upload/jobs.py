"""What `upload` asks of `jobs`. It has no rights over jobs of its own: the person's token goes along and decides.

GetJob                                 authorization: the person's
CreateJob, ConfirmUpload, FailUpload   authorization: upload's, crease-user: the person's
AuthorizeLaunch                        authorization: upload's; the lease is in the request and decides
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from crease.jobs.v1 import job_pb2, job_pb2_grpc
from services import clients, errors
from services.auth import bearer
from services.serving import call

# A refusal by `jobs` is told to the client as it is.
RELAYED: dict[grpc.StatusCode, Callable[..., errors.Fault]] = {
    grpc.StatusCode.PERMISSION_DENIED: errors.Denied,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.Exists,
    grpc.StatusCode.FAILED_PRECONDITION: errors.Refused,
    grpc.StatusCode.INTERNAL: errors.Broken,
}


class Jobs:
    """Every method raises grpc.aio.AioRpcError; `translate` says what it means."""

    def __init__(self, channel: grpc.aio.Channel, token_file: Path, timeout_seconds: float) -> None:
        self._jobs = job_pb2_grpc.JobServiceStub(channel)
        self._intake = job_pb2_grpc.IntakeServiceStub(channel)
        self._token_file = token_file
        self._timeout = timeout_seconds

    async def get(self, job_id: str) -> job_pb2.Job:
        metadata = (("authorization", _authorization()),)
        return await self._jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id), metadata=metadata, timeout=self._timeout)

    async def create(self, request: job_pb2.CreateJobRequest) -> job_pb2.Job:
        return await self._intake.CreateJob(request, metadata=self._for_person(), timeout=self._timeout)

    async def confirm(self, request: job_pb2.ConfirmUploadRequest) -> job_pb2.ConfirmUploadResponse:
        return await self._intake.ConfirmUpload(request, metadata=self._for_person(), timeout=self._timeout)

    async def fail(self, request: job_pb2.FailUploadRequest) -> job_pb2.Job:
        return await self._intake.FailUpload(request, metadata=self._for_person(), timeout=self._timeout)

    async def authorize(self, request: job_pb2.AuthorizeLaunchRequest) -> job_pb2.AuthorizeLaunchResponse:
        metadata = (bearer(self._token_file),)
        return await self._intake.AuthorizeLaunch(request, metadata=metadata, timeout=self._timeout)

    def _for_person(self) -> tuple[tuple[str, str], ...]:
        token = _authorization().partition(" ")[2]
        return (bearer(self._token_file), ("crease-user", token))


def _authorization() -> str:
    """What the person who calls showed to us."""
    return call.get().metadata["authorization"]


def translate(error: Exception) -> errors.Fault | None:
    """The fault that an answer of `jobs` means to our caller; None for what is our own fault."""
    if not isinstance(error, grpc.aio.AioRpcError):
        return None
    message, reason = error.details() or "", clients.reason(error)
    if clients.is_passing(error) or error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
        if reason:
            return errors.Away(message, reason=reason)
        return errors.Away("The service that keeps the jobs is away; call again", reason="JOBS_AWAY")
    if error.code() == grpc.StatusCode.UNAUTHENTICATED:
        return errors.Unauthenticated(message)
    if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
        return _invalid(error)
    relayed = RELAYED.get(error.code())
    return relayed(message, reason=reason) if relayed else None


def _invalid(error: grpc.aio.AioRpcError) -> errors.Fault | None:
    status: Any = rpc_status.from_call(error)
    bad = error_details_pb2.BadRequest()
    for detail in status.details if status else ():
        if detail.Unpack(bad) and bad.field_violations:
            return errors.Invalid(bad.field_violations[0].field, bad.field_violations[0].description)
    return None
