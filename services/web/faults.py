"""What a request ends with instead of a page: a status and one sentence for the visitor."""

from http import HTTPStatus

import grpc

from services.clients import is_transient

TOO_LATE = "The minute to undo is over: it is deleted."


class PageError(Exception):
    """`status` is the HTTP status, `sentence` says what failed and what to do."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


class SignInRequired(PageError):
    """The visitor has no valid token."""

    def __init__(self, sentence: str) -> None:
        super().__init__(HTTPStatus.UNAUTHORIZED, sentence)


_STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.CONFLICT,
    grpc.StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    grpc.StatusCode.ABORTED: HTTPStatus.CONFLICT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
}


def of_undo(error: PageError) -> PageError:
    """What a failed undo says: what was deleted for good is not found."""
    return PageError(error.status, TOO_LATE) if error.status is HTTPStatus.NOT_FOUND else error


def of_call(error: grpc.RpcError) -> PageError:
    """The page's error for a failed call: the service's own sentence, where it sent one for people."""
    code = error.code()
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return SignInRequired("Your sign-in has expired.")
    if is_transient(error):
        sentence = "Crease is not answering at the moment. Try again in a few seconds."
        return PageError(HTTPStatus.SERVICE_UNAVAILABLE, sentence)
    status = _STATUSES.get(code, HTTPStatus.BAD_GATEWAY)
    return PageError(status, f"{(error.details() or 'The service failed').rstrip('.')}.")
