"""Errors that a caller may see: one class per gRPC status. serving.py turns each into its status.

ServiceError
├── InvalidArgument    a field of the request is wrong; names the field              INVALID_ARGUMENT
├── Unauthenticated    no token, or an invalid one                                   UNAUTHENTICATED
├── PermissionDenied   the caller is known and not allowed                           PERMISSION_DENIED
├── NotFound           the resource does not exist                                   NOT_FOUND
├── AlreadyExists      the same id was used with other content                       ALREADY_EXISTS
├── FailedPrecondition the resource is in a state that does not allow it             FAILED_PRECONDITION
├── Aborted            another caller changed the resource since it was read         ABORTED
├── OutOfRange         the requested data are no longer stored                       OUT_OF_RANGE
├── ResourceExhausted  a quota, a rate or a time limit is exceeded                   RESOURCE_EXHAUSTED
├── Unavailable        a dependency is unavailable; a retry may succeed              UNAVAILABLE
└── Internal           a bug, or a refusal by a dependency                           INTERNAL
"""


class ServiceError(Exception):
    """`message`: a sentence for people. `reason`: a code for programs (google.rpc.ErrorInfo)."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason


class InvalidArgument(ServiceError):
    """`field`: the path of the wrong field in the request."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}", reason="INVALID_FIELD")
        self.field = field
        self.description = message


class Unauthenticated(ServiceError):
    def __init__(self, message: str) -> None:
        super().__init__(message, reason="UNAUTHENTICATED")


class PermissionDenied(ServiceError):
    pass


class NotFound(ServiceError):
    pass


class AlreadyExists(ServiceError):
    pass


class FailedPrecondition(ServiceError):
    pass


class Aborted(ServiceError):
    pass


class OutOfRange(ServiceError):
    """`after`: the position from which on everything is stored (google.rpc.ErrorInfo, metadata)."""

    def __init__(self, message: str, *, reason: str, after: str) -> None:
        super().__init__(message, reason=reason)
        self.after = after


class ResourceExhausted(ServiceError):
    pass


class Unavailable(ServiceError):
    """`retry_seconds`: how long to wait before a retry."""

    def __init__(self, message: str, *, reason: str, retry_seconds: float = 1.0) -> None:
        super().__init__(message, reason=reason)
        self.retry_seconds = retry_seconds


class Internal(ServiceError):
    pass
