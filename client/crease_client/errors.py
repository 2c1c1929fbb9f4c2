"""The errors of the client.

CreaseError
├── RpcError            a service refused or failed a call; one class per gRPC status, with the ErrorInfo reason
│   ├── InvalidArgument, Unauthenticated, PermissionDenied, NotFound, AlreadyExists, FailedPrecondition
│   ├── Aborted, OutOfRange, ResourceExhausted, Unimplemented, Internal
│   └── Unavailable     the service cannot be reached or is slow: the same call may succeed later
├── S3Error             S3 did not take or deliver bytes
│   ├── S3Rejection     it rejects the same request again
│   └── S3Unavailable   the same transfer may succeed later
├── FileError           a local file cannot be read or written
│   └── TokenError      the file of the token
└── JobError            the job that was waited for ended without a result
    ├── JobFailed       `job.failure_code` says why
    └── JobCancelled
"""

from collections.abc import Iterable
from typing import Any, ClassVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from crease.jobs.v1.job_pb2 import Job
from crease_client.s3_errors import describe_reply


class CreaseError(Exception):
    """The text is a sentence for people, without a full stop."""


class RpcError(CreaseError):
    """A call failed.

    `reason`: the ErrorInfo reason, a member of `reasons.Reason` or newer; empty if the channel or a proxy failed the
    call. `field`: the path of the wrong field. `retry_seconds`: when the service expects a retry to succeed, or 0.
    `after`: for EVENTS_PURGED, the position from which on every event is kept.
    """

    code: ClassVar[grpc.StatusCode]

    def __init__(
        self, message: str, *, reason: str = "", field: str = "", retry_seconds: float = 0.0, after: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.field = field
        self.retry_seconds = retry_seconds
        self.after = after


class InvalidArgument(RpcError):
    code = grpc.StatusCode.INVALID_ARGUMENT


class Unauthenticated(RpcError):
    code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(RpcError):
    code = grpc.StatusCode.PERMISSION_DENIED


class NotFound(RpcError):
    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(RpcError):
    code = grpc.StatusCode.ALREADY_EXISTS


class FailedPrecondition(RpcError):
    code = grpc.StatusCode.FAILED_PRECONDITION


class Aborted(RpcError):
    code = grpc.StatusCode.ABORTED


class OutOfRange(RpcError):
    """A reader fell behind: events that it has not received are no longer kept. Those after `after` are."""

    code = grpc.StatusCode.OUT_OF_RANGE


class ResourceExhausted(RpcError):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unimplemented(RpcError):
    """The service is older than this call."""

    code = grpc.StatusCode.UNIMPLEMENTED


class Unavailable(RpcError):
    """Also where a server stopped before it answered: gRPC reports that as CANCELLED."""

    code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceeded(Unavailable):
    """No answer came in time; the call may have had its effect."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Internal(RpcError):
    """Also for every status that Crease does not send."""

    code = grpc.StatusCode.INTERNAL


_CLASSES = {kind.code: kind for kind in RpcError.__subclasses__()} | {
    DeadlineExceeded.code: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Unavailable,
}


class S3Error(CreaseError):
    """A transfer to or from S3 failed."""


class S3Rejection(S3Error):
    """S3 rejected a request, and rejects the same request again."""

    def __init__(self, subject: str, status: int, body: bytes) -> None:
        super().__init__(f"S3 rejected {subject}: {describe_reply(status, body)}")
        self.status = status
        # AWS answers AccessDenied with this message, other servers ExpiredToken or RequestExpired.
        self.is_expired = status in (400, 403) and b"expired" in body.lower()


class S3Unavailable(S3Error):
    """S3 failed after every attempt: the same transfer may succeed later."""


class FileError(CreaseError):
    """A local file cannot be read or written."""


class TokenError(FileError):
    """The caller's token cannot be read."""


class JobError(CreaseError):
    """A job ended without a result."""

    def __init__(self, message: str, job: Job) -> None:
        super().__init__(message)
        self.job = job


class JobFailed(JobError):
    """`job.failure_code` is for programs, `job.error_message` for people."""


class JobCancelled(JobError):
    """Somebody cancelled the job."""


def from_rpc_error(error: grpc.RpcError) -> RpcError:
    """The error of a failed call."""
    code = error.code()
    kind = _CLASSES.get(code, Internal)
    message = (error.details() or str(code.value[1])).rstrip(".")
    return kind(message, **_read_details(_details(error)))


def reason(error: grpc.RpcError) -> str:
    """The ErrorInfo reason of an error; empty if it has none."""
    return str(_read_details(_details(error)).get("reason", ""))


def _details(error: grpc.RpcError) -> Iterable[AnyMessage]:
    status: Status | None = rpc_status.from_call(error)
    return status.details if status else ()


def _read_details(details: Iterable[AnyMessage]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in details:
        if detail.Unpack(info):
            found |= {"reason": str(info.reason), "after": str(info.metadata.get("after", ""))}
        elif detail.Unpack(bad):
            found["field"] = str(bad.field_violations[0].field) if bad.field_violations else ""
        elif detail.Unpack(retry):
            found["retry_seconds"] = float(retry.retry_delay.ToTimedelta().total_seconds())
    return found
