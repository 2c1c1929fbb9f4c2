"""What a caller can be told: one class for each kind of fault; `serving.py` turns each into a gRPC status, once.

Fault
├── InvalidArgument    a field of the request is wrong; names the field              INVALID_ARGUMENT
├── Unauthenticated    no token, or one that proves nothing                          UNAUTHENTICATED
├── PermissionDenied   the caller is known and may not                               PERMISSION_DENIED
├── NotFound           there is no such thing                                        NOT_FOUND
├── AlreadyExists      the same id was used with other content                       ALREADY_EXISTS
├── FailedPrecondition the thing is not in a state that allows it                    FAILED_PRECONDITION
├── OutOfRange         what is asked for is no longer kept                           OUT_OF_RANGE
├── ResourceExhausted  the caller takes more than it may, or too long                RESOURCE_EXHAUSTED
├── Unavailable        something we need is away; the same call may succeed          UNAVAILABLE
└── Internal           our own fault                                                 INTERNAL
"""


class Fault(Exception):
    """`message` is a sentence for people, `reason` a word for programs (google.rpc.ErrorInfo)."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason


class InvalidArgument(Fault):
    """`field` is the path of the culprit in the request."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}", reason="INVALID_FIELD")
        self.field = field
        self.description = message


class Unauthenticated(Fault):
    def __init__(self, message: str) -> None:
        super().__init__(message, reason="UNAUTHENTICATED")


class PermissionDenied(Fault):
    pass


class NotFound(Fault):
    pass


class AlreadyExists(Fault):
    pass


class FailedPrecondition(Fault):
    pass


class OutOfRange(Fault):
    pass


class ResourceExhausted(Fault):
    pass


class Unavailable(Fault):
    """`retry_seconds` is how long to wait before the same call."""

    def __init__(self, message: str, *, reason: str, retry_seconds: float = 1.0) -> None:
        super().__init__(message, reason=reason)
        self.retry_seconds = retry_seconds


class Internal(Fault):
    pass
