"""The client's side of the services: where they are, who we are, and what their refusals mean to the user."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import grpc

from crease.jobs.v1 import job_pb2_grpc, session_pb2_grpc
from crease.upload.v1 import upload_pb2_grpc
from services import auth, clients
from services.cli.errors import AWAY, USAGE, Trouble
from services.cli.laptop import state_dir
from services.cli.laptop.state_dir import Client, Laptop
from services.clients import open_channel

CALL_SECONDS = 20.0
# How long a service may stay away, its restart included, before we give up.
PATIENCE_SECONDS = 15.0
NAMES = {
    "CREASE_JOBS_ENDPOINT": "jobs_endpoint",
    "CREASE_UPLOAD_ENDPOINT": "upload_endpoint",
    "CREASE_TOKEN_FILE": "token_file",
}

Reply = TypeVar("Reply")


def find(environment: Mapping[str, str], folder: Path) -> Client:
    """The services that the environment names, else those of the `crease up` on this folder. Raises Trouble."""
    named = {field: environment[name] for name, field in NAMES.items() if environment.get(name)}
    if not named:
        return state_dir.find(Laptop(folder.expanduser().resolve()))
    if missing := [name for name, field in NAMES.items() if field not in named]:
        raise Trouble(f"To talk to a cluster, {' and '.join(missing)} must be set too.", USAGE)
    return Client(named["jobs_endpoint"], named["upload_endpoint"], named["token_file"])


def is_told(environment: Mapping[str, str]) -> bool:
    """Whether the environment says where the services are."""
    return any(environment.get(name) for name in NAMES if name != "CREASE_TOKEN_FILE")


def as_admin(found: Client) -> Client:
    """On a laptop with the superuser's token; to a cluster the user's own must be one."""
    if not found.state_folder:
        return found
    return replace(found, token_file=str(Laptop(Path(found.state_folder)).token_file("admin")))


@dataclass(frozen=True)
class Services:
    """One stub a service; every call goes through `call` or `stream`."""

    sessions: session_pb2_grpc.SessionServiceStub
    jobs: job_pb2_grpc.JobServiceStub
    uploads: upload_pb2_grpc.UploadServiceStub
    token_file: Path
    # Empty where they are a cluster's.
    state_folder: str = ""
    # Tells these services, for this user, from others.
    whose: str = ""

    def call(
        self,
        method: Callable[..., Reply],
        request: Any,
        *,
        seconds: float = CALL_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> Reply:
        """One call, made again while the service is away. Raises Trouble."""
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                return method(request, timeout=seconds, metadata=self.proof())
            except grpc.RpcError as error:
                if not clients.is_transient(error) or time.monotonic() > deadline:
                    raise meaning(error) from error
            self.check_up()
            time.sleep(0.5)

    def stream(self, method: Callable[..., Iterator[Reply]], request: Any) -> Iterator[Reply]:
        """A stream until it ends or breaks; raises grpc.RpcError, for the caller to judge."""
        return method(request, metadata=self.proof())

    def check_up(self) -> None:
        """Raises Trouble when it is of no use to wait: the `crease up` behind the services has ended."""
        if self.state_folder and not state_dir.is_up(Laptop(Path(self.state_folder))):
            raise Trouble("`crease up` has ended; what was queued goes on when it runs again.", AWAY)

    def proof(self) -> tuple[tuple[str, str]]:
        """The metadata by which a call shows whose it is. Raises Trouble."""
        try:
            return (auth.bearer(self.token_file),)
        except OSError as error:
            raise Trouble(f"Your token cannot be read ({self.token_file}): {error.strerror}.", USAGE) from None


@contextlib.contextmanager
def connect(client: Client) -> Iterator[Services]:
    """The services, for as long as the block runs."""
    with open_channel(client.jobs_endpoint) as jobs, open_channel(client.upload_endpoint) as upload:
        yield Services(
            sessions=session_pb2_grpc.SessionServiceStub(jobs),
            jobs=job_pb2_grpc.JobServiceStub(jobs),
            uploads=upload_pb2_grpc.UploadServiceStub(upload),
            token_file=Path(client.token_file),
            state_folder=client.state_folder,
            whose=client.state_folder or f"{client.jobs_endpoint} {client.token_file}",
        )


def meaning(error: grpc.RpcError) -> Trouble:
    """What a refusal means to the user: the service's own sentence wherever it has one."""
    sentence = (error.details() or str(error.code().value[1])).rstrip(".")
    match error.code():
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
            # Without a reason it is the channel that speaks, in words for engineers.
            said = f" ({sentence})" if clients.reason(error) else ""
            advice = "Does `crease up` still run or, for a cluster, are its endpoints right?"
            return Trouble(f"The services do not answer{said}. {advice}", AWAY)
        case grpc.StatusCode.NOT_FOUND | grpc.StatusCode.FAILED_PRECONDITION | grpc.StatusCode.ALREADY_EXISTS:
            return Trouble(f"{sentence}.", is_refusal=True)
        case grpc.StatusCode.UNAUTHENTICATED:
            return Trouble(f"Your token was not accepted: {sentence}.")
        case grpc.StatusCode.INVALID_ARGUMENT:
            return Trouble(f"{sentence}.", USAGE)
        case grpc.StatusCode.INTERNAL | grpc.StatusCode.UNKNOWN:
            return Trouble(f"The service failed: {sentence}.")
        case _:
            return Trouble(f"{sentence}.")
