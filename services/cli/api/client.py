"""Calls to the services: channels, retries, and the meaning of a gRPC error for the user."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc

from crease.jobs.v1 import job_pb2_grpc, session_pb2_grpc
from crease.upload.v1 import upload_pb2_grpc
from services import clients
from services.cli.api import endpoints
from services.cli.api.endpoints import Endpoints, StateDir
from services.cli.errors import UNAVAILABLE, USAGE, CommandError
from services.clients import open_channel

CALL_SECONDS = 20.0
# How long a call is retried while a service is unavailable; a restart takes less.
PATIENCE_SECONDS = 15.0
RETRY_SECONDS = 0.5

Reply = TypeVar("Reply")


@dataclass(frozen=True)
class Services:
    """One stub per service; every call goes through `call` or `stream`."""

    sessions: session_pb2_grpc.SessionServiceStub
    jobs: job_pb2_grpc.JobServiceStub
    uploads: upload_pb2_grpc.UploadServiceStub
    token_file: Path
    # Empty for a cluster.
    state_folder: str = ""
    # Distinguishes these services and this user from others.
    identity: str = ""

    def call(
        self,
        method: Callable[..., Reply],
        request: Any,
        *,
        seconds: float = CALL_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> Reply:
        """Calls once, and again while the service is unavailable. Raises CommandError."""
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                return method(request, timeout=seconds, metadata=self.credentials())
            except grpc.RpcError as error:
                if not clients.is_transient(error) or time.monotonic() > deadline:
                    raise to_command_error(error) from error
            self.check_laptop_is_up()
            time.sleep(RETRY_SECONDS)

    def stream(self, method: Callable[..., Iterator[Reply]], request: Any) -> Iterator[Reply]:
        """Opens a stream. The iterator raises grpc.RpcError; the caller decides whether to open it again."""
        return method(request, metadata=self.credentials())

    def check_laptop_is_up(self) -> None:
        """Raises CommandError if the `crease up` behind the services has ended: waiting is useless then."""
        if self.state_folder and not endpoints.is_up(StateDir(Path(self.state_folder))):
            raise CommandError("`crease up` has ended; start it again, and it continues queued jobs.", UNAVAILABLE)

    def credentials(self) -> tuple[tuple[str, str]]:
        """The call metadata that carries the user's token. Raises CommandError."""
        try:
            return (clients.bearer(self.token_file),)
        except OSError as error:
            raise CommandError(f"Your token cannot be read ({self.token_file}): {error.strerror}.", USAGE) from None


@contextlib.contextmanager
def connect(found: Endpoints) -> Iterator[Services]:
    """Opens the channels to the services and closes them after the block."""
    with open_channel(found.jobs_endpoint) as jobs, open_channel(found.upload_endpoint) as upload:
        yield Services(
            sessions=session_pb2_grpc.SessionServiceStub(jobs),
            jobs=job_pb2_grpc.JobServiceStub(jobs),
            uploads=upload_pb2_grpc.UploadServiceStub(upload),
            token_file=Path(found.token_file),
            state_folder=found.state_folder,
            identity=found.state_folder or f"{found.jobs_endpoint} {found.token_file}",
        )


def to_command_error(error: grpc.RpcError) -> CommandError:
    """Turns a gRPC error into a sentence for the user: the service's own message wherever it sent one."""
    sentence = (error.details() or str(error.code().value[1])).rstrip(".")
    match error.code():
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
            # Without an ErrorInfo reason the channel wrote the message: addresses and errno, for engineers.
            cause = f" ({sentence})" if clients.reason(error) else ""
            advice = "Check that `crease up` is running or, for a cluster, that its endpoints are right."
            return CommandError(f"The services are unavailable{cause}. {advice}", UNAVAILABLE)
        case grpc.StatusCode.NOT_FOUND | grpc.StatusCode.FAILED_PRECONDITION | grpc.StatusCode.ALREADY_EXISTS:
            return CommandError(f"{sentence}.", is_refusal=True)
        case grpc.StatusCode.UNAUTHENTICATED:
            return CommandError(f"The service rejected your token: {sentence}.")
        case grpc.StatusCode.INVALID_ARGUMENT:
            return CommandError(f"{sentence}.", USAGE)
        case grpc.StatusCode.INTERNAL | grpc.StatusCode.UNKNOWN:
            return CommandError(f"The service failed: {sentence}.")
        case _:
            return CommandError(f"{sentence}.")
